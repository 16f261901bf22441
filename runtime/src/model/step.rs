//! What the blocks of a forward pass are written in: operations on one step's memory.

use crate::batch::BatchBuffers;
use crate::device::{Buffer, Device, DeviceError};
use crate::model::activations::Activations;
use crate::model::cache::Cache;
use crate::model::config::ModelConfig;
use crate::model::experts::Experts;
use crate::model::linear::Linear;
use crate::model::norm::{HeadNorms, Norm};
use crate::numerics::Form;
use crate::ops::{self, Addend, AttentionLayer, RopeTable};
use crate::products::Products;
use crate::rows::Rows;

/// What the blocks of a forward pass work with.
pub(super) struct Step<'a> {
    pub(super) device: &'a Device,
    pub(super) products: &'a Products,
    pub(super) config: &'a ModelConfig,
    pub(super) rope: &'a RopeTable,
    pub(super) batch: &'a BatchBuffers,
    pub(super) act: &'a Activations,
    pub(super) cache: &'a Cache,
}

type Done = Result<(), DeviceError>;

impl<'a> Step<'a> {
    /// Tokens that are computed.
    pub(super) fn tokens(&self) -> usize {
        self.batch.loaded().tokens
    }

    /// Adds to the residual stream, and leaves its norm in `normed`, in the form that `next` multiplies.
    pub(super) fn norm(&self, added: Option<Addend<'_>>, norm: &Norm, next: &Linear) -> Done {
        let Activations { x, normed, .. } = self.act;
        ops::norm(self.device, x, added, None, norm, self.tokens(), (normed, next.form()))
    }

    /// Leaves the sums of rows `x` with `w` in `sums`. What comes back is for those that are added to the residual stream.
    pub(super) fn multiply(
        &self,
        w: &'a Linear,
        x: &'a Rows,
        sums: &'a Buffer<f32>,
    ) -> Result<Addend<'a>, DeviceError> {
        let tokens = self.tokens();
        ops::multiply(self.device, self.products, w, x, tokens, sums)?;
        Ok(Addend::Product { w, x, sums, tokens })
    }

    /// From the sums of Q, K and V, which `qkv` left in `wide`, to the queries and the cache of a layer.
    pub(super) fn rope(&self, qkv: &Linear, norms: Option<&HeadNorms>, layer: usize) -> Done {
        let Self { device, config, rope, batch, act, cache, .. } = self;
        ops::rope(device, rope, norms, config.heads, batch, (qkv, &act.normed, &act.wide), cache, layer)
    }

    /// What the queries find in the cache of a layer goes to `attended`, in the form that `next` multiplies.
    pub(super) fn attention(&self, layer: usize, sinks: Option<&Buffer<f32>>, next: &Linear) -> Done {
        let Self { device, config, batch, act, cache, .. } = self;
        let layer = AttentionLayer { index: layer, window: config.window_of(layer), sinks };
        ops::attention(device, config.heads, batch, cache, layer, (&act.attended, next.form()))
    }

    /// Adds to the residual stream, chooses each token's experts by its norm, and gives what these make of it together.
    pub(super) fn mixture(
        &self,
        added: Addend<'_>,
        norm: &Norm,
        router: &Linear,
        gate_up: [&Experts; 2],
        down: &Experts,
    ) -> Result<Addend<'a>, DeviceError> {
        let Activations { x, normed, inner, wide, narrow, routing, .. } = self.act;
        let routing = routing.as_ref().expect("memory for a mixture's routing");
        let (device, tokens, used) = (self.device, self.tokens(), routing.used());

        // A norm rounded by itself has the bits of one that is rounded on its way.
        let mut left = Form::of_all(gate_up.map(Experts::form).into_iter().chain([router.form()]));
        ops::norm(device, x, Some(added), None, norm, tokens, (normed, left))?;
        let mut take = |form| {
            let is_left = form == left;
            left = form;
            if is_left { Ok(()) } else { ops::round(device, normed, form, tokens) }
        };
        take(router.form())?;
        ops::choose(device, self.products, router, normed, tokens, routing)?;

        let mut grouped = None;
        let mut group = |w: &Experts| {
            let tile = routing.tile(device, w.form(), tokens);
            if grouped.replace(tile) == Some(tile) {
                Ok(())
            } else {
                ops::group(device, tokens, routing, tile)
            }
        };
        let mut at = 0;
        for w in gate_up {
            take(w.form())?;
            group(w)?;
            ops::experts(device, w, (normed, used), tokens, routing, wide, at)?;
            at += tokens * used * w.rows();
        }
        ops::expert_swiglu(device, gate_up, normed, tokens, routing, wide, (inner, down.form()))?;
        group(down)?;
        ops::experts(device, down, (inner, 1), tokens, routing, wide, 0)?;
        ops::expert_sum(device, down, inner, tokens, routing, wide, narrow)?;
        Ok(Addend::Values { values: narrow, width: down.rows(), tokens })
    }

    /// `silu(gate) up` of the normed rows goes to `inner`, in the form that `next` multiplies.
    pub(super) fn swiglu(&self, gate_up: &Linear, next: &Linear) -> Done {
        let (Self { device, products, .. }, tokens) = (self, self.tokens());
        let Activations { normed, inner, wide, .. } = self.act;
        if ops::gate(device, products, gate_up, normed, tokens, (inner, next.form()))? {
            return Ok(());
        }
        ops::multiply(device, products, gate_up, normed, tokens, wide)?;
        ops::swiglu(device, gate_up, normed, tokens, wide, (inner, next.form()))
    }

    /// `gelu(up)` of the sums that `up` left in `wide` goes to `inner`, in the form that `next` multiplies.
    pub(super) fn gelu(&self, up: &Linear, next: &Linear) -> Done {
        let Activations { normed, inner, wide, .. } = self.act;
        ops::gelu(self.device, up, normed, self.tokens(), wide, (inner, next.form()))
    }
}
