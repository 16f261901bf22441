//! The step of [`super::step`] again, sixteen rows or eight columns at a time.
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

/// B by columns: `[column][k]`.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(align(64))]
pub struct B(pub(crate) [[u16; 16]; 8]);

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

/// A zero's exponent: the sum of two of them still fits.
const ZERO: i16 = super::ZERO as i16;

/// The parts of sixteen 16-bit factors.
#[derive(Clone, Copy)]
struct Factors {
    /// Magnitudes, with 13 bits behind the point, or 12.
    significand: Rows<i16>,
    /// As in [`Number`].
    exponent: Rows<i16>,
    /// All ones where negative.
    negative: Rows<i16>,
}

/// The parts of `bits`, significands with `point` bits behind the point; and whether all are finite.
#[inline(always)]
fn unpack<I: MmaInput>(bits: &Rows<u16>, point: i32) -> (Factors, bool) {
    let (fraction, bias) = format::<I>();
    let mut parts = Factors { significand: [0; 16], exponent: [0; 16], negative: [0; 16] };
    let mut greatest = 0;
    for i in 0..16 {
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
fn unpack_all<I: MmaInput>(bits: &[Rows<u16>; 16]) -> ([Factors; 16], bool) {
    let (first, mut finite) = unpack::<I>(&bits[0], 13);
    let mut all = [first; 16];
    for k in 1..16 {
        let (parts, numbers) = unpack::<I>(&bits[k], 13);
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
    let (mut rows, mut columns) = ([0; 16], [0; 8]);
    for row in 0..16 {
        rows[row] = a.0[row].iter().fold(0, |all, bits| all | bits) & 0x7fff;
    }
    for column in 0..8 {
        columns[column] = b.0[column].iter().fold(0, |all, bits| all | bits) & 0x7fff;
    }
    let there = |bits: &[u16]| bits.iter().filter(|&&bits| bits != 0).count();
    if there(&rows) < there(&columns) {
        by_rows::<I>(a, b, c, &rows);
    } else {
        by_columns::<I>(a, b, c, &columns);
    }
}

/// Sixteen rows at a time, for each column that is not all zeros.
#[inline(always)]
fn by_columns<I: MmaInput>(a: &A, b: &B, c: &mut C, there: &[u16; 8]) {
    let by_columns = a.columns();
    let (rows, finite) = unpack_all::<I>(&by_columns);
    for column in 0..8 {
        let out = &mut c.0[column];
        if there[column] == 0 {
            *out = unchanged(out);
            continue;
        }
        let (parts, numbers) = unpack::<I>(&b.0[column], FRACTION - 13);
        let sums = if finite & numbers { add(&rows, &parts, out) } else { None };
        match sums {
            Some(sums) => *out = sums,
            None => add_slowly::<I>(&by_columns, &b.0[column], out),
        }
    }
}

/// The eight columns at a time, for each row that is not all zeros: as rows of which eight more are zeros, since loops over
/// eight are written out before anything becomes SIMD.
#[inline(always)]
fn by_rows<I: MmaInput>(a: &A, b: &B, c: &mut C, there: &Rows<u16>) {
    let mut columns = [[0; 16]; 16];
    for column in 0..8 {
        for k in 0..16 {
            columns[k][column] = b.0[column][k];
        }
    }
    let (parts, finite) = unpack_all::<I>(&columns);
    for column in 0..8 {
        let zeros_added = unchanged(&c.0[column]);
        for row in 0..16 {
            c.0[column][row] = if there[row] == 0 { zeros_added[row] } else { c.0[column][row] };
        }
    }
    for row in 0..16 {
        if there[row] == 0 {
            continue;
        }
        let mut out = [0.0; 16];
        for column in 0..8 {
            out[column] = c.0[column][row];
        }
        let values = a.0[row];
        let (factors, numbers) = unpack::<I>(&values, FRACTION - 13);
        let sums = if finite & numbers { add(&parts, &factors, &out) } else { None };
        match sums {
            Some(sums) => out = sums,
            None => add_slowly::<I>(&columns, &values, &mut out),
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

/// `c[i] + sum over k of a[k][i] b[k]`; none if a result is not covered.
#[inline(always)]
fn add(a: &[Factors; 16], b: &Factors, c: &Rows<f32>) -> Option<Rows<f32>> {
    let mut c_significand = [0; 16];
    let mut top = [0; 16];
    let mut greatest = 0;
    for i in 0..16 {
        let bits = c[i].to_bits();
        let field = (bits >> 23) & 0xff;
        let magnitude = (bits & 0x007f_ffff) | if field > 0 { 1 << 23 } else { 0 };
        let exponent = ((if field > 0 { field } else { 1 }) as i16).wrapping_sub(127);
        c_significand[i] = (magnitude << (FRACTION - 23)) as i32;
        top[i] = if magnitude == 0 { ZERO } else { exponent };
        greatest = if field > greatest { field } else { greatest };
    }
    if greatest == 255 {
        return None;
    }
    let c_exponent = top;
    for k in 0..16 {
        for i in 0..16 {
            let exponent = a[k].exponent[i].wrapping_add(b.exponent[k]);
            top[i] = if exponent > top[i] { exponent } else { top[i] };
        }
    }
    let mut halves = [[0; 16]; 2];
    for i in 0..16 {
        let sign = c[i].to_bits() as i32 >> 31;
        let shift = top[i].wrapping_sub(c_exponent[i]).min(31);
        halves[1][i] = (c_significand[i].wrapping_shr(shift as u32) ^ sign).wrapping_sub(sign);
    }
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

/// The same, number by number.
#[cold]
#[inline(never)]
fn add_slowly<I: MmaInput>(a: &[Rows<u16>; 16], b: &[u16; 16], c: &mut Rows<f32>) {
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
    let covers = |(column, c): (&[u16; 16], &Rows<f32>)| {
        let (parts, numbers) = unpack::<I>(column, FRACTION - 13);
        numbers && add(&rows, &parts, c).is_some()
    };
    finite && b.0.iter().zip(&c.0).all(covers)
}
