//! Values from the form a folder stores them in to the one the device is to have.
//!
//! Q8_0 and Q4_0 are made as GGUF's reference makes them, byte for byte: a scale a block of 32 values, in f32 until it is
//! stored, each value over it rounded to nearest, halves away from zero. Q8_0's scale is the greatest magnitude over 127; Q4_0's
//! is the value of greatest magnitude over -8, the first of several.

use cuda_std::{Bf16, F16};
use safetensors::Dtype;

use crate::gguf::TensorType;

/// Values in a quantised block.
const BLOCK: usize = 32;

/// Types that a folder's matrices can be quantised to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quant {
    /// 8 bits a value, and an f16 scale for 32.
    Q8_0,
    /// 4 bits a value, and an f16 scale for 32.
    Q4_0,
}

impl Quant {
    /// The tensor type.
    pub fn tensor_type(self) -> TensorType {
        match self {
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q4_0 => TensorType::Q4_0,
        }
    }

    /// `q8_0`, `q4_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }
}

impl std::str::FromStr for Quant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "q8_0" => Ok(Self::Q8_0),
            "q4_0" => Ok(Self::Q4_0),
            _ => Err("a folder is quantised to q8_0 or q4_0".to_owned()),
        }
    }
}

/// How a folder's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Float {
    F32,
    F16,
    Bf16,
}

impl Float {
    /// That of a tensor; `None` if it is no float that weights are stored in.
    pub(super) fn from(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    pub(super) fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// The same form on the device.
    pub(super) fn tensor_type(self) -> TensorType {
        match self {
            Self::F32 => TensorType::F32,
            Self::F16 => TensorType::F16,
            Self::Bf16 => TensorType::BF16,
        }
    }

    /// The value of each of the bytes' elements, exactly.
    #[inline(always)]
    fn widen(self, from: &[u8], into: &mut [f32]) {
        let halves = from.as_chunks::<2>().0;
        match self {
            Self::F32 => {
                for (value, bytes) in into.iter_mut().zip(from.as_chunks().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            Self::F16 => {
                for (value, bytes) in into.iter_mut().zip(halves) {
                    *value = F16(u16::from_le_bytes(*bytes)).to_f32();
                }
            }
            Self::Bf16 => {
                for (value, bytes) in into.iter_mut().zip(halves) {
                    *value = Bf16(u16::from_le_bytes(*bytes)).to_f32();
                }
            }
        }
    }
}

/// Writes `from`, elements of `float`, as `to`; `into` is as long as that makes them.
///
/// # Errors
/// What keeps a value from being stored so.
pub(super) fn encode(float: Float, from: &[u8], to: TensorType, into: &mut [u8]) -> Result<(), String> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions.
        return unsafe { encode_avx2(float, from, to, into) };
    }
    encode_any(float, from, to, into)
}

/// The same, compiled for wider registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn encode_avx2(float: Float, from: &[u8], to: TensorType, into: &mut [u8]) -> Result<(), String> {
    encode_any(float, from, to, into)
}

#[inline(always)]
fn encode_any(float: Float, from: &[u8], to: TensorType, into: &mut [u8]) -> Result<(), String> {
    match to {
        TensorType::F32 => {
            let mut values = [0.0; BLOCK];
            for (from, into) in from.chunks(BLOCK * float.bytes()).zip(into.chunks_mut(4 * BLOCK)) {
                let values = &mut values[..into.len() / 4];
                float.widen(from, values);
                for (value, bytes) in values.iter().zip(into.as_chunks_mut().0) {
                    *bytes = value.to_le_bytes();
                }
            }
            Ok(())
        }
        TensorType::Q8_0 => blocks::<34>(float, from, into, q8_0),
        TensorType::Q4_0 => blocks::<18>(float, from, into, q4_0),
        _ => {
            assert_eq!(to, float.tensor_type(), "values keep their form, are widened or quantised");
            into.copy_from_slice(from);
            Ok(())
        }
    }
}

