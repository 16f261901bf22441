//! What a tensor core computes in one step, to the bit, in integer arithmetic.
//!
//! The model is Hopper's, for `mma.sync.m16n8k16` with an f32 accumulator and bf16 or f16 inputs: the sixteen products
//! and the accumulator form one fused group. Every product is exact; all seventeen terms are aligned to the greatest
//! exponent among them (a product's is the sum of its factors' exponents, not normalised; a subnormal's is that of the
//! least normal number) with 25 bits kept behind the point and the rest cut off towards zero; their sum is rounded to f32
//! towards zero. Measured steps of an H100 are in `tests/golden/mma_sm90_*.bin`. Infinity, NaN and results beyond f32 are not part of what was measured; here they
//! give NaN and infinity.

use crate::MmaInput;

/// Bits kept behind the point of the greatest term.
const FRACTION: i32 = 25;

/// `c += a b`, where `a` has 16 rows of 16 and `b` 8 columns of 16.
pub fn step<I: MmaInput>(a: &[[u16; 16]; 16], b: &[[u16; 16]; 8], c: &mut [[f32; 8]; 16]) {
    let (fraction, bias) = if I::BF16 { (7, 127) } else { (10, 15) };
    let number = |bits: u16| Number::unpack((bits & 0x7fff) as u32, bits >> 15 == 1, fraction, bias);
    let a = a.map(|row| row.map(number));
    let b = b.map(|column| column.map(number));
    for (row, out) in a.iter().zip(c) {
        for (column, out) in b.iter().zip(out) {
            *out = fused_sum(row, column, *out, 2 * fraction);
        }
    }
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

/// `c + sum of a[k] b[k]`, whose products have `product_fraction` bits behind the point.
fn fused_sum(a: &[Number; 16], b: &[Number; 16], c: f32, product_fraction: i32) -> f32 {
    let c = Number::unpack(c.to_bits() & 0x7fff_ffff, c.is_sign_negative(), 23, 127);
    let mut top = c.exponent;
    for (x, y) in a.iter().zip(b) {
        top = top.max(x.exponent + y.exponent);
    }
    if top > SPECIAL / 2 {
        return f32::NAN;
    }
    let mut total = align(c.significand as i64, 23, top - c.exponent);
    for (x, y) in a.iter().zip(b) {
        let product = x.significand as i64 * y.significand as i64;
        total += align(product, product_fraction, top - x.exponent - y.exponent);
    }
    round_towards_zero(total, top - FRACTION)
}

/// `significand` with `fraction` bits behind the point, moved down by `shift` places: `FRACTION` bits are kept and the
/// rest is cut off towards zero.
#[inline(always)]
fn align(significand: i64, fraction: i32, shift: i32) -> i64 {
    (significand << (FRACTION - fraction)) / (1i64 << shift.min(62))
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
mod tests {
    use super::*;
    use crate::{Bf16, F16};
    use std::path::PathBuf;

    /// Steps of an H100, as `[a, b, c, d]` arrays one after the other: u16 [w, 16, 16], u16 [w, 8, 16], f32 [w, 16, 8]
    /// twice.
    fn equals_the_measured_steps<I: MmaInput>(file: &str) {
        let folder = std::env::var_os("WORKER_ORCD_TEST_DATA")
            .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden").into(), PathBuf::from);
        let raw = std::fs::read(folder.join(file)).expect("golden file");
        let steps = raw.len() / 1792;
        assert!(steps >= 64, "{file} is too short");
        let u16_at = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
        let f32_at = |at: usize| f32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let mut wrong = 0;
        for w in 0..steps {
            let (at_a, at_b) = (w * 512, steps * 512 + w * 256);
            let (at_c, at_d) = (steps * 768 + w * 512, steps * 1280 + w * 512);
            let a = core::array::from_fn(|i| core::array::from_fn(|k| u16_at(at_a + 2 * (16 * i + k))));
            let b = core::array::from_fn(|i| core::array::from_fn(|k| u16_at(at_b + 2 * (16 * i + k))));
            let mut c = core::array::from_fn(|i| core::array::from_fn(|j| f32_at(at_c + 4 * (8 * i + j))));
            step::<I>(&a, &b, &mut c);
            for (n, got) in c.as_flattened().iter().enumerate() {
                wrong += (got.to_bits() != f32_at(at_d + 4 * n).to_bits()) as usize;
            }
        }
        assert_eq!(wrong, 0, "{file}: values that differ, of {}", steps * 128);
    }

    #[test]
    fn bf16_steps_equal_the_measured_ones() {
        (0..3).for_each(|i| equals_the_measured_steps::<Bf16>(&format!("mma_sm90_bf16_{i}.bin")));
    }

    #[test]
    fn f16_steps_equal_the_measured_ones() {
        (0..3).for_each(|i| equals_the_measured_steps::<F16>(&format!("mma_sm90_f16_{i}.bin")));
    }

    #[test]
    fn a_subnormal_pushes_bits_out_as_the_least_normal_number_would() {
        // Measured on an H100: the product of 2^-24 and -359.5 is far from the greatest, its exponents' sum is not.
        let (mut a, mut b) = ([[0; 16]; 16], [[0; 16]; 8]);
        a[0][..8].copy_from_slice(&[0x9e50, 0x1e51, 0x0000, 0x8001, 0x9005, 0x1004, 0xa985, 0x2984]);
        b[0][..8].copy_from_slice(&[0x8efb, 0x8efb, 0x6bf3, 0xdd9e, 0x26a5, 0x26a5, 0x1565, 0x9a11]);
        let mut c = [[0.0; 8]; 16];
        step::<F16>(&a, &b, &mut c);
        assert_eq!(c[0][0].to_bits(), 0xb92a_ef80);
    }

    #[test]
    fn rounding_reaches_subnormals_and_keeps_the_sign() {
        assert_eq!(round_towards_zero(3, -150).to_bits(), 1);
        assert_eq!(round_towards_zero(-3, -150), -f32::from_bits(1));
        assert_eq!(round_towards_zero(1, -150).to_bits(), 0);
        assert_eq!(round_towards_zero(0x1ff_ffff, 0), 33_554_430.0);
    }
}
