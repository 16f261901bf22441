//! What a tensor core computes in one step, to the bit, in integer arithmetic.
//!
//! The model is Hopper's, for `mma.sync.m16n8k16` with an f32 accumulator and bf16 or f16 inputs: the sixteen products
//! and the accumulator form one fused group. Every product is exact; all seventeen terms are aligned to the greatest
//! exponent among them (a product's is the sum of its factors' exponents, not normalised; a subnormal's is that of the
//! least normal number) with 25 bits kept behind the point and the rest cut off towards zero; their sum is rounded to f32
//! towards zero. Measured steps of an H100 are in `tests/golden/mma_sm90_*.bin`. Infinity, NaN and results beyond f32 are
//! not part of what was measured; here they give NaN and infinity, but times a zero, nothing.
//!
//! [`step`] is that, to be read. What kernels run on the host is in `simd.rs`: the same bits, sixteen rows at once.

use crate::MmaInput;

pub(crate) mod simd;

/// Bits that Hopper keeps behind the point of the greatest term.
const FRACTION: i32 = 25;

/// How a family of chips adds the products of a step up: in groups, each fused with the accumulator, one after the other
/// with `k` upwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chip {
    /// The family's name.
    pub name: &'static str,
    /// Products in a group; divides 16.
    pub group: usize,
    /// Bits kept behind the point of a group's greatest term; at least 23.
    pub fraction: i32,
}

/// The one that this project has measured, on an H100; what kernels on the host compute.
pub const HOPPER: Chip = Chip { name: "hopper", group: 16, fraction: FRACTION };

/// The models that a chip can be compared with. Those besides [`HOPPER`] are as published by others (Fasi, Higham,
/// Mikaitis and Pranesh 2021, and work that followed) and were not measured by this project.
pub const CHIPS: [Chip; 3] = [
    HOPPER,
    Chip { name: "ampere", group: 8, fraction: 24 },
    Chip { name: "volta and turing", group: 4, fraction: 23 },
];

/// `c += a b`, where `a` has 16 rows of 16 and `b` 8 columns of 16.
pub fn step<I: MmaInput>(a: &[[u16; 16]; 16], b: &[[u16; 16]; 8], c: &mut [[f32; 8]; 16]) {
    HOPPER.step::<I>(a, b, c);
}

impl Chip {
    /// `c += a b` as this chip computes it, where `a` has 16 rows of 16 and `b` 8 columns of 16.
    pub fn step<I: MmaInput>(&self, a: &[[u16; 16]; 16], b: &[[u16; 16]; 8], c: &mut [[f32; 8]; 16]) {
        let a = a.map(|row| row.map(Number::of::<I>));
        let b = b.map(|column| column.map(Number::of::<I>));
        for (row, out) in a.iter().zip(c) {
            for (column, out) in b.iter().zip(out) {
                for (row, column) in row.chunks(self.group).zip(column.chunks(self.group)) {
                    *out = fused_sum(row, column, *out, product_fraction::<I>(), self.fraction);
                }
            }
        }
    }
}

/// Bits behind the point of an input, and what is added to its exponent.
const fn format<I: MmaInput>() -> (i32, i32) {
    if I::BF16 { (7, 127) } else { (10, 15) }
}

/// Bits behind the point of a product.
const fn product_fraction<I: MmaInput>() -> i32 {
    2 * format::<I>().0
}

/// A number `significand * 2^(exponent - fraction bits of its type)`.
#[derive(Clone, Copy)]
struct Number {
    /// Signed; 0 for zero.
    significand: i32,
    /// `floor(log2 |x|)`; of a subnormal that of the least normal number, of a zero lower than any other.
    exponent: i32,
}

/// A zero's exponent: the sum of it and any other stays below every number's.
const ZERO: i32 = -10_000;
/// The exponent of infinity and NaN: the sum of it and any other but a zero's stays above every number's.
const SPECIAL: i32 = 5_000;

impl Number {
    /// The input that has these bits.
    fn of<I: MmaInput>(bits: u16) -> Self {
        let (fraction, bias) = format::<I>();
        Self::unpack((bits & 0x7fff) as u32, bits >> 15 == 1, fraction, bias)
    }

    fn unpack(magnitude: u32, negative: bool, fraction: i32, bias: i32) -> Self {
        let (field, low) = ((magnitude >> fraction) as i32, (magnitude & ((1 << fraction) - 1)) as i32);
        let (significand, exponent) = if field == 2 * bias + 1 {
            (1, SPECIAL)
        } else if field > 0 {
            (low | 1 << fraction, field - bias)
        } else if low == 0 {
            (0, ZERO)
        } else {
            (low, 1 - bias)
        };
        Self { significand: if negative { -significand } else { significand }, exponent }
    }
}

/// `c + sum of a[k] b[k]`, whose products have `product_fraction` bits behind the point, with `fraction` bits kept.
fn fused_sum(a: &[Number], b: &[Number], c: f32, product_fraction: i32, fraction: i32) -> f32 {
    let c = Number::unpack(c.to_bits() & 0x7fff_ffff, c.is_sign_negative(), 23, 127);
    let mut top = c.exponent;
    for (x, y) in a.iter().zip(b) {
        top = top.max(x.exponent + y.exponent);
    }
    if top > SPECIAL / 2 {
        return f32::NAN;
    }
    // `significand` with `point` bits behind the point, moved down to `top`: the rest is cut off towards zero.
    let align = |significand: i64, point: i32, exponent: i32| {
        (significand << (fraction - point)) / (1i64 << (top - exponent).min(62))
    };
    let mut total = align(c.significand as i64, 23, c.exponent);
    for (x, y) in a.iter().zip(b) {
        let product = x.significand as i64 * y.significand as i64;
        total += align(product, product_fraction, x.exponent + y.exponent);
    }
    round_towards_zero(total, top - fraction)
}

/// `total * 2^exponent` as f32, cut off towards zero.
fn round_towards_zero(total: i64, exponent: i32) -> f32 {
    let magnitude = total.unsigned_abs();
    if magnitude == 0 {
        return 0.0;
    }
    let top = 63 - magnitude.leading_zeros() as i32 + exponent;
    if top > 127 {
        return if total < 0 { f32::NEG_INFINITY } else { f32::INFINITY };
    }
    // The last place kept: 2^(top - 23), or 2^-149 for a subnormal result.
    let drop = (top - 23).max(-149) - exponent;
    let kept = if drop >= 64 {
        0
    } else if drop >= 0 {
        magnitude >> drop
    } else {
        magnitude << -drop
    } as u32;
    let bits = if top < -126 { kept } else { (kept & 0x007f_ffff) | (((top + 127) as u32) << 23) };
    f32::from_bits(bits | if total < 0 { 1 << 31 } else { 0 })
}

#[cfg(test)]
mod tests;