/// Quantises block by block.
#[inline(always)]
fn blocks<const BYTES: usize>(
    float: Float,
    from: &[u8],
    into: &mut [u8],
    block: impl Fn(&[f32; BLOCK], &mut [u8; BYTES]) -> f32,
) -> Result<(), String> {
    let mut values = [0.0; BLOCK];
    for (from, into) in from.chunks_exact(BLOCK * float.bytes()).zip(into.as_chunks_mut::<BYTES>().0) {
        float.widen(from, &mut values);
        let scale = block(&values, into);
        if !F16::from_f32(scale).to_f32().is_finite() {
            return Err(match values.iter().find(|value| !value.is_finite()) {
                Some(value) => format!("has the value {value}, which cannot be quantised"),
                None => format!("has values of up to {:e}, too large to be quantised", scale.abs() * 8.0),
            });
        }
    }
    Ok(())
}

/// A scale, and 32 signed bytes.
#[inline(always)]
fn q8_0(values: &[f32; BLOCK], into: &mut [u8; 34]) -> f32 {
    let scale = Extremes::of(values).magnitude() / 127.0;
    let inverse = inverse(scale);
    let mut quants = [0; BLOCK];
    for i in 0..BLOCK {
        let scaled = values[i] * inverse;
        let nearest = nearest(scaled.abs());
        // An exact half may have been brought to the even side.
        let rounded = if scaled.abs() - nearest == 0.5 { nearest + 1.0 } else { nearest };
        quants[i] = byte(if scaled < 0.0 { 256.0 - rounded } else { rounded });
    }
    let (head, body) = into.split_at_mut(2);
    head.copy_from_slice(&F16::from_f32(scale).0.to_le_bytes());
    body.copy_from_slice(&quants);
    scale
}

/// A scale, and 16 bytes of which each holds value `i` below and value `i + 16` above.
#[inline(always)]
fn q4_0(values: &[f32; BLOCK], into: &mut [u8; 18]) -> f32 {
    let scale = Extremes::of(values).first(values) / -8.0;
    let inverse = inverse(scale);
    let mut quants = [0; BLOCK];
    for i in 0..BLOCK {
        let shifted = values[i] * inverse + 8.5;
        let nearest = nearest(shifted);
        let whole = if nearest > shifted { nearest - 1.0 } else { nearest };
        quants[i] = byte(if whole > 15.0 { 15.0 } else { whole });
    }
    let (head, body) = into.split_at_mut(2);
    head.copy_from_slice(&F16::from_f32(scale).0.to_le_bytes());
    for i in 0..BLOCK / 2 {
        body[i] = quants[i] | quants[i + BLOCK / 2] << 4;
    }
    scale
}

/// The greatest and the least value of a block, and whether all are finite.
struct Extremes {
    top: f32,
    bottom: f32,
    finite: bool,
}

impl Extremes {
    /// In eight lanes and without closures, so that it becomes SIMD.
    #[inline(always)]
    fn of(values: &[f32; BLOCK]) -> Self {
        const LANES: usize = 8;
        let (mut top, mut bottom, mut odd) = ([f32::MIN; LANES], [f32::MAX; LANES], [0u32; LANES]);
        for values in values.as_chunks::<LANES>().0 {
            for i in 0..LANES {
                let value = values[i];
                top[i] = if value > top[i] { value } else { top[i] };
                bottom[i] = if value < bottom[i] { value } else { bottom[i] };
                // Neither a NaN nor an infinity becomes 0.
                odd[i] |= (value * 0.0).abs().to_bits();
            }
        }
        let mut extremes = Self { top: top[0], bottom: bottom[0], finite: odd[0] == 0 };
        for i in 1..LANES {
            extremes.top = if top[i] > extremes.top { top[i] } else { extremes.top };
            extremes.bottom = if bottom[i] < extremes.bottom { bottom[i] } else { extremes.bottom };
            extremes.finite &= odd[i] == 0;
        }
        extremes
    }

