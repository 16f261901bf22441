//! What a matrix product of another library is tried with: random 16-bit floats, and a count of differing results.
//!
//! A draw is a block per row and 4096 columns, 2 bytes moved an element; a count is a block per 8192 values, 8 bytes
//! moved a value. Both are exact: integers without an order.
//!
//! The random bits of element `i` are `mix(seed 2^40 + i)`, the finaliser of SplitMix64 (Steele, Lea, Flood 2014).

use cuda_std::{Block, Geometry, In, Out, kernel};

/// Arguments of [`DRAW`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Draw {
    /// `[rows, columns]`: the floats' bits.
    pub out: Out<u16>,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub columns: u32,
    /// Bits of a fraction: 7 for bf16, 10 for f16.
    pub fraction: u32,
    /// Exponents are `low..low + span`, biased as the type has them; in even rows only the three in the middle.
    pub low: u32,
    /// At least 3.
    pub span: u32,
    /// This row is zeros.
    pub zero_row: u32,
    /// What neighbours have to do with each other: [`TWINS`] or [`OPPOSITES`].
    pub pairs: u32,
    /// Picks the random bits.
    pub seed: u32,
}

/// Columns `4 j` and `4 j + 1` are equal.
pub const TWINS: u32 = 0;
/// In every third row columns `2 j` and `2 j + 1` add up to their last bit: against twins, a sum cancels.
pub const OPPOSITES: u32 = 1;

/// Columns of a row that a block draws.
const COLUMNS: usize = 4096;

fn draw_geometry(a: &Draw) -> Geometry {
    Geometry { grid: [a.rows as usize, (a.columns as usize).div_ceil(COLUMNS)], scratch: 0 }
}

#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The float at a place, as if it had no neighbour: a tenth are zeros.
#[inline(always)]
fn alone(a: &Draw, row: usize, column: usize) -> u16 {
    let random = mix(((a.seed as u64) << 40) + (row * a.columns as usize + column) as u64);
    if (random as u16).is_multiple_of(10) {
        return 0;
    }
    let sign = (random >> 16) as u32 & 1;
    let fraction = (random >> 17) as u32 & ((1 << a.fraction) - 1);
    let (low, span) = if row.is_multiple_of(2) { (a.low + (a.span - 3) / 2, 3) } else { (a.low, a.span) };
    let exponent = low + (random >> 32) as u32 % span;
    (sign << 15 | exponent << a.fraction | fraction) as u16
}

#[inline(always)]
fn draw<B: Block>(block: &B, a: &Draw) {
    let (row, first) = (block.x(), block.y() * COLUMNS);
    let columns = a.columns as usize;
    block.each(COLUMNS.min(columns - first), |_, i| {
        let column = first + i;
        let paired =
            if a.pairs == TWINS { column % 4 == 1 } else { column % 2 == 1 && row.is_multiple_of(3) };
        let mut bits = alone(a, row, if paired { column - 1 } else { column });
        if paired && a.pairs == OPPOSITES && bits != 0 {
            bits ^= 0x8001;
        }
        if row == a.zero_row as usize {
            bits = 0;
        }
        a.out.set(row * columns + column, bits);
    });
}

/// Arguments of [`COUNT`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Count {
    /// `[len]`.
    pub want: In<f32>,
    /// `[len]`.
    pub got: In<f32>,
    /// A value for each [`SPAN`] values: how many of them differ in any bit.
    pub counts: Out<u64>,
    /// Values.
    pub len: u64,
}

/// Values that a block compares.
pub const SPAN: usize = 8192;

fn count_geometry(a: &Count) -> Geometry {
    Geometry { grid: [(a.len as usize).div_ceil(SPAN), 1], scratch: 0 }
}

#[inline(always)]
fn count<B: Block>(block: &B, a: &Count) {
    let first = block.x() * SPAN;
    let mut differing = block.per_lane(0u64);
    block.each(SPAN.min(a.len as usize - first), |lane, i| {
        let (want, got) = (a.want.get(first + i), a.got.get(first + i));
        differing[lane] += (want.to_bits() != got.to_bits()) as u64;
    });
    let total = block.sum_u64(&differing);
    block.lanes(|lane| {
        if lane == 0 {
            a.counts.set(block.x(), total);
        }
    });
}

kernel! {
    /// Random floats: both signs, zeros, wide and narrow exponents, pairs that cancel.
    pub DRAW = compare__draw(Draw), lanes: 256, geometry: draw_geometry, body: draw
}
kernel! {
    /// How many values differ in any bit.
    pub COUNT = compare__count(Count), lanes: 256, geometry: count_geometry, body: count
}
