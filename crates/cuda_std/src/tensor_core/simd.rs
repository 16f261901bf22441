//! The step of [`super::step`] again: sixteen rows at a time, or both halves of eight columns.
//!
//! Why 32 bits suffice: a factor's significand is below 2 and a product's below 4, so that an aligned product has at most
//! 27 bits and eight of them 30. The sixteen are summed in two halves, which become f64, exactly, to be added, cut off
//! after 24 bits and scaled. What that does not cover (infinity, NaN, subnormal results) takes the slow path.
//!
//! Nothing wraps; `wrapping_add` and its like are there since the checks of debug builds would keep rows from becoming
//! SIMD.

#![allow(clippy::needless_range_loop, reason = "several arrays are walked at once")]

use super::{FRACTION, Number, format, fused_sum, product_fraction};
use crate::MmaInput;

/// One value a row of A and C.
type Rows<V> = [V; 16];

/// A by rows: `[row][k]`.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(align(64))]
pub struct A(pub(crate) [[u16; 16]; 16]);

/// B by the halves of its columns: `[k % 8][column + 8 (k / 8)]`.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(align(64))]
pub struct B([[u16; 16]; 8]);

/// C by columns: `[column][row]`.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(align(64))]
pub struct C(pub(crate) [Rows<f32>; 8]);

impl A {
    /// By columns: `[k][row]`.
    #[inline(always)]
    fn columns(&self) -> [Rows<u16>; 16] {
        let mut columns = [[0; 16]; 16];
        for k in 0..16 {
            for row in 0..16 {
                columns[k][row] = self.0[row][k];
            }
        }
        columns
    }
}

impl B {
    /// B by columns: `[column][k]`.
    #[inline(always)]
    pub(crate) fn of_columns(columns: &[[u16; 16]; 8]) -> Self {
        let mut halves = [[0; 16]; 8];
        for half in 0..2 {
            let mut square = [[0; 8]; 8];
            for column in 0..8 {
                square[column].copy_from_slice(&columns[column][half * 8..][..8]);
            }
            let square = transposed(square);
            for k in 0..8 {
                halves[k][half * 8..][..8].copy_from_slice(&square[k]);
            }
        }
        Self(halves)
    }

    /// With zeros in the rows outside of `first..end`.
    #[inline(always)]
    pub(crate) fn keep_rows(&self, first: usize, end: usize) -> Self {
        let mut kept = *self;
        for k in 0..8 {
            for i in 0..16 {
                let row = k + 8 * (i / 8);
                kept.0[k][i] = if first <= row && row < end { kept.0[k][i] } else { 0 };
            }
        }
        kept
    }

    /// `[k]` of a column.
    #[inline(always)]
    fn column(&self, column: usize) -> [u16; 16] {
        let mut values = [0; 16];
        for k in 0..16 {
            values[k] = self.0[k % 8][column + 8 * (k / 8)];
        }
        values
    }

    /// Line after line.
    #[inline(always)]
    fn flat(&self) -> &[u16; 128] {
        self.0.as_flattened().try_into().expect("8 lines of 16")
    }

    /// `[k][column]`.
    fn by_k(&self) -> [[u16; 8]; 16] {
        core::array::from_fn(|k| self.0[k % 8].as_chunks().0[k / 8])
    }
}

/// Rows as columns.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transposed(square: [[u16; 8]; 8]) -> [[u16; 8]; 8] {
    use core::arch::x86_64::{__m128i, _mm_unpackhi_epi16, _mm_unpacklo_epi16};
    // SAFETY: both are 16 bytes of integers.
    let mut lines: [__m128i; 8] = unsafe { core::mem::transmute(square) };
    // Line `i` and line `i + 4` by turns: three times, and each number is where it belongs.
    for _ in 0..3 {
        // SAFETY: every x86-64 has SSE2.
        let turns = |i: usize| unsafe {
            [_mm_unpacklo_epi16(lines[i], lines[i + 4]), _mm_unpackhi_epi16(lines[i], lines[i + 4])]
        };
        let [[a, b], [c, d], [e, f], [g, h]] = [turns(0), turns(1), turns(2), turns(3)];
        lines = [a, b, c, d, e, f, g, h];
    }
    // SAFETY: as above.
    unsafe { core::mem::transmute(lines) }
}

/// Rows as columns.
#[cfg(not(target_arch = "x86_64"))]
fn transposed(square: [[u16; 8]; 8]) -> [[u16; 8]; 8] {
    core::array::from_fn(|row| core::array::from_fn(|column| square[column][row]))
}

