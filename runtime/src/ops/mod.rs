//! Operations on device memory: each checks its shapes, then launches one kernel.
//!
//! What a kernel assumes about sizes is checked here once, so that no caller can make it touch memory that is not its
//! own. A wrong size is a fault of this program, hence a panic and not an error.

mod attention;
mod experts;
mod multiply;
mod norm;
mod rope;
mod sample;

use cuda_std::In;
use kernels::product::{Product, Rounding};
use kernels::{embed, gelu, residual, rows, swiglu};

use crate::device::{Buffer, Device, DeviceError};
use crate::model::linear::Linear;
use crate::model::weights::Matrix;
use crate::numerics::Form;
use crate::rows::{Rows, nothing};

pub use attention::{AttentionLayer, Heads, attended, attention};
pub use experts::{Routing, choose, expert_sum, expert_swiglu, experts, group};
pub use multiply::{gate, logits, multiply};
pub use norm::norm;
pub use rope::{RopeTable, rope};
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

/// What is added to the residual stream, in so many rows.
#[derive(Clone, Copy)]
pub enum Addend<'a> {
    /// The product of one matrix with rows.
    Product {
        /// The matrix.
        w: &'a Linear,
        /// The rows it was multiplied with.
        x: &'a Rows,
        /// Where [`multiply`] left the sums.
        sums: &'a Buffer<f32>,
        /// Rows.
        tokens: usize,
    },
    /// Values as they are.
    Values {
        /// `[tokens, width]`.
        values: &'a Buffer<f32>,
        /// Elements in a row.
        width: usize,
        /// Rows.
        tokens: usize,
    },
}

impl Addend<'_> {
    /// Rows, and elements in one.
    fn size(&self) -> (usize, usize) {
        match *self {
            Self::Product { w, tokens, .. } => (tokens, w.rows()),
            Self::Values { width, tokens, .. } => (tokens, width),
        }
    }

    /// # Safety
    /// See [`Linear::product`].
    unsafe fn product(&self) -> Product {
        // SAFETY: the caller's promise.
        unsafe {
            match *self {
                Self::Product { w, x, sums, tokens } => w.product(0, x, tokens, sums, Rounding::NONE),
                Self::Values { values, width, tokens } => Product {
                    sums: values.view(0, tokens * width),
                    bias: nothing(),
                    factor: 1.0,
                    stride: width as u32,
                    first: 0,
                    rounding: Rounding::NONE,
                },
            }
        }
    }
}

/// `x[t] += addend[t]`.
pub fn add(device: &Device, x: &Buffer<f32>, addend: Addend<'_>) -> Done {
    let (rows, n) = addend.size();
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
        let product = |i| w.product(i, x, tokens, sums, w.rounding(i));
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

/// `y[t] = gelu(x[t])` in a form, of the product of `w` with `x`.
pub fn gelu(
    device: &Device,
    w: &Linear,
    x: &Rows,
    tokens: usize,
    sums: &Buffer<f32>,
    (y, form): (&Rows, Form),
) -> Done {
    assert_eq!(y.width(), w.rows(), "rows of another width");
    let kernel = match form {
        Form::F32 => &gelu::F32,
        Form::F16 => &gelu::F16_,
        Form::Bf16 => &gelu::BF16,
    };
    // SAFETY: the views have the sizes the kernel documents.
    unsafe {
        let args = gelu::Gelu {
            x: w.product(0, x, tokens, sums, w.rounding(0)),
            y: y.view_mut(form, tokens),
            n: y.width() as u32,
            rows: tokens as u32,
        };
        device.launch(kernel, &args)
    }
}

/// Rows that are there in the form f32, in another form; they stay there in f32.
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
