//! The gated activation: `y = silu(gate) up` (Shazeer 2020), as rows for the next product.
//!
//! A block a row, or several. Bytes moved: `8 n` read (twice of the longest rows of the form f16), 2 or `4 n` written a row.

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

fn geometry<F: Form>(a: &Swiglu) -> Geometry {
    let n = a.n as usize;
    Geometry { grid: [a.rows as usize, F::parts(a.rows as usize, n)], scratch: F::scratch(n) }
}

#[inline(always)]
fn swiglu<B: Block, F: Form>(block: &B, a: &Swiglu) {
    let (row, n) = (block.x(), a.n as usize);
    let (gate, up) = (a.gate.row(row), a.up.row(row));
    let read = |i: usize| (gate.read(i), up.read(i));
    F::write(block, &a.y, (row, n), F::part(block.y(), a.rows as usize, n), read, |parts| {
        silu(gate.value(parts.0)) * up.value(parts.1)
    });
}

kernel! {
    /// Rows in the form f32.
    pub F32 = swiglu__f32(Swiglu), lanes: 512, geometry: geometry::<Plain>, body: swiglu::<_, Plain>
}
kernel! {
    /// Rows in the form f16.
    pub F16_ = swiglu__f16(Swiglu), lanes: 512, geometry: geometry::<Scaled>, body: swiglu::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = swiglu__bf16(Swiglu), lanes: 512, geometry: geometry::<Rounded>, body: swiglu::<_, Rounded>
}