/// A zero's exponent: the sum of two of them still fits.
const ZERO: i16 = super::ZERO as i16;

/// The parts of 16-bit factors.
#[derive(Clone, Copy)]
struct Factors<const N: usize> {
    /// Magnitudes, with 13 bits behind the point, or 12.
    significand: [i16; N],
    /// As in [`Number`].
    exponent: [i16; N],
    /// All ones where negative.
    negative: [i16; N],
}

/// The parts of `bits`, significands with `point` bits behind the point; and whether all are finite.
#[inline(always)]
fn unpack<I: MmaInput, const N: usize>(bits: &[u16; N], point: i32) -> (Factors<N>, bool) {
    let (fraction, bias) = format::<I>();
    let mut parts = Factors { significand: [0; N], exponent: [0; N], negative: [0; N] };
    let mut greatest = 0;
    for i in 0..N {
        let field = (bits[i] & 0x7fff) >> fraction;
        let low = bits[i] & ((1 << fraction) - 1);
        let hidden = if field > 0 { 1 << fraction } else { 0 };
        let exponent = ((if field > 0 { field } else { 1 }) as i16).wrapping_sub(bias as i16);
        parts.significand[i] = ((low | hidden) << (point - fraction)) as i16;
        parts.exponent[i] = if low | hidden == 0 { ZERO } else { exponent };
        parts.negative[i] = bits[i] as i16 >> 15;
        greatest = if field > greatest { field } else { greatest };
    }
    (parts, greatest < 2 * bias as u16 + 1)
}

/// [`unpack`] of sixteen times sixteen factors.
#[inline(always)]
fn unpack_all<I: MmaInput>(bits: &[Rows<u16>; 16]) -> ([Factors<16>; 16], bool) {
    let (first, mut finite) = unpack::<I, 16>(&bits[0], 13);
    let mut all = [first; 16];
    for k in 1..16 {
        let (parts, numbers) = unpack::<I, 16>(&bits[k], 13);
        all[k] = parts;
        finite &= numbers;
    }
    (all, finite)
}

/// `c += a b` in the bits of [`super::step`].
///
/// Whatever it meets, a zero adds nothing: rows and columns of zeros are not walked along. When one sequence is decoded, all
/// rows but one are zeros, or all columns but one.
#[inline(always)]
pub(crate) fn step<I: MmaInput>(a: &A, b: &B, c: &mut C) {
    let mut rows = 0;
    for row in 0..16 {
        rows |= u32::from(a.0[row] != [0; 16]) << row;
    }
    let mut lines = [0; 16];
    for k in 0..8 {
        for i in 0..16 {
            lines[i] |= b.0[k][i];
        }
    }
    let mut columns = 0;
    for column in 0..8 {
        columns |= u32::from(lines[column] | lines[column + 8] != 0) << column;
    }
    // A column is twice the work of a row.
    if rows.count_ones() < 2 * columns.count_ones() {
        by_rows::<I>(a, b, c, rows);
    } else {
        by_columns::<I>(a, b, c, columns);
    }
}

/// Sixteen rows at a time, for each column that is not all zeros: a bit each.
#[inline(always)]
fn by_columns<I: MmaInput>(a: &A, b: &B, c: &mut C, there: u32) {
    let by_columns = a.columns();
    let (rows, finite) = unpack_all::<I>(&by_columns);
    for column in 0..8 {
        let out = &mut c.0[column];
        if there >> column & 1 == 0 {
            *out = unchanged(out);
            continue;
        }
        let factors = b.column(column);
        let (parts, numbers) = unpack::<I, 16>(&factors, FRACTION - 13);
        let sums = if finite & numbers { add(&rows, &parts, out) } else { None };
        match sums {
            Some(sums) => *out = sums,
            None => add_slowly::<I, 16>(&by_columns, &factors, out),
        }
    }
}

