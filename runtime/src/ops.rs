//! Operations on device memory: each checks its shapes, then launches one kernel.
//!
//! What a kernel assumes about sizes is checked here once, so that no caller can make it touch memory that is not its
//! own. A wrong size is a fault of this program, hence a panic and not an error.

use kernels::{attention, elementwise, embed, kv, matvec, norm, rope, sample};

use crate::batch::BatchBuffers;
use crate::device::{Buffer, Device, DeviceError};
use crate::model::config::Pairing;
use crate::model::weights::{Matrix, Stored};

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

/// `y[t] = table[ids[t]]` for the first `tokens` ids, whose values were checked against the vocabulary when the batch was
/// made.
pub fn embed(
    device: &Device,
    table: &Matrix,
    ids: &Buffer<u32>,
    fault: &Buffer<u32>,
    tokens: usize,
    y: &Buffer<f32>,
) -> Done {
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
            ids: ids.view(0, tokens),
            y: y.view_mut(0, tokens * table.columns),
            fault: fault.view_mut(0, 1),
            n: table.columns as u32,
            vocab: table.rows as u32,
            tokens: tokens as u32,
        };
        device.launch(kernel, &args)
    }
}

/// Rows `rows[i]` of `x` (`[.., n]`) become rows `i` of `y`.
pub fn gather(
    device: &Device,
    x: &Buffer<f32>,
    n: usize,
    rows: &Buffer<u32>,
    fault: &Buffer<u32>,
    count: usize,
    y: &Buffer<f32>,
) -> Done {
    let table_rows = x.len() / n;
    // SAFETY: as in `embed`; an f32 buffer is a table of stored f32 rows.
    unsafe {
        let args = embed::Embed {
            table: x.view_bytes(0, table_rows * n),
            ids: rows.view(0, count),
            y: y.view_mut(0, count * n),
            fault: fault.view_mut(0, 1),
            n: n as u32,
            vocab: table_rows as u32,
            tokens: count as u32,
        };
        device.launch(&embed::F32_TABLE, &args)
    }
}

/// `y[t] = w x[t] + bias` for `tokens` rows.
pub fn linear(device: &Device, w: &Matrix, x: &Buffer<f32>, tokens: usize, y: &Buffer<f32>) -> Done {
    // Beyond one token, eight share a reading of the weights.
    let one = tokens == 1;
    let kernel = match (w.stored, one) {
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
    };
    // SAFETY: the views have the sizes the kernel documents; `Matrix` holds its rows whole.
    unsafe {
        let args = matvec::MatVec {
            w: w.bytes.view(0, w.bytes.len()),
            x: x.view(0, tokens * w.columns),
            y: y.view_mut(0, tokens * w.rows),
            k: w.columns as u32,
            n: w.rows as u32,
            m: tokens as u32,
        };
        device.launch(kernel, &args)?;
    }
    match &w.bias {
        Some(bias) => elementwise(device, &elementwise::ADD_BIAS, y, bias, tokens * w.rows, w.rows),
        None => Ok(()),
    }
}

/// `y[t] = x[t] / sqrt(mean(x[t]^2) + epsilon) * w`.
pub fn rms_norm(
    device: &Device,
    x: &Buffer<f32>,
    w: &Buffer<f32>,
    epsilon: f32,
    rows: usize,
    y: &Buffer<f32>,
) -> Done {
    let n = w.len();
    // SAFETY: the views have the sizes the kernel documents, and `x` and `y` are different buffers.
    unsafe {
        let args = norm::RmsNorm {
            x: x.view(0, rows * n),
            w: w.view(0, n),
            y: y.view_mut(0, rows * n),
            epsilon,
            n: n as u32,
            rows: rows as u32,
        };
        device.launch(&norm::RMS, &args)
    }
}

/// `y += x` over `len` elements.
pub fn add(device: &Device, y: &Buffer<f32>, x: &Buffer<f32>, len: usize) -> Done {
    elementwise(device, &elementwise::ADD, y, x, len, len)
}

