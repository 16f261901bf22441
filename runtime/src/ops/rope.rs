//! From the products of Q, K and V to queries and to the cache.

use cuda_std::{Kernel, Value};
use kernels::rope::{self, Rope, RopeNormed};

use super::{Done, Heads};
use crate::batch::BatchBuffers;
use crate::device::{Buffer, Device};
use crate::model::cache::{Cache, Half, KvLayer, Store};
use crate::model::config::Pairing;
use crate::model::linear::Linear;
use crate::model::norm::{HeadNorms, Scale};
use crate::numerics::Form;
use crate::rows::Rows;

/// Cosines and sines for every position of the context.
pub struct RopeTable {
    /// `[context, rotated / 2, 2]`.
    pub angles: Buffer<f32>,
    /// Elements of a head that turn.
    pub rotated: usize,
    /// Which of them form a pair.
    pub pairing: Pairing,
}

/// Turns Q and K, the first two products of `w` with `x`, by their positions, each head being normed before if there are
/// norms; K and V, the third, go to their pages of layer `layer`, and Q to the cache's queries.
#[allow(clippy::too_many_arguments, reason = "each is one operand")]
pub fn rope(
    device: &Device,
    table: &RopeTable,
    norms: Option<&HeadNorms>,
    heads: Heads,
    batch: &BatchBuffers,
    (w, x, sums): (&Linear, &Rows, &Buffer<f32>),
    cache: &Cache,
    layer: usize,
) -> Done {
    let task = Task { table, norms, heads, batch, w, x, sums, layer };
    match cache {
        Cache::Full(store) => {
            let kernels = Kernels {
                interleaved: &rope::INTERLEAVED_F32,
                split_half: &rope::SPLIT_HALF_F32,
                normed: &rope::NORMED_SPLIT_HALF_F32,
            };
            task.run(device, &kernels, store)
        }
        Cache::Half(Half { form: Form::Bf16, store, .. }) => {
            let kernels = Kernels {
                interleaved: &rope::INTERLEAVED_BF16,
                split_half: &rope::SPLIT_HALF_BF16,
                normed: &rope::NORMED_SPLIT_HALF_BF16,
            };
            task.run(device, &kernels, store)
        }
        Cache::Half(Half { store, .. }) => {
            let kernels = Kernels {
                interleaved: &rope::INTERLEAVED_F16,
                split_half: &rope::SPLIT_HALF_F16,
                normed: &rope::NORMED_SPLIT_HALF_F16,
            };
            task.run(device, &kernels, store)
        }
    }
}

/// The kernels for one type of the cache.
struct Kernels<V: 'static> {
    interleaved: &'static Kernel<Rope<V>>,
    split_half: &'static Kernel<Rope<V>>,
    normed: &'static Kernel<RopeNormed<V>>,
}

/// [`rope`]'s operands, whatever the type of the cache.
struct Task<'a> {
    table: &'a RopeTable,
    norms: Option<&'a HeadNorms>,
    heads: Heads,
    batch: &'a BatchBuffers,
    w: &'a Linear,
    x: &'a Rows,
    sums: &'a Buffer<f32>,
    layer: usize,
}

impl Task<'_> {
    fn run<V: Value>(&self, device: &Device, kernels: &Kernels<V>, store: &Store<V>) -> Done {
        let Self { table, heads, batch, .. } = *self;
        assert!(table.rotated <= heads.dim, "more elements turn than a head has");
        assert_eq!(self.w.rows(), heads.rows().iter().sum::<usize>(), "Q, K and V of other sizes");
        let KvLayer { keys, values } = &store.layers[self.layer];
        let tokens = batch.loaded().tokens;
        // SAFETY: the views have the sizes the kernels document; positions were checked against the context; slots come
        // from the page pool, each once.
        unsafe {
            let product = |i| self.w.product(i, self.x, tokens, self.sums, self.w.rounding(i));
            let args = Rope {
                q: product(0),
                k: product(1),
                v: product(2),
                table: table.angles.view(0, table.angles.len()),
                positions: batch.positions(),
                slots: batch.slots(),
                queries: store.queries.view_mut(0, tokens * heads.query * heads.dim),
                key_pages: keys.view_mut(0, keys.len()),
                value_pages: values.view_mut(0, values.len()),
                tokens: tokens as u32,
                heads: heads.query as u32,
                kv_heads: heads.kv as u32,
                head_dim: heads.dim as u32,
                rotated: table.rotated as u32,
            };
            match (self.norms, table.pairing) {
                (None, Pairing::Interleaved) => device.launch(kernels.interleaved, &args),
                (None, Pairing::SplitHalf) => device.launch(kernels.split_half, &args),
                (Some(HeadNorms { q, k }), pairing) => {
                    assert!(pairing == Pairing::SplitHalf && q.epsilon == k.epsilon, "no kernel for this");
                    let norm = |scale: &Scale| scale.w.view(0, heads.dim);
                    let (q_norm, k_norm, epsilon) = (norm(q), norm(k), q.epsilon);
                    device.launch(kernels.normed, &RopeNormed { rope: args, q_norm, k_norm, epsilon })
                }
            }
        }
    }
}
