//! The types of floats that kernels compute with, by the `half` crate.

use half::{bf16, f16};
use kernels::product::Rounding;

/// A type of float.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Float {
    F32,
    F16,
    Bf16,
}

impl Float {
    pub(crate) const ALL: [Float; 3] = [Float::F32, Float::F16, Float::Bf16];
    /// The tensor core's inputs.
    pub(crate) const HALVES: [Float; 2] = [Float::F16, Float::Bf16];

    /// As kernels' names have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Float::F32 => "f32",
            Float::F16 => "f16",
            Float::Bf16 => "bf16",
        }
    }

    /// The nearest bits of a 16-bit type; of f32 the upper half.
    pub(crate) fn bits(self, value: f32) -> u16 {
        match self {
            Float::F32 => (value.to_bits() >> 16) as u16,
            Float::F16 => f16::from_f32(value).to_bits(),
            Float::Bf16 => bf16::from_f32(value).to_bits(),
        }
    }

    /// What the bits of a 16-bit type stand for.
    pub(crate) fn value(self, bits: u16) -> f64 {
        match self {
            Float::F16 => f16::from_bits(bits).to_f64(),
            Float::F32 | Float::Bf16 => bf16::from_bits(bits).to_f64(),
        }
    }

    /// The nearest value of this type.
    pub(crate) fn round(self, value: f32) -> f32 {
        match self {
            Float::F32 => value,
            _ => self.value(self.bits(value)) as f32,
        }
    }

    /// The smallest number with a full fraction.
    pub(crate) fn least_normal(self) -> f64 {
        match self {
            Float::F16 => f16::MIN_POSITIVE.to_f64(),
            Float::F32 | Float::Bf16 => bf16::MIN_POSITIVE.to_f64(),
        }
    }

    /// By how much rounding a value of at most this magnitude changes it at most.
    pub(crate) fn half_unit(self, magnitude: f64) -> f64 {
        let fraction = match self {
            Float::F32 => 24,
            Float::F16 => 11,
            Float::Bf16 => 8,
        };
        magnitude.abs().max(self.least_normal()) * 2f64.powi(-fraction)
    }

    /// As a product's arguments name it.
    pub(crate) fn rounding(self) -> Rounding {
        match self {
            Float::F32 => Rounding::NONE,
            Float::F16 => Rounding::F16,
            Float::Bf16 => Rounding::BF16,
        }
    }
}
