//! The gated activation: `y = silu(gate) up` (Shazeer 2020), as rows for the next product.
//!
//! A block a row, or several. Bytes moved: `8 n` read (twice of the longest rows of the form f16), 2 or `4 n` written a row. Where
//! the products' greatest magnitudes are known, so is the scale of a row of the form f16, and no block waits for another's.

use cuda_std::math::{max, silu};
use cuda_std::{Block, Geometry, In, Source, kernel, made, mapped};

use crate::product::{Line, Parts, Product, TOPS};
use crate::rows::{Element, Form, Gated, Plain, Rounded, Rows, Scale, Scaled};

/// Lanes of a block of [`KNOWN`], and elements of each.
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
    /// `[`[`TOPS`]`, rows]`, of [`KNOWN`]: the greatest magnitude of a row's sums of both products, as bits.
    pub tops: In<u32>,
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
    type Value = Gated;

    #[inline(always)]
    fn read(&self, i: usize) -> Self::Read {
        (self.gate.read_if::<BIASED>(i), self.up.read_if::<BIASED>(i))
    }

    #[inline(always)]
    fn values<const N: usize>(&self, read: [Self::Read; N]) -> [Gated; N] {
        let gate = self.gate.values_if::<BIASED, N>(mapped(read, |(gate, _)| gate));
        let up = self.up.values_if::<BIASED, N>(mapped(read, |(_, up)| up));
        let magnitudes: [f32; N] = made(|i| max(gate[i].abs(), up[i].abs()));
        let gate = silu(gate);
        made(|i| Gated { value: gate[i] * up[i], magnitude: magnitudes[i] })
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

fn known_geometry(a: &Swiglu) -> Geometry {
    Geometry { grid: [a.rows as usize, (a.n as usize).div_ceil(LANES * EACH)], scratch: 0 }
}

#[inline(always)]
fn known<B: Block>(block: &B, a: &Swiglu) {
    let (row, n) = (block.x(), a.n as usize);
    let (gate, up) = (a.gate.row(row), a.up.row(row));
    let first = block.y() * LANES * EACH;
    let (count, at) = ((n - first).min(LANES * EACH), row * n + first);
    let activation = Activation::<false> { gate, up };
    // All are asked for before one is waited for.
    let tops: [u32; TOPS] = made(|i| a.tops.get(i * a.rows as usize + row));
    let mut read = block.per_lane([([0.0; 2], [0.0; 2]); EACH]);
    block.lanes(|lane| {
        read[lane] = made(|j| activation.read(first + (lane + j * LANES).min(count - 1)));
    });
    let top = tops.into_iter().fold(0, u32::max);
    // Rounding keeps the order; both products have one factor and one rounding.
    let [most] = gate.values_if::<false, 1>([[f32::from_bits(top), 0.0]]);
    let scale = Scale::new(block, &a.y, row, Gated::up(most));
    block.lanes(|lane| {
        let values = activation.values(read[lane]);
        for (j, gated) in values.into_iter().enumerate() {
            let i = lane + j * LANES;
            if i < count {
                scale.put(&a.y, at + i, gated.value);
            }
        }
    });
}

kernel! {
    /// Rows in the form f16, whose greatest magnitudes are known, of products without a bias.
    pub KNOWN = swiglu__f16_known(Swiglu), lanes: LANES, geometry: known_geometry, body: known
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
