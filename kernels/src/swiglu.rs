//! The gated activation: `y = silu(gate) up` (Shazeer 2020), as rows for the next product.
//!
//! A block a row, or several. Bytes moved: `8 n` read (twice of the longest rows of the form f16), 2 or `4 n` written a row.

use cuda_std::math::silu;
use cuda_std::{Block, Geometry, Source, kernel, made, mapped};

use crate::product::{Line, Parts, Product};
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
    Geometry { grid: [a.rows as usize, F::parts(&a.y, a.rows as usize, n)], scratch: 4 * F::held(n) }
}

/// A row of the activation; without `BIASED` neither product has a bias, and none is asked for.
struct Activation<const BIASED: bool> {
    gate: Line,
    up: Line,
}

impl<const BIASED: bool> Source for Activation<BIASED> {
    type Read = (Parts, Parts);
    type Value = f32;

    #[inline(always)]
    fn read(&self, i: usize) -> Self::Read {
        (self.gate.read_if::<BIASED>(i), self.up.read_if::<BIASED>(i))
    }

    #[inline(always)]
    fn values<const N: usize>(&self, read: [Self::Read; N]) -> [f32; N] {
        let gate = self.gate.values_if::<BIASED, N>(mapped(read, |(gate, _)| gate));
        let up = self.up.values_if::<BIASED, N>(mapped(read, |(_, up)| up));
        let gate = silu(gate);
        made(|i| gate[i] * up[i])
    }
}

#[inline(always)]
fn swiglu<B: Block, F: Form>(block: &B, a: &Swiglu) {
    let (row, n) = (block.x(), a.n as usize);
    let (gate, up) = (a.gate.row(row), a.up.row(row));
    let (part, held) = (F::part(&a.y, block.y(), a.rows as usize, n), block.scratch(F::held(n)));
    if gate.bias.is_empty() && up.bias.is_empty() {
        F::write(block, &a.y, (row, n), part, &Activation::<false> { gate, up }, &held);
    } else {
        F::write(block, &a.y, (row, n), part, &Activation::<true> { gate, up }, &held);
    }
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
