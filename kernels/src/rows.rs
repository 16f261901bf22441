//! Rows that a matrix is multiplied with, in the form that the product reads.
//!
//! * f32: as they are.
//! * bf16: rounded to nearest even.
//! * f16: a row is first multiplied by a power of two, which is exact, so that none of it overflows and little of it becomes
//!   subnormal; the inverse goes to `factors`, by which the sums are multiplied. The power is `2^(14 - floor(log2 max|x|))`, but
//!   for [`Gated`] values, and for what attention leaves, which is multiplied by 1.
//!
//! A block a row. Bytes moved: `4 n` read (twice of the longest rows for f16) and 2 or `4 n` written a row. Where several blocks
//! share a row of the form f16, each leaves its values and their greatest magnitude, and the last of them rounds.

use cuda_std::math::{exponent, max, power_of_two};
use cuda_std::{Bf16, Block, F16, Geometry, In, MmaInput, Out, Scratch, Source, kernel};

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
    /// Of the form f16, where blocks share a row.
    pub shared: Shared,
}

/// What blocks that share a row of the form f16 leave each other; empty where they do not.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Shared {
    /// `[rows, n]`: the row before it is rounded.
    pub values: Out<f32>,
    /// `[rows,` [`parts`]`]`: the greatest magnitude of each part.
    pub tops: Out<f32>,
    /// `[rows]`, zeros before and after: blocks that are done.
    pub done: Out<u32>,
}

impl Rows {
    /// Writes element `at` of all rows, as it is or rounded: not of a row that is scaled.
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

    /// That row `row` is not scaled.
    #[inline(always)]
    pub(crate) fn unscaled(&self, row: usize) {
        if self.is_f16() {
            self.factors.set(row, 1.0);
        }
    }

    #[inline(always)]
    fn is_f16(&self) -> bool {
        !self.factors.is_empty()
    }
}

/// Parts that a row of `n` elements has where blocks share it.
#[inline(always)]
pub fn parts(n: usize) -> usize {
    n.div_ceil(PART)
}

/// Elements of a row that scratch memory holds at most; of longer ones each is computed twice.
const MOST_HELD: usize = 32 << 10;

/// Elements of a row that a block writes where several share it.
const PART: usize = 2048;
/// Rows that are fewer leave a GPU idle.
const FEW: usize = 64;

/// Elements that a lane waits for at once, as many as it has of a [`PART`].
const AHEAD: usize = 4;
/// The same where a block rounds what others left.
const SHARED_AHEAD: usize = 14;

/// What an element of a row is made of.
pub trait Element: Copy {
    /// The element.
    fn value(self) -> f32;

    /// What the scale of a row of the form f16 is made of: the greatest of them.
    fn magnitude(self) -> f32;

    /// The exponent of that scale.
    fn up(most: f32) -> i32;
}

impl Element for f32 {
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }

    #[inline(always)]
    fn magnitude(self) -> f32 {
        self.abs()
    }

    #[inline(always)]
    fn up(most: f32) -> i32 {
        if most > 0.0 { 14 - exponent(most) } else { 0 }
    }
}

/// A value that is a product of two, of which none is smaller: the scale is `2^(13 - 2 floor(log2 m))`, where `m` is the greatest
/// magnitude of a row's factors, which may be known before the values are.
#[derive(Clone, Copy, Default)]
pub struct Gated {
    /// The value.
    pub value: f32,
    /// The greater magnitude of its factors.
    pub magnitude: f32,
}

impl Element for Gated {
    #[inline(always)]
    fn value(self) -> f32 {
        self.value
    }

    #[inline(always)]
    fn magnitude(self) -> f32 {
        self.magnitude
    }

    #[inline(always)]
    fn up(most: f32) -> i32 {
        if most > 0.0 { 13 - 2 * exponent(most) } else { 0 }
    }
}

/// How rows are written.
pub trait Form {
    /// Cells of scratch memory that [`write`](Self::write) takes for a row of `n` elements.
    #[inline(always)]
    fn held(n: usize) -> usize {
        let _ = n;
        0
    }

    /// Blocks that share a row of `n` elements, for [`part`](Self::part): several where there are few rows.
    #[inline(always)]
    fn parts(_: &Rows, rows: usize, n: usize) -> usize {
        if rows < FEW { parts(n) } else { 1 }
    }

    /// Elements `first..end` of a row of `n`: those of a block that is the row's `index`-th.
    #[inline(always)]
    fn part(y: &Rows, index: usize, rows: usize, n: usize) -> (usize, usize) {
        if Self::parts(y, rows, n) == 1 { (0, n) } else { (index * PART, n.min((index + 1) * PART)) }
    }

