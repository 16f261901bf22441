//! Products of rows with matrices.

use kernels::format::BLOCK;
use kernels::product::{Product, Rounding};
use kernels::qmatmul::{Chosen, QMatMul};
use kernels::swiglu::Gated;
use kernels::{broad, logits, matmul, matvec, qmatmul, relay, rows, warpgroup};

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
            multiply_one(device, (matrix, form), (x, tokens), (sums, at))?;
        }
        before += matrix.rows;
    }
    Ok(())
}

/// `y[t] = silu(gate[t]) up[t]` in a form, of the products of `w`'s two matrices with `x`: where one kernel can do it. If not, it says
/// `false` and has done nothing.
pub fn gate(
    device: &Device,
    products: &Products,
    w: &Linear,
    x: &Rows,
    tokens: usize,
    (y, next): (&Rows, Form),
) -> Result<bool, DeviceError> {
    assert!(x.width() == w.columns() && 2 * y.width() == w.rows(), "rows of another width");
    let (matrix, form) = (w.first(), w.form());
    let plain = form != Form::F32 && next == form && matrix.rows == w.rows() && matrix.bias.is_none();
    if !plain || products.library_takes(device, matrix, tokens) {
        return Ok(false);
    }
    let Some(Chosen { kernel, gates: true }) = of_stored(device, matrix, tokens) else { return Ok(false) };
    // SAFETY: the views have the sizes the kernel documents; `Matrix` holds its rows whole, and `Rows` has this form.
    unsafe {
        let rows::Rows { bits, scale, .. } = y.view_mut(next, tokens);
        let gated = Gated { y: bits, scale, factor: x.factor(form) };
        let args = QMatMul {
            w: matrix.bytes.view(0, matrix.bytes.len()),
            x: x.bits().view(0, tokens * matrix.columns),
            y: nothing_out(),
            gated,
            k: matrix.columns as u32,
            n: matrix.rows as u32,
            m: tokens as u32,
        };
        device.launch(kernel, &args)?;
    }
    Ok(true)
}

/// The sums of one matrix by our own kernel, from `at` on.
fn multiply_one(
    device: &Device,
    (w, form): (&Matrix, Form),
    (x, tokens): (&Rows, usize),
    (sums, at): (&Buffer<f32>, usize),
) -> Done {
    let (k, n, m) = (w.columns as u32, w.rows as u32, tokens as u32);
    let (inputs, outputs) = (tokens * w.columns, tokens * w.rows);
    // SAFETY: the views have the sizes the kernels document; `Matrix` holds its rows whole, and `Rows` has this form.
    unsafe {
        let (y, stored) = (sums.view_mut(at, outputs), w.bytes.view(0, w.bytes.len()));
        if form == Form::F32 {
            let x = x.values().view(0, inputs);
            return device.launch(matvec::of(w.stored, tokens), &matvec::MatVec { w: stored, x, y, k, n, m });
        }
        let x = x.bits().view(0, inputs);
        if let Some(Chosen { kernel, .. }) = of_stored(device, w, tokens) {
            return device.launch(kernel, &QMatMul { w: stored, x, y, gated: Gated::nothing(), k, n, m });
        }
        let kernel = if form == Form::Bf16 { &matmul::BF16 } else { &matmul::F16_ };
        device.launch(kernel, &matmul::MatMul { w: w.bytes.view_as::<u16>(), x, y, k, n, m })
    }
}

/// The kernel that multiplies such a matrix as it is stored with rows in 16 bits; none for matrices of these types that another is
/// better for.
fn of_stored(device: &Device, w: &Matrix, tokens: usize) -> Option<Chosen> {
    if device.has_warpgroups()
        && let Some(chosen) = broad::of(w.stored, w.rows, tokens)
    {
        return Some(chosen);
    }
    if tokens >= WARPGROUPS
        && device.has_warpgroups()
        && let Some(chosen) = warpgroup::of(w.stored, w.rows, tokens)
    {
        return Some(chosen);
    }
    // The CPU waits for no chain, and is faster with the others.
    if device.chip().is_some()
        && let Some(kernel) = relay::of(w.stored, w.rows, tokens, device.scratch())
    {
        return Some(Chosen { kernel, gates: false });
    }
    let streamed = qmatmul::of(w.stored, w.rows, tokens, device.scratch());
    if w.stored.is_quantised() {
        return Some(streamed.expect("every GPU has room for few tokens of a quantised type"));
    }
    streamed.filter(|_| w.rows <= NARROW && w.columns.is_multiple_of(BLOCK))
}

/// The sums that [`multiply`] left of the last matrix become logits, in place.
pub fn logits(device: &Device, w: &Linear, x: &Rows, rows: usize, sums: &Buffer<f32>) -> Done {
    // SAFETY: the views have the sizes the kernel documents.
    unsafe {
        let Product { factor, bias, .. } = w.product(0, x, rows, sums, Rounding::NONE);
        assert!(factor == 1.0, "normed rows are not scaled");
        if bias.is_empty() {
            return Ok(());
        }
        let n = w.rows();
        let y = sums.view_mut(0, rows * n);
        device.launch(&logits::FINISH, &logits::Finish { y, bias, n: n as u32, rows: rows as u32 })
    }
}
