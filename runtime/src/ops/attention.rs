//! From queries and the cache to what attention gives.

use cuda_std::In;
use kernels::flash::Flash;
use kernels::{attention, flash, merge, prompt, prompt_group};

use super::{Done, round};
use crate::batch::BatchBuffers;
use crate::device::{Buffer, Device};
use crate::model::cache::{Cache, Half, KvLayer, Partials, Store};
use crate::numerics::Form;
use crate::rows::{Rows, nothing, nothing_out};

/// How the heads of a layer share its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads; divides `query`.
    pub kv: usize,
    /// Elements of a head.
    pub dim: usize,
}

impl Heads {
    /// Elements of Q, K and V.
    pub fn rows(self) -> [usize; 3] {
        let kv = self.kv * self.dim;
        [self.query * self.dim, kv, kv]
    }
}

/// What is a layer's own in attention.
#[derive(Clone, Copy)]
pub struct AttentionLayer<'a> {
    /// Its place among the blocks.
    pub index: usize,
    /// Positions that a token sees at most, itself among them, where that is not its whole sequence up to itself.
    pub window: Option<usize>,
    /// `[heads.query]`: one more score for each head in the softmax's sum, with no value.
    pub sinks: Option<&'a Buffer<f32>>,
}

impl AttentionLayer<'_> {
    /// As kernels take it.
    fn window(&self) -> u32 {
        assert!(self.window != Some(0), "a window of no position");
        // None is as good as one beyond all positions.
        self.window.map_or(0, |window| u32::try_from(window).unwrap_or(0))
    }

    /// # Safety
    /// See [`In::new`].
    unsafe fn sinks(&self, heads: Heads) -> In<f32> {
        // SAFETY: the caller's promise.
        self.sinks.map_or_else(nothing, |sinks| unsafe { sinks.view(0, heads.query) })
    }
}

/// The form that attention leaves its rows in where they are wanted in `form`: that one, or f32. Rows that lie among cached values of
/// f16 are within f16; others are rounded by those who see to that.
pub fn attended(cache: Form, form: Form) -> Form {
    match (cache, form) {
        (Form::F32, _) | (Form::Bf16, Form::F16) => Form::F32,
        _ => form,
    }
}

/// Causal attention of the batch's queries over their sequences' pages of a layer, as rows in a form.
pub fn attention(
    device: &Device,
    heads: Heads,
    batch: &BatchBuffers,
    cache: &Cache,
    layer: AttentionLayer<'_>,
    (out, form): (&Rows, Form),
) -> Done {
    assert_eq!(out.width(), heads.query * heads.dim, "rows of another width");
    let left = attended(cache.form(), form);
    match cache {
        Cache::Full(store) => attention_f32(device, heads, batch, store, layer, out.values())?,
        Cache::Half(half) => attention_half(device, heads, batch, half, layer, (out, left))?,
    }
    if left == form { Ok(()) } else { round(device, out, form, batch.loaded().tokens) }
}

fn attention_f32(
    device: &Device,
    heads: Heads,
    batch: &BatchBuffers,
    store: &Store<f32>,
    layer: AttentionLayer<'_>,
    out: &Buffer<f32>,
) -> Done {
    assert!(heads.dim <= attention::MAX_HEAD_DIM && heads.query.is_multiple_of(heads.kv));
    let KvLayer { keys, values } = &store.layers[layer.index];
    let shape = batch.loaded();
    let len = shape.tokens * heads.query * heads.dim;
    // SAFETY: the views have the sizes the kernel documents; the page table covers every position of the batch.
    unsafe {
        let args = attention::Attention {
            q: store.queries.view(0, len),
            key_pages: keys.view(0, keys.len()),
            value_pages: values.view(0, values.len()),
            page_table: batch.page_table(),
            sequences: batch.sequences(),
            positions: batch.positions(),
            sinks: layer.sinks(heads),
            out: out.view_mut(0, len),
            tokens: shape.tokens as u32,
            heads: heads.query as u32,
            kv_heads: heads.kv as u32,
            head_dim: heads.dim as u32,
            table_width: shape.table_width as u32,
            window: layer.window(),
        };
        device.launch(&attention::F32, &args)
    }
}

/// A few long sequences are cut into chunks, a block each; otherwise a block walks a tile's past, with more rows where there
/// are prompts. The bits are the same.
fn attention_half(
    device: &Device,
    heads: Heads,
    batch: &BatchBuffers,
    half: &Half,
    layer: AttentionLayer<'_>,
    (out, left): (&Rows, Form),
) -> Done {
    assert!(heads.dim <= flash::MAX_HEAD_DIM && heads.dim.is_multiple_of(16));
    assert!(heads.query.is_multiple_of(heads.kv));
    let Half { form, store, partials: Partials { sums, tops } } = half;
    let KvLayer { keys, values } = &store.layers[layer.index];
    let shape = batch.loaded();
    let len = shape.tokens * heads.query * heads.dim;
    let chunks = shape.chunks();
    let rows = shape.tokens * heads.query * chunks;
    let split = shape.decodes() && chunks > 1 && 2 * rows <= tops.len();
    // SAFETY: the views have the sizes the kernels document; the page table covers every position of the batch.
    unsafe {
        let args = Flash {
            q: store.queries.view(0, len),
            key_pages: keys.view(0, keys.len()),
            value_pages: values.view(0, values.len()),
            page_table: batch.page_table(),
            sequences: batch.sequences(),
            positions: batch.positions(),
            sinks: layer.sinks(heads),
            tiles: batch.attention_tiles(),
            out: out.view_mut(left, shape.tokens),
            partial: if split { sums.view_mut(0, rows * heads.dim) } else { nothing_out() },
            partial_tops: if split { tops.view_mut(0, 2 * rows) } else { nothing_out() },
            count: shape.tiles as u32,
            heads: heads.query as u32,
            kv_heads: heads.kv as u32,
            head_dim: heads.dim as u32,
            table_width: shape.table_width as u32,
            chunks: chunks as u32,
            window: layer.window(),
        };
        let bf16 = *form == Form::Bf16;
        if !split {
            if shape.tiles > 0 {
                device.launch(flash::of(false, bf16, heads.dim), &args)?;
            }
            if shape.prompts > 0 {
                let args = Flash { tiles: batch.prompt_tiles(), count: shape.prompts as u32, ..args };
                let together = prompt_group::of(bf16, heads.dim).filter(|_| device.has_warpgroups());
                let kernel = together.unwrap_or(if bf16 { &prompt::BF16 } else { &prompt::F16_ });
                device.launch(kernel, &args)?;
            }
            return Ok(());
        }
        device.launch(flash::of(true, bf16, heads.dim), &args)?;
        let args = merge::Partials {
            partial: sums.view(0, rows * heads.dim),
            partial_tops: tops.view(0, 2 * rows),
            positions: batch.positions(),
            sinks: layer.sinks(heads),
            out: out.view_mut(left, shape.tokens),
            tokens: shape.tokens as u32,
            heads: heads.query as u32,
            head_dim: heads.dim as u32,
            chunks: chunks as u32,
            window: layer.window(),
        };
        device.launch(&merge::MERGE, &args)
    }
}