    /// Writes elements `first..end` of row `row` of `n` elements: `source`'s values of these numbers, for which it may be asked
    /// several times. All of a row's at once unless they are a [`part`](Self::part). Cell `i` of `held` may be what a lane reads
    /// for value `i`.
    fn write<B: Block, S: Source<Value: Element>>(
        block: &B,
        rows: &Rows,
        row: (usize, usize),
        part: (usize, usize),
        source: &S,
        held: &B::Scratch<f32>,
    );
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

/// The form f32.
pub struct Plain;
/// The form f16.
pub struct Scaled;
/// The form bf16.
pub struct Rounded;

impl Form for Plain {
    #[inline(always)]
    fn write<B: Block, S: Source<Value: Element>>(
        block: &B,
        rows: &Rows,
        (row, n): (usize, usize),
        (first, end): (usize, usize),
        source: &S,
        _: &B::Scratch<f32>,
    ) {
        let at = row * n + first;
        block.each_value::<AHEAD, _>(end - first, &From { source, first }, |_, i, value| {
            rows.values.set(at + i, value.value());
        });
    }
}

impl Form for Rounded {
    #[inline(always)]
    fn write<B: Block, S: Source<Value: Element>>(
        block: &B,
        rows: &Rows,
        (row, n): (usize, usize),
        (first, end): (usize, usize),
        source: &S,
        _: &B::Scratch<f32>,
    ) {
        let at = row * n + first;
        block.each_value::<AHEAD, _>(end - first, &From { source, first }, |_, i, value| {
            rows.bits.set(at + i, Bf16::from_f32(value.value()).0);
        });
    }
}

impl Form for Scaled {
    #[inline(always)]
    fn parts(y: &Rows, _: usize, n: usize) -> usize {
        if y.shared.done.is_empty() { 1 } else { parts(n) }
    }

    #[inline(always)]
    fn held(n: usize) -> usize {
        if n <= MOST_HELD { n } else { 0 }
    }

    #[inline(always)]
    fn write<B: Block, S: Source<Value: Element>>(
        block: &B,
        rows: &Rows,
        (row, n): (usize, usize),
        (first, end): (usize, usize),
        source: &S,
        held: &B::Scratch<f32>,
    ) {
        let mut most = block.per_lane(0.0f32);
        let mut see = |lane: usize, value: S::Value| most[lane] = max(most[lane], value.magnitude());
        if end - first < n {
            let Shared { values, tops, done } = rows.shared;
            let (parts, at) = (parts(n), row * n);
            block.each_value::<AHEAD, _>(end - first, &From { source, first }, |lane, i, value| {
                see(lane, value);
                values.set(at + first + i, value.value());
            });
            let top = block.max(&most);
            block.lanes(|lane| {
                if lane == 0 {
                    tops.set(row * parts + first / PART, top);
                }
            });
            if block.last(&done, row, parts) {
                let mut most = block.per_lane(0.0f32);
                block.each(parts, |lane, i| most[lane] = max(most[lane], tops.get(row * parts + i)));
                let scale = Scale::new(block, rows, row, S::Value::up(block.max(&most)));
                let read = |i: usize| values.get(at + i);
                block.each_read::<SHARED_AHEAD, _>(n, read, |_, i, value| scale.put(rows, at + i, value));
            }
            return;
        }
        let at = row * n;
        // A lane reads below what it wrote itself.
        if n <= MOST_HELD {
            block.each_value::<AHEAD, _>(n, source, |lane, i, value| {
                see(lane, value);
                held.set(lane, i, value.value());
            });
            let scale = Scale::new(block, rows, row, S::Value::up(block.max(&most)));
            let held = |i: usize| held.get(i % B::LANES, i);
            block.each_read::<AHEAD, _>(n, held, |_, i, value| scale.put(rows, at + i, value));
        } else {
            block.each_value::<AHEAD, _>(n, source, |lane, _, value| see(lane, value));
            let scale = Scale::new(block, rows, row, S::Value::up(block.max(&most)));
            block.each_value::<AHEAD, _>(n, source, |_, i, value| scale.put(rows, at + i, value.value()));
        }
    }
}

/// What a row of the form f16 is multiplied by before it is rounded.
#[derive(Clone, Copy)]
pub(crate) struct Scale(f32);

impl Scale {
    /// Of row `row`, `2^up`; its inverse goes to `factors`.
    #[inline(always)]
    pub(crate) fn new<B: Block>(block: &B, rows: &Rows, row: usize, up: i32) -> Self {
        // Powers of two whose inverse is normal, too: only rows far from f16 reach the bounds.
        let up = up.clamp(-126, 126);
        block.lanes(|lane| {
            if lane == 0 {
                rows.factors.set(row, power_of_two(-up));
            }
        });
        Self(power_of_two(up))
    }

    /// Writes element `at` of all rows.
    #[inline(always)]
    pub(crate) fn put(self, rows: &Rows, at: usize, value: f32) {
        rows.bits.set(at, F16::from_f32(value * self.0).0);
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
    Geometry { grid: [a.rows as usize, 1], scratch: 4 * F::held(a.n as usize) }
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
    let values = Values { x: a.x, start: row * n };
    F::write(block, &a.y, (row, n), (0, n), &values, &block.scratch(F::held(n)));
}

kernel! {
    /// Rows in the form f16.
    pub F16_ = rows__f16(Round), lanes: 512, geometry: geometry::<Scaled>, body: round::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = rows__bf16(Round), lanes: 512, geometry: geometry::<Rounded>, body: round::<_, Rounded>
}
