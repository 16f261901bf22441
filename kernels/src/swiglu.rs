//! The gated activation: `y = silu(gate) up` (Shazeer 2020), as rows for the next product.
//!
//! Products of many rows by few tokens make it of their sums as they are computed ([`crate::qmatmul::QMatMul::gated`]); the kernels here
//! read what others left. A block covers 1024 elements of a row. Bytes moved: `8 n` read, 2 or `4 n` written a row.

use cuda_std::math::silu;
use cuda_std::{Block, Geometry, MmaInput, Out, Source, kernel, made, mapped, unrolled};

use crate::product::{Line, Parts, Product, Rounding};
use crate::rows::{Form, Plain, Rounded, Rows, Scaled, within_f16};

/// Lanes of a block, and elements of each.
const LANES: usize = 256;
const EACH: usize = 4;

/// Arguments of every kernel here.
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

/// What makes the activation of the sums of two products that have no bias, in the type of the rows that they multiply.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Gated {
    /// `[rows, n]`.
    pub y: Out<u16>,
    /// Of f16: what values are multiplied by, see [`Rows::scale`].
    pub scale: f32,
    /// What the sums are multiplied by.
    pub factor: f32,
}

impl Gated {
    /// In place of an activation that nobody asks for.
    #[cfg(not(target_arch = "nvptx64"))]
    pub fn nothing() -> Self {
        // SAFETY: no index is below 0.
        Self { y: unsafe { Out::new(core::ptr::dangling_mut(), 0) }, scale: 0.0, factor: 0.0 }
    }

    /// The activation of the sums of two rows, as bits.
    #[inline(always)]
    pub(crate) fn pair<I: MmaInput>(&self, gate: [f32; 2], up: [f32; 2]) -> [u16; 2] {
        let rounding = if I::BF16 { Rounding::BF16 } else { Rounding::F16 };
        let value = |sums| rounding.all(mapped(sums, |sum| sum * self.factor));
        let values = activation(value(gate), value(up));
        I::both(if I::BF16 { values } else { mapped(values, |value| within_f16(value * self.scale)) })
    }
}

#[inline(always)]
fn activation<const N: usize>(gate: [f32; N], up: [f32; N]) -> [f32; N] {
    let gate = silu(gate);
    made(|i| gate[i] * up[i])
}

fn geometry(a: &Swiglu) -> Geometry {
    Geometry { grid: [a.rows as usize, (a.n as usize).div_ceil(LANES * EACH)], scratch: 0 }
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
        activation(gate, self.up.values_if::<BIASED, N>(mapped(read, |(_, up)| up)))
    }
}

#[inline(always)]
fn swiglu<B: Block, F: Form>(block: &B, a: &Swiglu) {
    let (gate, up) = (a.gate.row(block.x()), a.up.row(block.x()));
    if gate.bias.is_empty() && up.bias.is_empty() {
        write::<B, F, false>(block, a, &Activation { gate, up });
    } else {
        write::<B, F, true>(block, a, &Activation { gate, up });
    }
}

#[inline(always)]
fn write<B: Block, F: Form, const BIASED: bool>(block: &B, a: &Swiglu, activation: &Activation<BIASED>) {
    let (n, first) = (a.n as usize, block.y() * LANES * EACH);
    let (count, at) = ((n - first).min(LANES * EACH), block.x() * n + first);
    block.lanes(|lane| {
        // All are asked for before one is waited for; past the end the last one is read again.
        let read = made(|j| activation.read(first + (lane + j * LANES).min(count - 1)));
        let values: [f32; EACH] = activation.values(read);
        unrolled::<EACH>(|j| {
            let i = lane + j * LANES;
            if i < count {
                F::put(&a.y, at + i, values[j]);
            }
        });
    });
}

kernel! {
    /// Rows in the form f32.
    pub F32 = swiglu__f32(Swiglu), lanes: LANES, geometry: geometry, body: swiglu::<_, Plain>
}
kernel! {
    /// Rows in the form f16.
    pub F16_ = swiglu__f16(Swiglu), lanes: LANES, geometry: geometry, body: swiglu::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = swiglu__bf16(Swiglu), lanes: LANES, geometry: geometry, body: swiglu::<_, Rounded>
}
