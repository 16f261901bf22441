//! Operations on device memory: each checks its shapes, then launches one kernel.
//!
//! What a kernel assumes about sizes is checked here once, so that no caller can make it touch memory that is not its
//! own. A wrong size is a fault of this program, hence a panic and not an error.

mod attention;
mod multiply;
mod sample;

use cuda_std::In;
use kernels::product::{Product, Rounding};
use kernels::{embed, norm, residual, rows, swiglu};

use crate::device::{Buffer, Device, DeviceError};
use crate::model::linear::Linear;
use crate::model::weights::Matrix;
use crate::numerics::Form;
use crate::rows::{Rows, nothing};

pub use attention::{AttentionLayer, Heads, RopeTable, attention, rope};
pub use multiply::{logits, multiply};
pub use sample::{Change, change, logprobs, sample};

type Done = Result<(), DeviceError>;

/// `y[t] = table[ids[t]]`; ids were checked against the vocabulary when the batch was made.
pub fn embed(device: &Device, table: &Matrix, ids: In<u32>, fault: &Buffer<u32>, y: &Buffer<f32>) -> Done {
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
        device.launch(embed::of(table.stored), &args)
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