/// `gate = silu(gate) up` over `len` elements.
pub fn swiglu(device: &Device, gate: &Buffer<f32>, up: &Buffer<f32>, len: usize) -> Done {
    elementwise(device, &elementwise::SWIGLU, gate, up, len, len)
}

fn elementwise(
    device: &Device,
    kernel: &'static cuda_std::Kernel<elementwise::Elementwise>,
    y: &Buffer<f32>,
    x: &Buffer<f32>,
    len: usize,
    n: usize,
) -> Done {
    // SAFETY: the views have the sizes the kernel documents.
    unsafe {
        let args =
            elementwise::Elementwise { y: y.view_mut(0, len), x: x.view(0, n), len: len as u64, n: n as u64 };
        device.launch(kernel, &args)
    }
}

/// Turns the heads of the batch's tokens by their positions.
pub fn rope(
    device: &Device,
    pairing: Pairing,
    table: &RopeTable,
    batch: &BatchBuffers,
    heads: usize,
    head_dim: usize,
    x: &Buffer<f32>,
) -> Done {
    assert!(table.rotated <= head_dim, "more elements turn than a head has");
    let kernel = match pairing {
        Pairing::Interleaved => &rope::INTERLEAVED,
        Pairing::SplitHalf => &rope::SPLIT_HALF,
    };
    let tokens = batch.tokens();
    // SAFETY: the views have the sizes the kernel documents; positions were checked against the context.
    unsafe {
        let args = rope::Rope {
            x: x.view_mut(0, tokens * heads * head_dim),
            table: table.angles.view(0, table.angles.len()),
            positions: batch.positions.view(0, tokens),
            tokens: tokens as u32,
            heads: heads as u32,
            head_dim: head_dim as u32,
            rotated: table.rotated as u32,
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

/// Writes the batch's keys and values into their pages of one layer.
pub fn kv_write(
    device: &Device,
    heads: Heads,
    batch: &BatchBuffers,
    k: &Buffer<f32>,
    v: &Buffer<f32>,
    layer: &KvLayer,
) -> Done {
    let tokens = batch.tokens();
    let len = tokens * heads.kv * heads.dim;
    // SAFETY: the views have the sizes the kernel documents; slots come from the page pool, each once.
    unsafe {
        let args = kv::KvWrite {
            k: k.view(0, len),
            v: v.view(0, len),
            key_pages: layer.keys.view_mut(0, layer.keys.len()),
            value_pages: layer.values.view_mut(0, layer.values.len()),
            slots: batch.slots.view(0, tokens),
            tokens: tokens as u32,
            kv_heads: heads.kv as u32,
            head_dim: heads.dim as u32,
        };
        device.launch(&kv::WRITE_F32, &args)
    }
}

/// Pages of one layer.
pub struct KvLayer {
    /// `[pages, kv_heads, head_dim, PAGE]`.
    pub keys: Buffer<f32>,
    /// `[pages, kv_heads, PAGE, head_dim]`.
    pub values: Buffer<f32>,
}

/// Causal attention of the batch's tokens over their sequences' pages.
pub fn attention(
    device: &Device,
    heads: Heads,
    batch: &BatchBuffers,
    q: &Buffer<f32>,
    layer: &KvLayer,
    out: &Buffer<f32>,
) -> Done {
    assert!(heads.dim <= attention::MAX_HEAD_DIM && heads.query.is_multiple_of(heads.kv));
    let tokens = batch.tokens();
    let len = tokens * heads.query * heads.dim;
    // SAFETY: the views have the sizes the kernel documents; the page table covers every position of the batch.
    unsafe {
        let args = attention::Attention {
            q: q.view(0, len),
            key_pages: layer.keys.view(0, layer.keys.len()),
            value_pages: layer.values.view(0, layer.values.len()),
            page_table: batch.page_table.view(0, batch.page_table.len()),
            sequences: batch.sequences.view(0, tokens),
            positions: batch.positions.view(0, tokens),
            out: out.view_mut(0, len),
            tokens: tokens as u32,
            heads: heads.query as u32,
            kv_heads: heads.kv as u32,
            head_dim: heads.dim as u32,
            table_width: batch.table_width() as u32,
        };
        device.launch(&attention::F32, &args)
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
