//! Two f16s that are computed with together: a GPU has one instruction for both.

use crate::{F16, Team};

/// Two integers of ten bits, one in each half of a word. On a GPU each half is an f16: there is the exponent of 1024 above it, and
/// an integer is added to that.
#[derive(Clone, Copy)]
pub struct Integers(u32);

/// What is above each integer.
#[cfg(target_arch = "nvptx64")]
const ABOVE: u16 = 0x6400;
#[cfg(not(target_arch = "nvptx64"))]
const ABOVE: u16 = 0;

impl Integers {
    /// The two bytes from `first` on of four.
    #[cfg(target_arch = "nvptx64")]
    #[inline(always)]
    pub fn bytes(four: u32, first: usize) -> Self {
        // Beside the lane's number, which makes it stay in a register: the instruction takes one constant.
        let above = (ABOVE >> 8) as u32 | (crate::device::thread() as u32) << 8;
        // SAFETY: no requirement.
        Self(unsafe { crate::device::permute_bytes(four, above, 0x4140 + 0x0101 * first as u32) })
    }

    /// The two bytes from `first` on of four.
    #[cfg(not(target_arch = "nvptx64"))]
    #[inline(always)]
    pub fn bytes(four: u32, first: usize) -> Self {
        let bytes = four >> (8 * first);
        Self(bytes & 0xff | (bytes & 0xff00) << 8)
    }

    /// Signed bytes, plus 128.
    #[inline(always)]
    pub fn signed_bytes(four: u32, first: usize) -> Self {
        Self(Self::bytes(four, first).0 ^ twice(0x80))
    }

    /// Their bits that are in `mask`, where they are.
    #[inline(always)]
    pub fn bits(self, mask: u16) -> Self {
        Self(self.0 & twice(mask | ABOVE))
    }

    /// The integers, as multiples of two to the power `unit`, less `minus`, which is below `2^(10 - unit)`; exact.
    #[cfg(target_arch = "nvptx64")]
    #[inline(always)]
    pub fn less(self, minus: u16, unit: usize) -> F16x2 {
        // With the units that are in 1024.
        let minus = twice((0xe400 - (unit << 10) as u16) + (minus << unit));
        // SAFETY: no requirement.
        F16x2(unsafe {
            if unit == 0 {
                crate::device::add_f16_pairs(self.0, minus)
            } else {
                crate::device::fuse_f16_pairs(self.0, twice(0x3c00 - (unit << 10) as u16), minus)
            }
        })
    }

    /// The integers, as multiples of two to the power `unit`, less `minus`, which is below `2^(10 - unit)`; exact.
    #[cfg(not(target_arch = "nvptx64"))]
    #[inline(always)]
    pub fn less(self, minus: u16, unit: usize) -> F16x2 {
        let whole = self.0 >> unit;
        F16x2(crate::math::integers([whole as u8, (whole >> 16) as u8], minus as u32))
    }
}

/// Bits twice.
#[inline(always)]
const fn twice(bits: u16) -> u32 {
    bits as u32 | (bits as u32) << 16
}

/// Two f16s, side by side.
#[derive(Clone, Copy)]
pub struct F16x2(Repr);

/// What is computed of two, rounded once to nearest even: on a GPU at once, on the host when it is taken.
#[derive(Clone, Copy)]
pub struct Results(Repr);

/// The first in the lower half.
#[cfg(target_arch = "nvptx64")]
type Repr = u32;
/// The same values; of [`Results`] what rounds to them.
#[cfg(not(target_arch = "nvptx64"))]
type Repr = [f32; 2];

#[cfg(target_arch = "nvptx64")]
impl F16x2 {
    /// A value twice.
    #[inline(always)]
    pub fn both<T: Team>(value: F16) -> Self {
        Self(value.0 as u32).one(0)
    }

    /// One of them twice.
    #[inline(always)]
    pub fn one(self, i: usize) -> Self {
        // SAFETY: no requirement.
        Self(unsafe {
            if i == 0 {
                crate::device::repeat_low_f16(self.0)
            } else {
                crate::device::repeat_high_f16(self.0)
            }
        })
    }

    /// Their negatives.
    #[inline(always)]
    pub fn negated(self) -> Self {
        Self(self.0 ^ twice(0x8000))
    }

    /// Products.
    #[inline(always)]
    pub fn times(self, by: Self) -> Results {
        // SAFETY: no requirement.
        Results(unsafe { crate::device::multiply_f16_pairs(self.0, by.0) })
    }

    /// `self * by + add` of each.
    #[inline(always)]
    pub fn fused(self, by: Self, add: Self) -> Results {
        // SAFETY: no requirement.
        Results(unsafe { crate::device::fuse_f16_pairs(self.0, by.0, add.0) })
    }
}