    /// The greatest magnitude; NaN if a value is not finite.
    #[inline(always)]
    fn magnitude(&self) -> f32 {
        match self.finite {
            true if self.top > -self.bottom => self.top,
            // Of nothing but zeros of any sign it is the positive one.
            true => self.bottom.abs(),
            false => f32::NAN,
        }
    }

    /// The first value of the greatest magnitude; NaN if a value is not finite.
    #[inline(always)]
    fn first(&self, values: &[f32; BLOCK]) -> f32 {
        let magnitude = self.magnitude();
        if self.top == -self.bottom {
            return values.iter().find(|value| value.abs() == magnitude).copied().unwrap_or(magnitude);
        }
        if self.top == magnitude || !self.finite { magnitude } else { self.bottom }
    }
}

/// What values are multiplied by to be divided by the scale.
#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// 2^23: from here on an f32 has no places after the point.
const WHOLE: f32 = 8_388_608.0;

/// The nearest whole number, halves to the even one, of a number of 0 to 2^22.
#[inline(always)]
fn nearest(value: f32) -> f32 {
    (value + WHOLE) - WHOLE
}

/// The lowest byte of a whole number of 0 to 2^22.
#[inline(always)]
fn byte(whole: f32) -> u8 {
    (whole + WHOLE).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use serde_json::Value;

    use super::*;

    fn golden() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/quantise.json");
        serde_json::from_slice(&std::fs::read(path).expect("the reference's blocks")).expect("JSON")
    }

    fn bytes(value: &Value) -> Vec<u8> {
        BASE64_STANDARD.decode(value.as_str().expect("base64")).expect("base64")
    }

    #[test]
    fn blocks_are_those_of_the_reference_byte_for_byte() {
        let golden = golden();
        for (name, float) in [("f32", Float::F32), ("f16", Float::F16), ("bf16", Float::Bf16)] {
            let values = bytes(&golden[name]["values"]);
            for quant in [Quant::Q8_0, Quant::Q4_0] {
                let want = bytes(&golden[name][quant.name()]);
                let mut got = vec![0xaa; want.len()];
                encode(float, &values, quant.tensor_type(), &mut got).expect("finite values");
                let size = quant.tensor_type().block_bytes();
                assert_eq!(want.len() / size, 108, "blocks");
                for (i, (got, want)) in got.chunks(size).zip(want.chunks(size)).enumerate() {
                    assert_eq!(got, want, "block {i} of {name} as {}", quant.name());
                }
            }
        }
    }

    #[test]
    fn every_value_of_16_bits_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let stored = [bits.to_le_bytes(); 3].concat();
            let mut made = [0; 12];
            encode(Float::Bf16, &stored, TensorType::F32, &mut made).expect("any value");
            let want = (u32::from(bits) << 16).to_le_bytes();
            assert_eq!(made, [want; 3].concat()[..]);
            encode(Float::F16, &stored, TensorType::F32, &mut made).expect("any value");
            let want = half::f16::from_bits(bits).to_f32();
            let got = f32::from_le_bytes([made[8], made[9], made[10], made[11]]);
            assert!(
                got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()),
                "{bits:x}: {got} for {want}"
            );
        }
    }

    #[test]
    fn what_cannot_be_quantised_is_told() {
        for quant in [Quant::Q8_0, Quant::Q4_0] {
            let fault = |value: f32| {
                let mut values = [1.0f32; 64];
                values[40] = value;
                values[41] = 2.0;
                let stored: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                let mut made = vec![0; 2 * quant.tensor_type().block_bytes()];
                encode(Float::F32, &stored, quant.tensor_type(), &mut made).err()
            };
            assert_eq!(fault(3.0), None);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e9] {
                assert!(fault(bad).is_some(), "{bad} as {}", quant.name());
            }
        }
    }
}