/// Both halves of the eight columns at a time, for each row that is not all zeros: a bit each.
#[inline(always)]
fn by_rows<I: MmaInput>(a: &A, b: &B, c: &mut C, there: u32) {
    let (parts, finite) = unpack::<I, 128>(b.flat(), 13);
    // Sums of rows that are not there are zeros, mostly.
    let mut others = [0; 16];
    for column in 0..8 {
        for row in 0..16 {
            others[row] |= c.0[column][row].to_bits();
        }
    }
    for row in 0..16 {
        others[row] &= (there >> row & 1).wrapping_sub(1);
    }
    if others != [0; 16] {
        for column in 0..8 {
            let zeros_added = unchanged(&c.0[column]);
            for row in 0..16 {
                let is_there = there >> row & 1 == 1;
                c.0[column][row] = if is_there { c.0[column][row] } else { zeros_added[row] };
            }
        }
    }
    let mut left = there;
    while left != 0 {
        let row = left.trailing_zeros() as usize % 16;
        left &= left - 1;
        let mut out = [0.0; 8];
        for column in 0..8 {
            out[column] = c.0[column][row];
        }
        let (factors, numbers) = unpack::<I, 16>(&a.0[row], FRACTION - 13);
        let sums = if finite & numbers { add_halves(&parts, &factors, &out) } else { None };
        match sums {
            Some(sums) => out = sums,
            None => add_slowly::<I, 8>(&b.by_k(), &a.0[row], &mut out),
        }
        for column in 0..8 {
            c.0[column][row] = out[column];
        }
    }
}

/// Sums to which zeros are added.
#[inline(always)]
fn unchanged(c: &Rows<f32>) -> Rows<f32> {
    c.map(|c| if c.is_finite() { c + 0.0 } else { f32::NAN })
}

/// The parts of sixteen sums.
struct Sums {
    /// With [`FRACTION`] bits behind the point.
    significand: Rows<i32>,
    exponent: Rows<i16>,
}

/// The parts of `c`; none if one is not finite.
#[inline(always)]
fn unpack_sums(c: &Rows<f32>) -> Option<Sums> {
    let mut parts = Sums { significand: [0; 16], exponent: [0; 16] };
    let mut greatest = 0;
    for i in 0..16 {
        let bits = c[i].to_bits();
        let field = (bits >> 23) & 0xff;
        let magnitude = (bits & 0x007f_ffff) | if field > 0 { 1 << 23 } else { 0 };
        let exponent = ((if field > 0 { field } else { 1 }) as i16).wrapping_sub(127);
        parts.significand[i] = (magnitude << (FRACTION - 23)) as i32;
        parts.exponent[i] = if magnitude == 0 { ZERO } else { exponent };
        greatest = if field > greatest { field } else { greatest };
    }
    (greatest < 255).then_some(parts)
}

impl Sums {
    /// Below the exponent `top`, with the signs of `c`.
    #[inline(always)]
    fn aligned(&self, c: &Rows<f32>, top: &Rows<i16>) -> Rows<i32> {
        let mut aligned = [0; 16];
        for i in 0..16 {
            let sign = c[i].to_bits() as i32 >> 31;
            let shift = top[i].wrapping_sub(self.exponent[i]).min(31);
            aligned[i] = (self.significand[i].wrapping_shr(shift as u32) ^ sign).wrapping_sub(sign);
        }
        aligned
    }
}

/// Both halves added, cut off and scaled; none if a result is not covered.
#[inline(always)]
fn finish(halves: &[Rows<i32>; 2], top: &Rows<i16>) -> Option<Rows<f32>> {
    let mut out = [0.0; 16];
    let mut covered = true;
    for i in 0..16 {
        let total = halves[0][i] as f64 + halves[1][i] as f64;
        let kept = f64::from_bits(total.to_bits() & !((1 << 29) - 1));
        // A sum of nothing but zeros is zero whatever it is scaled by.
        let exponent = if top[i] < -300 { -300 } else { top[i] };
        let value =
            kept * f64::from_bits(((exponent as i64).wrapping_add(1023 - FRACTION as i64) as u64) << 52);
        covered &= value.abs() >= f32::MIN_POSITIVE as f64 || value == 0.0;
        out[i] = value as f32;
    }
    covered.then_some(out)
}

/// `c[i] + sum over k of a[k][i] b[k]`; none if a result is not covered.
#[inline(always)]
fn add(a: &[Factors<16>; 16], b: &Factors<16>, c: &Rows<f32>) -> Option<Rows<f32>> {
    let sums = unpack_sums(c)?;
    let mut top = sums.exponent;
    for k in 0..16 {
        for i in 0..16 {
            let exponent = a[k].exponent[i].wrapping_add(b.exponent[k]);
            top[i] = if exponent > top[i] { exponent } else { top[i] };
        }
    }
    let mut halves = [[0; 16], sums.aligned(c, &top)];
    for (half, sums) in halves.iter_mut().enumerate() {
        for k in half * 8..half * 8 + 8 {
            for i in 0..16 {
                let product = (a[k].significand[i] as i32).wrapping_mul(b.significand[k] as i32);
                let exponent = a[k].exponent[i].wrapping_add(b.exponent[k]);
                let shift = top[i].wrapping_sub(exponent).min(31);
                let sign = (a[k].negative[i] ^ b.negative[k]) as i32;
                let moved = (product.wrapping_shr(shift as u32) ^ sign).wrapping_sub(sign);
                sums[i] = sums[i].wrapping_add(moved);
            }
        }
    }
    finish(&halves, &top)
}

