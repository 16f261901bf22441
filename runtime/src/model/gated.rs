//! The block that Llama and its relatives share: pre-norm, rotary embedding, grouped-query attention, gated feed-forward
//! (Touvron et al. 2023). Each architecture's file says what its tensors are called and which of them are one.

use crate::device::DeviceError;
use crate::model::activations::Activations;
use crate::model::architecture::{Block, Input};
use crate::model::linear::Linear;
use crate::model::norm::{HeadNorms, Norm};
use crate::model::step::Step;
use crate::ops::Addend;

/// One transformer block.
pub(super) struct Gated {
    pub(super) attention_norm: Norm,
    /// Q, K and V.
    pub(super) qkv: Linear,
    /// Of the heads of Q and K, where the architecture has them.
    pub(super) head_norms: Option<HeadNorms>,
    pub(super) attention_output: Linear,
    pub(super) feed_forward_norm: Norm,
    /// Gate and up.
    pub(super) gate_up: Linear,
    pub(super) down: Linear,
}

impl Block for Gated {
    fn linears(&self) -> Vec<(Input, &Linear)> {
        vec![
            (Input::Normed, &self.qkv),
            (Input::Attended, &self.attention_output),
            (Input::Normed, &self.gate_up),
            (Input::Inner, &self.down),
        ]
    }

    fn forward<'a>(
        &'a self,
        step: &Step<'a>,
        layer: usize,
        before: Option<Addend<'a>>,
    ) -> Result<Addend<'a>, DeviceError> {
        let Activations { normed, attended, inner, wide, narrow, .. } = step.act;

        // Attention: every token looks at its sequence up to itself.
        step.norm(before, &self.attention_norm, &self.qkv)?;
        step.multiply(&self.qkv, normed, wide)?;
        step.rope(&self.qkv, self.head_norms.as_ref(), layer)?;
        step.attention(layer, None, &self.attention_output)?;
        let added = step.multiply(&self.attention_output, attended, narrow)?;

        // Feed-forward: down(silu(gate(x)) * up(x)).
        step.norm(Some(added), &self.feed_forward_norm, &self.gate_up)?;
        step.swiglu(&self.gate_up, &self.down)?;
        step.multiply(&self.down, inner, narrow)
    }
}
