//! The activation of GPT-2: `y = gelu(x)` (Hendrycks and Gimpel 2016, the form with a hyperbolic tangent), as rows for the
//! next product.
//!
//! A block a row. Bytes moved: `4 n` read (twice for the form f16, the second time from cache), 2 or `4 n` written a row.

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

fn geometry(a: &Gelu) -> Geometry {
    Geometry { grid: [a.rows as usize, 1], scratch: 0 }
}

#[inline(always)]
fn activate<B: Block, F: Form>(block: &B, a: &Gelu) {
    let row = block.x();
    F::write(block, &a.y, row, a.n as usize, |i| gelu(a.x.get(row, i)));
}

kernel! {
    /// Rows in the form f32.
    pub F32 = gelu__f32(Gelu), lanes: 1024, geometry: geometry, body: activate::<_, Plain>
}
kernel! {
    /// Rows in the form f16.
    pub F16_ = gelu__f16(Gelu), lanes: 1024, geometry: geometry, body: activate::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = gelu__bf16(Gelu), lanes: 1024, geometry: geometry, body: activate::<_, Rounded>
}