/// `c[i] + sum over k of a[16 (k % 8) + 8 (k / 8) + i] b[k]`; none if a result is not covered.
///
/// Loops are over all 128 products: of shorter ones the compiler makes something else than SIMD.
#[inline(always)]
fn add_halves(a: &Factors<128>, b: &Factors<16>, c: &[f32; 8]) -> Option<[f32; 8]> {
    let mut both = [0.0; 16];
    both[..8].copy_from_slice(c);
    let sums = unpack_sums(&both)?;
    let mut exponents = spread(&b.exponent);
    for i in 0..128 {
        exponents[i] = exponents[i].wrapping_add(a.exponent[i]);
    }
    let mut top = sums.exponent;
    let greatest = folded(exponents, i16::max);
    for i in 0..16 {
        top[i] = top[i].max(greatest[i]);
    }
    let other = exchanged(&top);
    for i in 0..16 {
        top[i] = top[i].max(other[i]);
    }
    let tops = spread_lines(&top);
    let (significands, negatives) = (spread(&b.significand), spread(&b.negative));
    let mut moved = [0; 128];
    for i in 0..128 {
        let product = (a.significand[i] as i32).wrapping_mul(significands[i] as i32);
        let shift = tops[i].wrapping_sub(exponents[i]).min(31);
        let sign = (a.negative[i] ^ negatives[i]) as i32;
        moved[i] = (product.wrapping_shr(shift as u32) ^ sign).wrapping_sub(sign);
    }
    let mut lines = folded(moved, i32::wrapping_add);
    let aligned = sums.aligned(&both, &top);
    for i in 0..16 {
        lines[i] = lines[i].wrapping_add(aligned[i]);
    }
    let halves = [lines, exchanged(&lines)];
    finish(&halves, &top).map(|out| out.as_chunks().0[0])
}

/// Factor `k` of each half eight times, for every `k`.
#[inline(always)]
fn spread(values: &Rows<i16>) -> [i16; 128] {
    let mut all = [0; 128];
    for k in 0..8 {
        all[16 * k..16 * k + 8].fill(values[k]);
        all[16 * k + 8..16 * k + 16].fill(values[k + 8]);
    }
    all
}

/// A line eight times.
#[inline(always)]
fn spread_lines(line: &Rows<i16>) -> [i16; 128] {
    let mut all = [0; 128];
    for k in 0..8 {
        all[16 * k..16 * k + 16].copy_from_slice(line);
    }
    all
}

/// Eight lines as one.
#[inline(always)]
fn folded<V: Copy>(mut lines: [V; 128], fold: impl Fn(V, V) -> V) -> Rows<V> {
    for len in [64, 32, 16] {
        for i in 0..len {
            lines[i] = fold(lines[i], lines[i + len]);
        }
    }
    lines.as_chunks().0[0]
}

/// The second half, and then the first.
#[inline(always)]
fn exchanged<V: Copy>(lines: &Rows<V>) -> Rows<V> {
    let mut other = *lines;
    other[..8].copy_from_slice(&lines[8..]);
    other[8..].copy_from_slice(&lines[..8]);
    other
}

/// The same, number by number.
#[cold]
#[inline(never)]
fn add_slowly<I: MmaInput, const N: usize>(a: &[[u16; N]; 16], b: &[u16; 16], c: &mut [f32; N]) {
    let b = b.map(Number::of::<I>);
    for (i, c) in c.iter_mut().enumerate() {
        let a: [Number; 16] = core::array::from_fn(|k| Number::of::<I>(a[k][i]));
        *c = fused_sum(&a, &b, *c, product_fraction::<I>(), FRACTION);
    }
}

/// Whether no column of this step takes the slow path.
#[cfg(test)]
pub(super) fn covers<I: MmaInput>(a: &A, b: &B, c: &C) -> bool {
    let (rows, finite) = unpack_all::<I>(&a.columns());
    let covers = |column: usize| {
        let (parts, numbers) = unpack::<I, 16>(&b.column(column), FRACTION - 13);
        numbers && add(&rows, &parts, &c.0[column]).is_some()
    };
    finite && (0..8).all(covers)
}
