//! Operations on device memory: each checks its shapes, then launches one kernel.
//!
//! What a kernel assumes about sizes is checked here once, so that no caller can make it touch memory that is not its
//! own. A wrong size is a fault of this program, hence a panic and not an error.

use kernels::flash::Flash;
use kernels::product::{Product, Rounding};
use kernels::rope::Rope;
use kernels::{
    attention, embed, flash, logits, matmul, matvec, norm, qmatmul, residual, rope, rows, sample, swiglu,
};

use cuda_std::{In, Kernel, Value};

use crate::batch::BatchBuffers;
use crate::device::{Buffer, Device, DeviceError};
use crate::model::cache::{Cache, KvLayer, Partials, Store};
use crate::model::config::Pairing;
use crate::model::linear::Linear;
use crate::model::weights::{Matrix, Stored};
use crate::numerics::Form;
use crate::products::Products;
use crate::rows::{Rows, nothing, nothing_out};

type Done = Result<(), DeviceError>;

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

/// `y[t] = table[ids[t]]`; ids were checked against the vocabulary when the batch was made.
pub fn embed(device: &Device, table: &Matrix, ids: In<u32>, fault: &Buffer<u32>, y: &Buffer<f32>) -> Done {
    let kernel = match table.stored {
        Stored::F32 => &embed::F32_TABLE,
        Stored::F16 => &embed::F16_TABLE,
        Stored::BF16 => &embed::BF16_TABLE,
        Stored::Q8_0 => &embed::Q8_0_TABLE,
        Stored::Q4_0 => &embed::Q4_0_TABLE,
        Stored::Q4_1 => &embed::Q4_1_TABLE,
    };
    // SAFETY: the views have the sizes the kernel documents; `Matrix` holds its rows whole; ids out of range are
    // left out by the kernel.
    unsafe {
        let args = embed::Embed {
            table: table.bytes.view(0, table.bytes.len()),
            ids,
            y: y.view_mut(0, ids.len() * table.columns),
            fault: fault.view_mut(0, 1),
            n: table.columns as u32,
            vocab: table.rows as u32,
            tokens: ids.len() as u32,
        };
        device.launch(kernel, &args)
    }
}

/// Leaves the sums of `tokens` rows `x` with every matrix of `w` in `sums`: see [`Linear::product`].
pub fn multiply(
    device: &Device,
    products: &Products,
    w: &Linear,
    x: &Rows,
    tokens: usize,
    sums: &Buffer<f32>,
) -> Done {
    assert_eq!(x.width(), w.columns(), "rows of another width");
    let mut before = 0;
    for matrix in w.matrices() {
        let at = tokens * before;
        if !products.run(device, matrix, w.form(), (x, tokens), sums, at)? {
            multiply_one(device, matrix, w.form(), x, tokens, sums, at)?;
        }
        before += matrix.rows;
    }
    Ok(())
}

/// The sums of one matrix by our own kernel, from `at` on.
fn multiply_one(
    device: &Device,
    w: &Matrix,
    form: Form,
    x: &Rows,
    tokens: usize,
    sums: &Buffer<f32>,
    at: usize,
) -> Done {
    let (k, n, m) = (w.columns as u32, w.rows as u32, tokens as u32);
    let (inputs, outputs) = (tokens * w.columns, tokens * w.rows);
    // SAFETY: the views have the sizes the kernels document; `Matrix` holds its rows whole, and `Rows` has this form.
    unsafe {
        let y = sums.view_mut(at, outputs);
        let stored = || w.bytes.view(0, w.bytes.len());
        if form == Form::F32 {
            let x = x.values().view(0, inputs);
            return device.launch(chain(w.stored, tokens), &matvec::MatVec { w: stored(), x, y, k, n, m });
        }
        let x = x.bits().view(0, inputs);
        let quantised = match w.stored {
            Stored::Q8_0 => &qmatmul::Q8_0_F16,
            Stored::Q4_0 => &qmatmul::Q4_0_F16,
            Stored::Q4_1 => &qmatmul::Q4_1_F16,
            Stored::F16 | Stored::BF16 | Stored::F32 => {
                let kernel = if form == Form::Bf16 { &matmul::BF16 } else { &matmul::F16_ };
                let w = w.bytes.view_as::<u16>();
                return device.launch(kernel, &matmul::MatMul { w, x, y, k, n, m });
            }
        };
        device.launch(quantised, &qmatmul::QMatMul { w: stored(), x, y, k, n, m })
    }
}

