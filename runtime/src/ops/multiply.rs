//! Products of rows with matrices.

use kernels::format::BLOCK;
use kernels::product::{Product, Rounding};
use kernels::{logits, matmul, matvec, qmatmul, relay, warpgroup};

use super::{Done, round};
use crate::device::{Buffer, Device};
use crate::model::linear::Linear;
use crate::model::weights::Matrix;
use crate::numerics::Form;
use crate::products::Products;
use crate::rows::Rows;

/// Rows of 16-bit matrices up to which a warp of a GPU has few of them: those of a block for each of 132 multiprocessors. With
/// more, warps that have twice as many keep it busier.
const NARROW: usize = 32 * 132;

/// Rows from which on warps that multiply together are the fastest.
const WARPGROUPS: usize = 9;

/// Leaves the sums of `tokens` rows `x`, which are there in `w`'s form, with every matrix of `w` in `sums`: see
/// [`Linear::product`].
pub fn multiply(
    device: &Device,
    products: &Products,
    w: &Linear,
    x: &Rows,
    tokens: usize,
    sums: &Buffer<f32>,
) -> Done {
    assert_eq!(x.width(), w.columns(), "rows of another width");
    let (mut before, mut left) = (0, w.form());
    for (matrix, form) in w.matrices() {
        let at = tokens * before;
        if form != left {
            round(device, x, form, tokens)?;
            left = form;
        }
        if !products.run(device, matrix, form, (x, tokens), sums, at)? {
            multiply_one(device, matrix, form, x, tokens, sums, at)?;
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
            let kernel = matvec::of(w.stored, tokens);
            return device.launch(kernel, &matvec::MatVec { w: stored(), x, y, k, n, m });
        }
        let x = x.bits().view(0, inputs);
        if tokens >= WARPGROUPS
            && device.has_warpgroups()
            && let Some(kernel) = warpgroup::of(w.stored, w.rows, tokens)
        {
            return device.launch(kernel, &qmatmul::QMatMul { w: stored(), x, y, k, n, m });
        }
        // The CPU waits for no chain, and is faster with the others.
        if device.chip().is_some()
            && let Some(kernel) = relay::of(w.stored, w.rows, tokens, device.scratch())
        {
            return device.launch(kernel, &qmatmul::QMatMul { w: stored(), x, y, k, n, m });
        }
        let streamed = qmatmul::of(w.stored, w.rows, tokens, device.scratch());
        let is_narrow = w.rows <= NARROW && w.columns.is_multiple_of(BLOCK);
        if w.stored.is_quantised() || (is_narrow && streamed.is_some()) {
            let kernel = streamed.expect("every GPU has room for few tokens of a quantised type");
            return device.launch(kernel, &qmatmul::QMatMul { w: stored(), x, y, k, n, m });
        }
        let kernel = if form == Form::Bf16 { &matmul::BF16 } else { &matmul::F16_ };
        device.launch(kernel, &matmul::MatMul { w: w.bytes.view_as::<u16>(), x, y, k, n, m })
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
