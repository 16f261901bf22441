//! The two 16-bit float types, as bits: rustc's own `f16` is not stable on the host, and there is no `bf16`.

use crate::MmaInput;

/// IEEE 754 binary16: 5 exponent bits, 10 fraction bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct F16(pub u16);

/// bfloat16: the upper half of an f32.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl F16 {
    /// The greatest number.
    pub const MAX: f32 = 65504.0;

    /// The same value as f32; exact.
    #[cfg(target_arch = "nvptx64")]
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        f16::from_bits(self.0) as f32
    }

    /// The same value as f32; exact.
    #[cfg(not(target_arch = "nvptx64"))]
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        // Exponent and fraction moved into place are the value times 2^-112, subnormals included; the product is
        // exact. Infinity and NaN keep the greatest exponent. No branches, so that lanes become SIMD.
        let magnitude = ((self.0 & 0x7fff) as u32) << 13;
        let scaled = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
        let special = if magnitude >= 0x1f << 23 { 0xff << 23 } else { 0 };
        f32::from_bits(scaled.to_bits() | special | (((self.0 & 0x8000) as u32) << 16))
    }

    /// Rounded to nearest, ties to even; too large becomes infinity.
    #[cfg(target_arch = "nvptx64")]
    #[inline(always)]
    pub fn from_f32(value: f32) -> Self {
        Self((value as f16).to_bits())
    }

    /// Rounded to nearest, ties to even; too large becomes infinity.
    #[cfg(not(target_arch = "nvptx64"))]
    #[inline(always)]
    pub fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let (sign, magnitude) = ((bits >> 16) as u16 & 0x8000, bits & 0x7fff_ffff);
        if magnitude > 0x7f80_0000 {
            return Self(0x7fff); // as the GPU's conversion answers a NaN
        }
        let rounded = if magnitude >= 0x4780_0000 {
            0x7c00 // 2^16 and more
        } else if magnitude < 0x3880_0000 {
            // Below 2^-14 the result is subnormal: adding 1/2 puts its last place, 2^-24, at f32's last place, and
            // the addition rounds.
            (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()
        } else {
            let odd = (magnitude >> 13) & 1;
            (magnitude + 0x0fff + odd - (112 << 23)) >> 13
        };
        Self(sign | rounded as u16)
    }
}

impl Bf16 {
    /// Twice the numbers in four bits each, a sign, two bits of exponent and one of fraction, times `scale`, a power of two: of
    /// the lower halves of two bytes, and of the upper ones. Exact, or infinite.
    #[cfg(target_arch = "nvptx64")]
    #[inline(always)]
    pub fn of_e2m1([first, second]: [u8; 2], scale: Bf16) -> [[u16; 2]; 2] {
        let pair = |bits: u16| bits as u32 | (bits as u32) << 16;
        // Four bits where a sign and the last bits of an exponent and a fraction are stand for the number times 2^-126, that
        // below the normal ones too.
        // SAFETY: no requirement. Each byte above one of zeros.
        let apart = unsafe { crate::device::permute_bytes(first as u32, second as u32, 0x4101) };
        let lower = apart << 4 & pair(0x8000) | apart >> 2 & pair(0x01c0);
        let upper = apart & pair(0x8000) | apart >> 6 & pair(0x01c0);
        [lower, upper].map(|tiny| {
            // Times 2^127, then the scale.
            // SAFETY: no requirement.
            let bits = unsafe {
                let doubled = crate::device::multiply_bf16_pairs(tiny, pair(254 << 7));
                crate::device::multiply_bf16_pairs(doubled, pair(scale.0))
            };
            [bits as u16, (bits >> 16) as u16]
        })
    }

    /// The same value as f32; exact.
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        f32::from_bits((self.0 as u32) << 16)
    }

    /// Rounded to nearest, ties to even.
    #[cfg(target_arch = "nvptx64")]
    #[inline(always)]
    pub fn from_f32(value: f32) -> Self {
        // SAFETY: no requirement.
        Self(unsafe { crate::device::pack_bf16(value, 0.0) } as u16)
    }

    /// Rounded to nearest, ties to even.
    #[cfg(not(target_arch = "nvptx64"))]
    #[inline(always)]
    pub fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        if bits & 0x7fff_ffff > 0x7f80_0000 {
            return Self(0x7fff); // as the GPU's conversion answers a NaN
        }
        Self(((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16)
    }
}

impl MmaInput for F16 {
    const BF16: bool = false;
    #[inline(always)]
    fn bits(value: f32) -> u16 {
        F16::from_f32(value).0
    }
    #[cfg(target_arch = "nvptx64")]
    #[inline(always)]
    fn both([low, high]: [f32; 2]) -> [u16; 2] {
        // SAFETY: no requirement.
        let bits = unsafe { crate::device::pack_f16(low, high) };
        [bits as u16, (bits >> 16) as u16]
    }
    #[cfg(not(target_arch = "nvptx64"))]
    #[inline(always)]
    fn both([low, high]: [f32; 2]) -> [u16; 2] {
        [Self::bits(low), Self::bits(high)]
    }
}

impl MmaInput for Bf16 {
    const BF16: bool = true;
    #[inline(always)]
    fn bits(value: f32) -> u16 {
        Bf16::from_f32(value).0
    }
    #[cfg(target_arch = "nvptx64")]
    #[inline(always)]
    fn both([low, high]: [f32; 2]) -> [u16; 2] {
        // SAFETY: no requirement.
        let bits = unsafe { crate::device::pack_bf16(low, high) };
        [bits as u16, (bits >> 16) as u16]
    }
    #[cfg(not(target_arch = "nvptx64"))]
    #[inline(always)]
    fn both([low, high]: [f32; 2]) -> [u16; 2] {
        [Self::bits(low), Self::bits(high)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_widens_exactly() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (F16(bits).to_f32(), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#06x}");
        }
    }

    #[test]
    fn f32_rounds_to_nearest_even_in_both_types() {
        // Every 2^8-th f32 and its neighbours, and what lies half-way between two f16.
        for high in 0..=0x00ff_ffffu32 {
            for low in [0x00, 0x01, 0xff] {
                let value = f32::from_bits(high << 8 | low);
                if value.is_nan() {
                    continue;
                }
                assert_eq!(F16::from_f32(value).0, half::f16::from_f32(value).to_bits(), "{value:e} to f16");
                assert_eq!(
                    Bf16::from_f32(value).0,
                    half::bf16::from_f32(value).to_bits(),
                    "{value:e} to bf16"
                );
            }
        }
    }

    #[test]
    fn a_nan_becomes_the_canonical_one() {
        for bits in [0x7fc0_0001, 0xff80_0001, 0x7f80_0001] {
            assert_eq!(
                (F16::from_f32(f32::from_bits(bits)).0, Bf16::from_f32(f32::from_bits(bits)).0),
                (0x7fff, 0x7fff)
            );
        }
    }
}
