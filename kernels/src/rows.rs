//! Rows that a matrix is multiplied with, in the form that the product reads.
//!
//! * f32: as they are.
//! * bf16: rounded to nearest even.
//! * f16: a row is first multiplied by `2^(14 - floor(log2 max|x|))`, which is exact, so that none of it overflows and
//!   little of it becomes subnormal; the inverse goes to `factors`, by which the sums are multiplied.
//!
//! A block a row. Bytes moved: `4 n` read (twice of the longest rows for f16) and 2 or `4 n` written a row.

use cuda_std::math::{exponent, max, power_of_two};
use cuda_std::{Bf16, Block, F16, Geometry, In, Out, Scratch, kernel};

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

/// Elements of a row that scratch memory holds at most; of longer ones each is computed twice.
const MOST_HELD: usize = 32 << 10;

/// Elements of a row that a block writes where several share it.
const PART: usize = 4096;
/// Rows that are fewer leave a GPU idle.
const FEW: usize = 64;

/// Elements that a lane waits for at once.
const AHEAD: usize = 8;

/// How rows are written.
pub trait Form {
    /// Bytes of scratch memory for a row of `n` elements.
    fn scratch(n: usize) -> usize {
        let _ = n;
        0
    }

    /// Blocks that share a row of `n` elements, for [`part`](Self::part): several where there are few rows.
    #[inline(always)]
    fn parts(rows: usize, n: usize) -> usize {
        if rows < FEW { n.div_ceil(PART) } else { 1 }
    }

    /// Elements `first..end` of a row of `n`: those of a block that is the row's `index`-th.
    #[inline(always)]
    fn part(index: usize, rows: usize, n: usize) -> (usize, usize) {
        if Self::parts(rows, n) == 1 { (0, n) } else { (index * PART, n.min((index + 1) * PART)) }
    }

    /// Writes elements `first..end` of row `row` of `n` elements, each `value(read(i))`; both may be asked several times. All of a
    /// row's at once unless they are a [`part`](Self::part).
    fn write<B: Block, V: Copy>(
        block: &B,
        rows: &Rows,
        row: (usize, usize),
        part: (usize, usize),
        read: impl Fn(usize) -> V,
        value: impl Fn(V) -> f32,
    );
}

/// The form f32.
pub struct Plain;
/// The form f16.
pub struct Scaled;
/// The form bf16.
pub struct Rounded;

impl Form for Plain {
    #[inline(always)]
    fn write<B: Block, V: Copy>(
        block: &B,
        rows: &Rows,
        (row, n): (usize, usize),
        (first, end): (usize, usize),
        read: impl Fn(usize) -> V,
        value: impl Fn(V) -> f32,
    ) {
        let read = |i| read(first + i);
        block.each_read::<AHEAD, _>(end - first, read, |_, i, x| {
            rows.values.set(row * n + first + i, value(x))
        });
    }
}

impl Form for Rounded {
    #[inline(always)]
    fn write<B: Block, V: Copy>(
        block: &B,
        rows: &Rows,
        (row, n): (usize, usize),
        (first, end): (usize, usize),
        read: impl Fn(usize) -> V,
        value: impl Fn(V) -> f32,
    ) {
        let (read, at) = (|i| read(first + i), row * n + first);
        block.each_read::<AHEAD, _>(end - first, read, |_, i, x| {
            rows.bits.set(at + i, Bf16::from_f32(value(x)).0);
        });
    }
}

impl Form for Scaled {
    #[inline(always)]
    fn parts(_: usize, _: usize) -> usize {
        1
    }

    fn scratch(n: usize) -> usize {
        if n <= MOST_HELD { 4 * n } else { 0 }
    }

    #[inline(always)]
    fn write<B: Block, V: Copy>(
        block: &B,
        rows: &Rows,
        (row, n): (usize, usize),
        (first, end): (usize, usize),
        read: impl Fn(usize) -> V,
        value: impl Fn(V) -> f32,
    ) {
        debug_assert!(first == 0 && end == n, "the factor is of a whole row");
        // A lane reads below what it wrote itself.
        let held = block.scratch::<f32>(if n <= MOST_HELD { n } else { 0 });
        let mut most = block.per_lane(0.0f32);
        block.each_read::<AHEAD, _>(n, &read, |lane, i, x| {
            let value = value(x);
            most[lane] = max(most[lane], value.abs());
            if n <= MOST_HELD {
                held.set(lane, i, value);
            }
        });
        let most = block.max(&most);
        // Powers of two whose inverse is normal, too: only rows far below f16 reach the bound.
        let up = if most > 0.0 { (14 - exponent(most)).clamp(-126, 126) } else { 0 };
        let factor = power_of_two(up);
        let bits = |value: f32| F16::from_f32(value * factor).0;
        if n <= MOST_HELD {
            block.each(n, |lane, i| rows.bits.set(row * n + i, bits(held.get(lane, i))));
        } else {
            block.each_read::<AHEAD, _>(n, &read, |_, i, x| rows.bits.set(row * n + i, bits(value(x))));
        }
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

fn geometry<F: Form>(a: &Round) -> Geometry {
    Geometry { grid: [a.rows as usize, 1], scratch: F::scratch(a.n as usize) }
}

#[inline(always)]
fn round<B: Block, F: Form>(block: &B, a: &Round) {
    let (row, n) = (block.x(), a.n as usize);
    F::write(block, &a.y, (row, n), (0, n), |i| a.x.get(row * n + i), |x| x);
}

kernel! {
    /// Rows in the form f16.
    pub F16_ = rows__f16(Round), lanes: 512, geometry: geometry::<Scaled>, body: round::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = rows__bf16(Round), lanes: 512, geometry: geometry::<Rounded>, body: round::<_, Rounded>
}
