//! Products of rows with matrices.

use cuda_std::Kernel;
use kernels::product::{Product, Rounding};
use kernels::{logits, matmul, matvec, qmatmul};

use super::Done;
use crate::device::{Buffer, Device};
use crate::model::linear::Linear;
use crate::model::weights::{Matrix, Stored};
use crate::numerics::Form;
use crate::products::Products;
use crate::rows::Rows;

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
