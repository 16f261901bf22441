//! Rows that a matrix is multiplied with, in the form that the product reads.
//!
//! * f32: as they are.
//! * bf16: rounded to nearest even.
//! * f16: multiplied by a power of two that is the same for all, and rounded to nearest even; what would be beyond f16 is its greatest
//!   number. Normed rows are multiplied by 1, as what attention leaves, which lies between values of f16; an activation by
//!   [`ACTIVATION`], so that there is room for up to 2^20.
//!
//! A block a row, or several. Bytes moved: `4 n` read and 2 or `4 n` written a row.

use cuda_std::{Bf16, Block, F16, Geometry, In, MmaInput, Out, Source, kernel};

/// What the rows of an activation are multiplied by in the form f16.
pub const ACTIVATION: f32 = 1.0 / 16.0;

/// Rows to write; what a form does not use is empty.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Rows {
    /// `[rows, n]`, of the form f32.
    pub values: Out<f32>,
    /// `[rows, n]`, bf16 or f16.
    pub bits: Out<u16>,
    /// Of the form f16: what values are multiplied by, a power of two. 0 of the others.
    pub scale: f32,
}

impl Rows {
    /// Writes element `at` of all rows. Of the form f16 it is within that, and the scale is 1.
    #[inline(always)]
    pub(crate) fn put(&self, at: usize, value: f32) {
        if !self.values.is_empty() {
            self.values.set(at, value);
        } else {
            self.bits.set(at, if self.is_f16() { F16::bits(value) } else { Bf16::bits(value) });
        }
    }

    /// [`put`](Self::put) of the elements `at`, an even number, and `at + 1`.
    #[inline(always)]
    pub(crate) fn put_pair(&self, at: usize, [left, right]: [f32; 2]) {
        if !self.values.is_empty() {
            self.values.set(at, left);
            self.values.set(at + 1, right);
        } else {
            let pair = [left, right];
            self.bits.set_pair(at, if self.is_f16() { F16::both(pair) } else { Bf16::both(pair) });
        }
    }

    #[inline(always)]
    fn is_f16(&self) -> bool {
        self.scale > 0.0
    }
}

/// The value, or the greatest number of f16 where it is beyond that.
#[inline(always)]
pub(crate) fn within_f16(value: f32) -> f32 {
    value.clamp(-F16::MAX, F16::MAX)
}

/// Elements of a row that a block writes where several share it.
const PART: usize = 2048;
/// Rows that are fewer leave a GPU idle.
const FEW: usize = 64;
/// Elements that a lane waits for at once, as many as it has of a [`PART`].
const AHEAD: usize = 4;

/// Blocks that share a row of `n` elements, for [`part`]: several where there are few rows.
#[inline(always)]
pub(crate) fn parts(rows: usize, n: usize) -> usize {
    if rows < FEW { n.div_ceil(PART) } else { 1 }
}

/// Elements `first..end` of a row of `n`: those of a block that is the row's `index`-th.
#[inline(always)]
pub(crate) fn part(index: usize, rows: usize, n: usize) -> (usize, usize) {
    if parts(rows, n) == 1 { (0, n) } else { (index * PART, n.min((index + 1) * PART)) }
}

/// The values from `first` on.
struct From<'a, S> {
    source: &'a S,
    first: usize,
}

impl<S: Source> Source for From<'_, S> {
    type Read = S::Read;
    type Value = S::Value;

    #[inline(always)]
    fn read(&self, i: usize) -> S::Read {
        self.source.read(self.first + i)
    }

    #[inline(always)]
    fn values<const N: usize>(&self, read: [S::Read; N]) -> [S::Value; N] {
        self.source.values(read)
    }
}

/// How rows are written.
pub trait Form {
    /// Writes element `at` of all rows.
    fn put(rows: &Rows, at: usize, value: f32);

    /// Writes elements `first..end` of row `row` of `n` elements: `source`'s values of these numbers.
    #[inline(always)]
    fn write<B: Block, S: Source<Value = f32>>(
        block: &B,
        rows: &Rows,
        (row, n): (usize, usize),
        (first, end): (usize, usize),
        source: &S,
    ) {
        let at = row * n + first;
        block.each_value::<AHEAD, _>(end - first, &From { source, first }, |_, i, value| {
            Self::put(rows, at + i, value);
        });
    }
}

/// The form f32.
pub struct Plain;
/// The form f16.
pub struct Scaled;
/// The form bf16.
pub struct Rounded;

impl Form for Plain {
    #[inline(always)]
    fn put(rows: &Rows, at: usize, value: f32) {
        rows.values.set(at, value);
    }
}

impl Form for Rounded {
    #[inline(always)]
    fn put(rows: &Rows, at: usize, value: f32) {
        rows.bits.set(at, Bf16::bits(value));
    }
}

impl Form for Scaled {
    #[inline(always)]
    fn put(rows: &Rows, at: usize, value: f32) {
        rows.bits.set(at, F16::bits(within_f16(value * rows.scale)));
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
    Geometry { grid: [a.rows as usize, parts(a.rows as usize, a.n as usize)], scratch: 0 }
}

/// A row as it is.
struct Values {
    x: In<f32>,
    start: usize,
}

impl Source for Values {
    type Read = f32;
    type Value = f32;

    #[inline(always)]
    fn read(&self, i: usize) -> f32 {
        self.x.get(self.start + i)
    }

    #[inline(always)]
    fn values<const N: usize>(&self, read: [f32; N]) -> [f32; N] {
        read
    }
}

#[inline(always)]
fn round<B: Block, F: Form>(block: &B, a: &Round) {
    let (row, n) = (block.x(), a.n as usize);
    let part = part(block.y(), a.rows as usize, n);
    F::write(block, &a.y, (row, n), part, &Values { x: a.x, start: row * n });
}

kernel! {
    /// Rows in the form f16.
    pub F16_ = rows__f16(Round), lanes: 512, geometry: geometry, body: round::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = rows__bf16(Round), lanes: 512, geometry: geometry, body: round::<_, Rounded>
}