#[cfg(target_arch = "nvptx64")]
impl Results {
    /// As f16s.
    #[inline(always)]
    pub fn rounded(self) -> F16x2 {
        F16x2(self.0)
    }

    /// As bits of f16s.
    #[inline(always)]
    pub fn bits(self) -> [u16; 2] {
        [self.0 as u16, (self.0 >> 16) as u16]
    }
}

#[cfg(not(target_arch = "nvptx64"))]
impl F16x2 {
    /// A value twice.
    #[inline(always)]
    pub fn both<T: Team>(value: F16) -> Self {
        Self([T::widen(value); 2])
    }

    /// One of them twice.
    #[inline(always)]
    pub fn one(self, i: usize) -> Self {
        Self([self.0[i]; 2])
    }

    /// Their negatives.
    #[inline(always)]
    pub fn negated(self) -> Self {
        Self([-self.0[0], -self.0[1]])
    }

    /// Products.
    #[inline(always)]
    pub fn times(self, by: Self) -> Results {
        // Those of two f16 are exact in f32.
        Results([self.0[0] * by.0[0], self.0[1] * by.0[1]])
    }

    /// `self * by + add` of each.
    #[inline(always)]
    pub fn fused(self, by: Self, add: Self) -> Results {
        Results([odd_sum(self.0[0] * by.0[0], add.0[0]), odd_sum(self.0[1] * by.0[1], add.0[1])])
    }
}

#[cfg(not(target_arch = "nvptx64"))]
impl Results {
    /// As f16s.
    #[inline(always)]
    pub fn rounded(self) -> F16x2 {
        F16x2([F16::from_f32(self.0[0]).to_f32(), F16::from_f32(self.0[1]).to_f32()])
    }

    /// As bits of f16s.
    #[inline(always)]
    pub fn bits(self) -> [u16; 2] {
        [F16::from_f32(self.0[0]).0, F16::from_f32(self.0[1]).0]
    }
}

/// `a + b`, of which what does not fit makes the last bit odd, so that rounding it to fewer bits is rounding the sum (Boldo and
/// Melquiond 2008).
#[cfg(not(target_arch = "nvptx64"))]
#[inline(always)]
fn odd_sum(a: f32, b: f32) -> f32 {
    let sum = a + b;
    // What the rounding lost, exactly (Knuth's two-sum); not a number beside an infinity.
    let part = sum - a;
    let lost = (a - (sum - part)) + (b - part);
    let inexact = lost.abs() > 0.0;
    let away = inexact && (lost < 0.0) != (sum < 0.0);
    f32::from_bits((sum.to_bits() - away as u32) | inexact as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The f16 nearest to `value`, ties to even, by its definition.
    fn nearest(value: f64) -> f64 {
        let exponent = (value.abs().log2().floor()).clamp(-14.0, 16.0);
        let unit = 2f64.powi(exponent as i32 - 10);
        let rounded = (value / unit).round_ties_even() * unit;
        if rounded.abs() > 65504.0 { f64::INFINITY.copysign(value) } else { rounded }
    }

    #[test]
    fn a_fused_sum_is_rounded_once() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            F16((state >> 40) as u16)
        };
        let mut seen = 0;
        while seen < 2_000_000 {
            let (scale, add) = (random(), random());
            let (scale, add) = (scale.to_f32(), add.to_f32());
            let q = (random().0 % 256) as f32;
            if !scale.is_finite() || !add.is_finite() {
                continue;
            }
            seen += 1;
            let fused = F16x2([q; 2]).fused(F16x2([scale; 2]), F16x2([add; 2])).rounded();
            let want = nearest(q as f64 * scale as f64 + add as f64);
            assert_eq!(fused.0[0] as f64, want, "{q} * {scale:e} + {add:e}");
        }
    }

    #[test]
    fn a_sum_between_two_that_f32_would_round_to_a_tie() {
        // 1 + 2^-11 is half-way between two f16; 2^-24 more or less decides, and f32 does not have it.
        for (least, want) in [(2f32.powi(-24), 1.0 + 2f32.powi(-10)), (-(2f32.powi(-24)), 1.0)] {
            let sum = odd_sum(1.0 + 2f32.powi(-11), least);
            assert_eq!(F16::from_f32(sum).to_f32(), want);
        }
    }

    #[test]
    fn integers_are_taken_apart_and_joined() {
        let word = 0xc3a5_7e91;
        assert_eq!(Integers::bytes(word, 0).less(0, 0).0, [0x91 as f32, 0x7e as f32]);
        assert_eq!(Integers::bytes(word, 2).less(32, 0).0, [(0xa5 - 32) as f32, (0xc3 - 32) as f32]);
        assert_eq!(Integers::signed_bytes(word, 0).less(128, 0).0, [-111.0, 126.0]);
        assert_eq!(Integers::bytes(word, 0).bits(0xf0).less(8, 4).0, [1.0, -1.0]);
    }
}