/// The kernel of the f32 chain: beyond one token, eight share a reading of the weights.
fn chain(stored: Stored, tokens: usize) -> &'static Kernel<matvec::MatVec> {
    match (stored, tokens == 1) {
        (Stored::F32, true) => &matvec::F32_1,
        (Stored::F32, false) => &matvec::F32_8,
        (Stored::F16, true) => &matvec::F16_1,
        (Stored::F16, false) => &matvec::F16_8,
        (Stored::BF16, true) => &matvec::BF16_1,
        (Stored::BF16, false) => &matvec::BF16_8,
        (Stored::Q8_0, true) => &matvec::Q8_0_1,
        (Stored::Q8_0, false) => &matvec::Q8_0_8,
        (Stored::Q4_0, true) => &matvec::Q4_0_1,
        (Stored::Q4_0, false) => &matvec::Q4_0_8,
        (Stored::Q4_1, true) => &matvec::Q4_1_1,
        (Stored::Q4_1, false) => &matvec::Q4_1_8,
    }
}

/// The sums that [`multiply`] left of the last matrix become logits, in place.
pub fn logits(device: &Device, w: &Linear, x: &Rows, rows: usize, sums: &Buffer<f32>) -> Done {
    // SAFETY: the views have the sizes the kernel documents.
    unsafe {
        let Product { factors, bias, .. } = w.product(0, x, rows, sums, Rounding::NONE);
        if factors.is_empty() && bias.is_empty() {
            return Ok(());
        }
        let n = w.rows();
        let y = sums.view_mut(0, rows * n);
        device.launch(&logits::FINISH, &logits::Finish { y, factors, bias, n: n as u32, rows: rows as u32 })
    }
}

/// What a layer's part adds to the residual stream: one matrix's product with rows.
#[derive(Clone, Copy)]
pub struct Addend<'a> {
    /// The matrix.
    pub w: &'a Linear,
    /// The rows it was multiplied with.
    pub x: &'a Rows,
    /// Where [`multiply`] left the sums.
    pub sums: &'a Buffer<f32>,
    /// Rows.
    pub tokens: usize,
}

impl Addend<'_> {
    /// # Safety
    /// See [`Linear::product`].
    unsafe fn product(&self) -> Product {
        // SAFETY: the caller's promise.
        unsafe { self.w.product(0, self.x, self.tokens, self.sums, Rounding::NONE) }
    }
}

/// `x[t] += addend[t]`.
pub fn add(device: &Device, x: &Buffer<f32>, addend: Addend<'_>) -> Done {
    let (n, rows) = (addend.w.rows(), addend.tokens);
    // SAFETY: the views have the sizes the kernel documents.
    unsafe {
        let args = residual::Add {
            x: x.view_mut(0, rows * n),
            product: addend.product(),
            n: n as u32,
            rows: rows as u32,
        };
        device.launch(&residual::ADD, &args)
    }
}

/// `x[t] += addend[t]`, if there is one, then `y[t] = x[t] / sqrt(mean(x[t]^2) + epsilon) * w` in a form.
///
/// With `from`, only the rows named there are read, and row `i` of `y` is that of row `from[i]`.
#[allow(clippy::too_many_arguments, reason = "each is one operand of the formula")]
pub fn rms_norm(
    device: &Device,
    x: &Buffer<f32>,
    addend: Option<Addend<'_>>,
    from: Option<In<u32>>,
    w: &Buffer<f32>,
    epsilon: f32,
    rows: usize,
    (y, form): (&Rows, Form),
) -> Done {
    let n = w.len();
    assert_eq!(y.width(), n, "rows of another width");
    let kernel = match form {
        Form::F32 => &norm::F32,
        Form::F16 => &norm::F16_,
        Form::Bf16 => &norm::BF16,
    };
    // SAFETY: the views have the sizes the kernel documents, `x` and `y` are different buffers, and a batch's rows of
    // logits are different tokens.
    unsafe {
        let product = match addend {
            Some(addend) => addend.product(),
            None => Product {
                sums: nothing(),
                factors: nothing(),
                bias: nothing(),
                stride: 0,
                first: 0,
                rounding: Rounding::NONE,
            },
        };
        let args = norm::RmsNorm {
            x: x.view_mut(0, x.len()),
            product,
            from: from.unwrap_or_else(nothing),
            w: w.view(0, n),
            y: y.view_mut(form, rows),
            epsilon,
            n: n as u32,
            rows: rows as u32,
        };
        device.launch(kernel, &args)
    }
}

