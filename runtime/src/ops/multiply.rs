//! Products of rows with matrices.

use kernels::format::BLOCK;
use kernels::product::{Product, Rounding, TOPS};
use kernels::{logits, matmul, matvec, qmatmul, relay, warpgroup};

use super::{Done, round};
use crate::device::{Buffer, Device, DeviceError};
use crate::model::linear::Linear;
use crate::model::weights::Matrix;
use crate::numerics::Form;
use crate::products::Products;
use crate::rows::{Rows, nothing_out};

/// Rows of 16-bit matrices up to which a warp of a GPU has few of them: those of a block for each of 132 multiprocessors. With
/// more, warps that have twice as many keep it busier.
const NARROW: usize = 32 * 132;

/// Rows from which on warps that multiply together are the fastest.
const WARPGROUPS: usize = 9;

/// Leaves the sums of `tokens` rows `x`, which are there in `w`'s form, with every matrix of `w` in `sums`: see
/// [`Linear::product`]. Says whether it has raised `tops`, which are zeros, to the greatest magnitudes of each row's sums: where one kernel
/// computes them all that can, and nothing is added to them.
pub fn multiply(
    device: &Device,
    products: &Products,
    w: &Linear,
    x: &Rows,
    tokens: usize,
    sums: &Buffer<f32>,
    tops: Option<&Buffer<u32>>,
) -> Result<bool, DeviceError> {
    assert_eq!(x.width(), w.columns(), "rows of another width");
    let (mut before, mut left, mut known) = (0, w.form(), false);
    let tops = tops.filter(|_| w.matrices().count() == 1 && w.first().bias.is_none());
    for (matrix, form) in w.matrices() {
        let at = tokens * before;
        if form != left {
            round(device, x, form, tokens)?;
            left = form;
        }
        if !products.run(device, matrix, form, (x, tokens), sums, at)? {
            known = multiply_one(device, (matrix, form), (x, tokens), (sums, at), tops)?;
        }
        before += matrix.rows;
    }
    Ok(known)
}

/// The sums of one matrix by our own kernel, from `at` on; whether it has raised `tops`.
fn multiply_one(
    device: &Device,
    (w, form): (&Matrix, Form),
    (x, tokens): (&Rows, usize),
    (sums, at): (&Buffer<f32>, usize),
    tops: Option<&Buffer<u32>>,
) -> Result<bool, DeviceError> {
    let (k, n, m) = (w.columns as u32, w.rows as u32, tokens as u32);
    let (inputs, outputs) = (tokens * w.columns, tokens * w.rows);
    // SAFETY: the views have the sizes the kernels document; `Matrix` holds its rows whole, and `Rows` has this form.
    unsafe {
        let y = sums.view_mut(at, outputs);
        let stored = || w.bytes.view(0, w.bytes.len());
        if form == Form::F32 {
            let x = x.values().view(0, inputs);
            let kernel = matvec::of(w.stored, tokens);
            device.launch(kernel, &matvec::MatVec { w: stored(), x, y, k, n, m })?;
            return Ok(false);
        }
        let x = x.bits().view(0, inputs);
        let raised = tops.map_or_else(nothing_out, |tops| tops.view_mut(0, tokens * TOPS));
        let args = |tops| qmatmul::QMatMul { w: stored(), x, y, tops, k, n, m };
        if tokens >= WARPGROUPS
            && device.has_warpgroups()
            && let Some(kernel) = warpgroup::of(w.stored, w.rows, tokens)
        {
            device.launch(kernel, &args(raised))?;
            return Ok(tops.is_some());
        }
        // The CPU waits for no chain, and is faster with the others.
        if device.chip().is_some()
            && let Some(kernel) = relay::of(w.stored, w.rows, tokens, device.scratch())
        {
            device.launch(kernel, &args(nothing_out()))?;
            return Ok(false);
        }
        let streamed = qmatmul::of(w.stored, w.rows, tokens, device.scratch());
        let is_narrow = w.rows <= NARROW && w.columns.is_multiple_of(BLOCK);
        if w.stored.is_quantised() || (is_narrow && streamed.is_some()) {
            let kernel = streamed.expect("every GPU has room for few tokens of a quantised type");
            device.launch(kernel, &args(raised))?;
            return Ok(tops.is_some());
        }
        let kernel = if form == Form::Bf16 { &matmul::BF16 } else { &matmul::F16_ };
        device.launch(kernel, &matmul::MatMul { w: w.bytes.view_as::<u16>(), x, y, k, n, m })?;
        Ok(false)
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
