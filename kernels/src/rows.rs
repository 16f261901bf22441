//! Rows that a matrix is multiplied with, in the form that the product reads.
//!
//! * f32: as they are.
//! * bf16: rounded to nearest even.
//! * f16: a row is first multiplied by `2^(14 - floor(log2 max|x|))`, which is exact, so that none of it overflows and
//!   little of it becomes subnormal; the inverse goes to `factors`, by which the sums are multiplied.
//!
//! A block a row. Bytes moved: `4 n` read (twice for f16, the second time from cache) and 2 or `4 n` written a row.

use cuda_std::math::{exponent, max, power_of_two};
use cuda_std::{Bf16, Block, F16, Geometry, In, Out, kernel};

/// Rows to write; what a form does not use is empty.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Rows {
    /// `[rows, n]`, of the form f32.
    pub values: Out<f32>,
    /// `[rows, n]`, bf16 or f16.
    pub bits: Out<u16>,
    /// `[rows]`, of the form f16: what the product's sums are multiplied by.
    pub factors: Out<f32>,
}

/// How rows are written.
pub trait Form {
    /// Writes row `row` of `n` elements; `value(i)` may be asked several times.
    fn write<B: Block>(block: &B, rows: &Rows, row: usize, n: usize, value: impl Fn(usize) -> f32);
}

/// The form f32.
pub struct Plain;
/// The form f16.
pub struct Scaled;
/// The form bf16.
pub struct Rounded;

impl Form for Plain {
    #[inline(always)]
    fn write<B: Block>(block: &B, rows: &Rows, row: usize, n: usize, value: impl Fn(usize) -> f32) {
        block.each(n, |_, i| rows.values.set(row * n + i, value(i)));
    }
}

impl Form for Rounded {
    #[inline(always)]
    fn write<B: Block>(block: &B, rows: &Rows, row: usize, n: usize, value: impl Fn(usize) -> f32) {
        block.each(n, |_, i| rows.bits.set(row * n + i, Bf16::from_f32(value(i)).0));
    }
}

impl Form for Scaled {
    #[inline(always)]
    fn write<B: Block>(block: &B, rows: &Rows, row: usize, n: usize, value: impl Fn(usize) -> f32) {
        let mut most = block.per_lane(0.0f32);
        block.each(n, |lane, i| most[lane] = max(most[lane], value(i).abs()));
        let most = block.max(&most);
        // Powers of two whose inverse is normal, too: only rows far below f16 reach the bound.
        let up = if most > 0.0 { (14 - exponent(most)).clamp(-126, 126) } else { 0 };
        let factor = power_of_two(up);
        block.each(n, |_, i| rows.bits.set(row * n + i, F16::from_f32(value(i) * factor).0));
        block.lanes(|lane| {
            if lane == 0 {
                rows.factors.set(row, power_of_two(-up));
            }
        });
    }
}

/// Arguments of [`F16_`] and [`BF16`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Round {
    /// `[rows, n]`.
    pub x: In<f32>,
    /// The same rows in their form.
    pub y: Rows,
    /// Elements in a row.
    pub n: u32,
    /// Rows.
    pub rows: u32,
}

fn geometry(a: &Round) -> Geometry {
    Geometry { grid: [a.rows as usize, 1], scratch: 0 }
}

#[inline(always)]
fn round<B: Block, F: Form>(block: &B, a: &Round) {
    let (row, n) = (block.x(), a.n as usize);
    F::write(block, &a.y, row, n, |i| a.x.get(row * n + i));
}

kernel! {
    /// Rows in the form f16.
    pub F16_ = rows__f16(Round), lanes: 1024, geometry: geometry, body: round::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = rows__bf16(Round), lanes: 1024, geometry: geometry, body: round::<_, Rounded>
}