/// `y[t] = silu(gate[t]) up[t]` in a form, of the products of `w`'s two matrices with `x`.
pub fn swiglu(
    device: &Device,
    w: &Linear,
    x: &Rows,
    tokens: usize,
    sums: &Buffer<f32>,
    (y, form): (&Rows, Form),
) -> Done {
    assert_eq!(2 * y.width(), w.rows(), "rows of another width");
    let kernel = match form {
        Form::F32 => &swiglu::F32,
        Form::F16 => &swiglu::F16_,
        Form::Bf16 => &swiglu::BF16,
    };
    // SAFETY: the views have the sizes the kernel documents.
    unsafe {
        let product = |i| w.product(i, x, tokens, sums, w.form().rounding());
        let args = swiglu::Swiglu {
            gate: product(0),
            up: product(1),
            y: y.view_mut(form, tokens),
            n: y.width() as u32,
            rows: tokens as u32,
        };
        device.launch(kernel, &args)
    }
}

/// Rows that are there in the form f32, in another form.
pub fn round(device: &Device, rows: &Rows, form: Form, tokens: usize) -> Done {
    let kernel = match form {
        Form::F32 => return Ok(()),
        Form::F16 => &rows::F16_,
        Form::Bf16 => &rows::BF16,
    };
    // SAFETY: the views have the sizes the kernel documents.
    unsafe {
        let args = rows::Round {
            x: rows.values().view(0, tokens * rows.width()),
            y: rows.view_mut(form, tokens),
            n: rows.width() as u32,
            rows: tokens as u32,
        };
        device.launch(kernel, &args)
    }
}

/// Cosines and sines for every position of the context.
pub struct RopeTable {
    /// `[context, rotated / 2, 2]`.
    pub angles: Buffer<f32>,
    /// Elements of a head that turn.
    pub rotated: usize,
}

/// Turns Q and K, the first two products of `w` with `x`, by their positions; K and V, the third, go to their pages of
/// layer `layer`, and Q to the cache's queries.
#[allow(clippy::too_many_arguments, reason = "each is one operand")]
pub fn rope(
    device: &Device,
    pairing: Pairing,
    table: &RopeTable,
    heads: Heads,
    batch: &BatchBuffers,
    w: &Linear,
    x: &Rows,
    sums: &Buffer<f32>,
    cache: &Cache,
    layer: usize,
) -> Done {
    let task = RopeTask { table, heads, batch, w, x, sums, layer };
    match cache {
        Cache::Full(store) => {
            let kernel = match pairing {
                Pairing::Interleaved => &rope::INTERLEAVED_F32,
                Pairing::SplitHalf => &rope::SPLIT_HALF_F32,
            };
            task.run(device, kernel, store)
        }
        Cache::Half(form, store) => {
            let kernel = match (pairing, form) {
                (Pairing::Interleaved, Form::Bf16) => &rope::INTERLEAVED_BF16,
                (Pairing::Interleaved, _) => &rope::INTERLEAVED_F16,
                (Pairing::SplitHalf, Form::Bf16) => &rope::SPLIT_HALF_BF16,
                (Pairing::SplitHalf, _) => &rope::SPLIT_HALF_F16,
            };
            task.run(device, kernel, store)
        }
    }
}

/// [`rope`]'s operands, whatever the type of the cache.
struct RopeTask<'a> {
    table: &'a RopeTable,
    heads: Heads,
    batch: &'a BatchBuffers,
    w: &'a Linear,
    x: &'a Rows,
    sums: &'a Buffer<f32>,
    layer: usize,
}

impl RopeTask<'_> {
    fn run<V: Value>(&self, device: &Device, kernel: &'static Kernel<Rope<V>>, store: &Store<V>) -> Done {
        let Self { table, heads, batch, .. } = *self;
        assert!(table.rotated <= heads.dim, "more elements turn than a head has");
        assert_eq!(self.w.rows(), (heads.query + 2 * heads.kv) * heads.dim, "Q, K and V of other sizes");
        let KvLayer { keys, values } = &store.layers[self.layer];
        let tokens = batch.loaded().tokens;
        // SAFETY: the views have the sizes the kernel documents; positions were checked against the context; slots come
        // from the page pool, each once.
        unsafe {
            let product = |i| self.w.product(i, self.x, tokens, self.sums, self.w.form().rounding());
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
            device.launch(kernel, &args)
        }
    }
}

