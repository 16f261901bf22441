//! The gated activation: `y = silu(gate) up` (Shazeer 2020), as rows for the next product.
//!
//! A block a row. Bytes moved: `8 n` read (twice for the form f16, the second time from cache), 2 or `4 n` written a row.

use cuda_std::math::silu;
use cuda_std::{Block, Geometry, kernel};

use crate::product::Product;
use crate::rows::{Form, Plain, Rounded, Rows, Scaled};

/// Arguments of [`F32`], [`F16_`] and [`BF16`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Swiglu {
    /// `[rows, n]`.
    pub gate: Product,
    /// `[rows, n]`.
    pub up: Product,
    /// `[rows, n]`.
    pub y: Rows,
    /// Elements in a row.
    pub n: u32,
    /// Rows.
    pub rows: u32,
}

fn geometry(a: &Swiglu) -> Geometry {
    Geometry { grid: [a.rows as usize, 1], scratch: 0 }
}

#[inline(always)]
fn swiglu<B: Block, F: Form>(block: &B, a: &Swiglu) {
    let row = block.x();
    F::write(block, &a.y, row, a.n as usize, |i| silu(a.gate.get(row, i)) * a.up.get(row, i));
}

kernel! {
    /// Rows in the form f32.
    pub F32 = swiglu__f32(Swiglu), lanes: 1024, geometry: geometry, body: swiglu::<_, Plain>
}
kernel! {
    /// Rows in the form f16.
    pub F16_ = swiglu__f16(Swiglu), lanes: 1024, geometry: geometry, body: swiglu::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = swiglu__bf16(Swiglu), lanes: 1024, geometry: geometry, body: swiglu::<_, Rounded>
}
