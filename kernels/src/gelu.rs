//! The activation of GPT-2: `y = gelu(x)` (Hendrycks and Gimpel 2016, the form with a hyperbolic tangent), as rows for the
//! next product.
//!
//! A block a row, or several. Bytes moved: `4 n` read (twice of the longest rows of the form f16), 2 or `4 n` written a row.

use cuda_std::math::gelu;
use cuda_std::{Block, Geometry, kernel};

use crate::product::Product;
use crate::rows::{Form, Plain, Rounded, Rows, Scaled};

/// Arguments of [`F32`], [`F16_`] and [`BF16`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Gelu {
    /// `[rows, n]`.
    pub x: Product,
    /// `[rows, n]`.
    pub y: Rows,
    /// Elements in a row.
    pub n: u32,
    /// Rows.
    pub rows: u32,
}

fn geometry<F: Form>(a: &Gelu) -> Geometry {
    let n = a.n as usize;
    Geometry { grid: [a.rows as usize, F::parts(a.rows as usize, n)], scratch: F::scratch(n) }
}

#[inline(always)]
fn activate<B: Block, F: Form>(block: &B, a: &Gelu) {
    let (row, n) = (block.x(), a.n as usize);
    let x = a.x.row(row);
    F::write(
        block,
        &a.y,
        (row, n),
        F::part(block.y(), a.rows as usize, n),
        |i| x.read(i),
        |parts| gelu(x.value(parts)),
    );
}

kernel! {
    /// Rows in the form f32.
    pub F32 = gelu__f32(Gelu), lanes: 512, geometry: geometry::<Plain>, body: activate::<_, Plain>
}
kernel! {
    /// Rows in the form f16.
    pub F16_ = gelu__f16(Gelu), lanes: 512, geometry: geometry::<Scaled>, body: activate::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = gelu__bf16(Gelu), lanes: 512, geometry: geometry::<Rounded>, body: activate::<_, Rounded>
}