/// Causal attention of the batch's queries over their sequences' pages of layer `layer`.
pub fn attention(
    device: &Device,
    heads: Heads,
    batch: &BatchBuffers,
    cache: &Cache,
    layer: usize,
    out: &Buffer<f32>,
) -> Done {
    match cache {
        Cache::Full(store) => attention_f32(device, heads, batch, store, layer, out),
        Cache::Half(form, store) => attention_half(device, heads, batch, *form, store, layer, out),
    }
}

fn attention_f32(
    device: &Device,
    heads: Heads,
    batch: &BatchBuffers,
    store: &Store<f32>,
    layer: usize,
    out: &Buffer<f32>,
) -> Done {
    assert!(heads.dim <= attention::MAX_HEAD_DIM && heads.query.is_multiple_of(heads.kv));
    let KvLayer { keys, values } = &store.layers[layer];
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
            out: out.view_mut(0, len),
            tokens: shape.tokens as u32,
            heads: heads.query as u32,
            kv_heads: heads.kv as u32,
            head_dim: heads.dim as u32,
            table_width: shape.table_width as u32,
        };
        device.launch(&attention::F32, &args)
    }
}

/// A few long sequences are cut into chunks, a block each; otherwise a block walks a tile's past. The bits are the same.
fn attention_half(
    device: &Device,
    heads: Heads,
    batch: &BatchBuffers,
    form: Form,
    store: &Store<u16>,
    layer: usize,
    out: &Buffer<f32>,
) -> Done {
    assert!(heads.dim <= flash::MAX_HEAD_DIM && heads.dim.is_multiple_of(16));
    assert!(heads.query.is_multiple_of(heads.kv));
    let KvLayer { keys, values } = &store.layers[layer];
    let Partials { sums, tops } = &store.partials;
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
            tiles: batch.attention_tiles(),
            out: if split { nothing_out() } else { out.view_mut(0, len) },
            partial: if split { sums.view_mut(0, rows * heads.dim) } else { nothing_out() },
            partial_tops: if split { tops.view_mut(0, 2 * rows) } else { nothing_out() },
            count: shape.tiles as u32,
            heads: heads.query as u32,
            kv_heads: heads.kv as u32,
            head_dim: heads.dim as u32,
            table_width: shape.table_width as u32,
            chunks: chunks as u32,
        };
        let bf16 = form == Form::Bf16;
        if !split {
            return device.launch(if bf16 { &flash::WHOLE_BF16 } else { &flash::WHOLE_F16 }, &args);
        }
        device.launch(if bf16 { &flash::CHUNK_BF16 } else { &flash::CHUNK_F16 }, &args)?;
        let args = flash::Partials {
            partial: sums.view(0, rows * heads.dim),
            partial_tops: tops.view(0, 2 * rows),
            positions: batch.positions(),
            out: out.view_mut(0, len),
            tokens: shape.tokens as u32,
            heads: heads.query as u32,
            head_dim: heads.dim as u32,
            chunks: chunks as u32,
        };
        device.launch(&flash::MERGE, &args)
    }
}

/// Penalises, in each of `rows` rows of logits, the tokens it has seen: `seen[offsets[r] .. offsets[r + 1]]`, each once.
pub fn penalise(
    device: &Device,
    logits: &Buffer<f32>,
    rows: usize,
    vocab: usize,
    seen: &Buffer<u32>,
    offsets: &Buffer<u32>,
    penalties: &Buffer<f32>,
) -> Done {
    // SAFETY: the views have the sizes the kernel documents; ids were checked against the vocabulary.
    unsafe {
        let args = sample::Penalty {
            logits: logits.view_mut(0, rows * vocab),
            seen: seen.view(0, seen.len()),
            offsets: offsets.view(0, rows + 1),
            penalties: penalties.view(0, rows),
            rows: rows as u32,
            vocab: vocab as u32,
        };
        device.launch(&sample::PENALTY, &args)
    }
}

/// Chooses a token for each of `rows` rows of logits.
pub fn sample(
    device: &Device,
    logits: &Buffer<f32>,
    weights: &Buffer<u64>,
    rows: usize,
    vocab: usize,
    choices: &Buffer<sample::Choice>,
    tokens: &Buffer<u32>,
) -> Done {
    // SAFETY: the views have the sizes the kernel documents.
    unsafe {
        let args = sample::Sample {
            logits: logits.view(0, rows * vocab),
            weights: weights.view_mut(0, rows * vocab),
            choices: choices.view(0, rows),
            tokens: tokens.view_mut(0, rows),
            rows: rows as u32,
            vocab: vocab as u32,
        };
        device.launch(&sample::TOKEN, &args)
    }
}
