//! Draws a tensor on a device.

use std::ops::Range;

use cuda_std::{F16, Value};
use kernels::draw::{self, Draw};
use kernels::format::Stored;

use crate::device::{Buffer, Device, DeviceError, Purpose};
use crate::gguf::Tensor;

/// How far the weights of a norm lie from 1 at most.
const NORM_REACH: f32 = 0.125;
/// Half of what is added at random to the bits of scales and minima.
const HALF_A_WOBBLE: u32 = 63;

/// Draws the bytes `piece` of a tensor into a buffer, from its value `at` on. The values of a matrix have mean 0 and, with
/// `k` columns, standard deviation `1 / sqrt(k)`, so that a product is as large as its input; those of a vector are near 1.
///
/// # Errors
/// A failing device.
///
/// # Panics
/// If the type is none of those that are drawn, or the piece is not of whole words (see [`kernels::draw`]) and of whole
/// values of the buffer.
pub(crate) fn draw<V: Value>(
    device: &Device,
    tensor: &Tensor,
    seed: u64,
    piece: Range<usize>,
    buffer: &Buffer<V>,
    at: usize,
) -> Result<(), DeviceError> {
    let Some(stored) = tensor.ty.stored() else { panic!("{} is not drawn", tensor.ty) };
    let (kernel, word) = (draw::of(stored), draw::word(stored));
    assert!(piece.start.is_multiple_of(word) && piece.end.is_multiple_of(word), "whole words are drawn");
    assert!((at * size_of::<V>()).is_multiple_of(word) && piece.len().is_multiple_of(size_of::<V>()));
    assert!(
        tensor.bytes.len() / word <= u32::MAX as usize,
        "words of {} have numbers of 32 bits",
        tensor.name
    );
    let deviation = 1.0 / (tensor.dims[0] as f64).sqrt();
    let vector = tensor.dims.len() == 1;
    let (quant_deviation, quant_minimum) = quants(stored);
    let scale = deviation / quant_deviation;
    let bits = |value: f64| (F16::from_f32(value as f32).0 as u32).saturating_sub(HALF_A_WOBBLE);
    // SAFETY: the view is inside of the buffer and aligned to words, as checked above.
    unsafe {
        let args = Draw {
            out: buffer.view_bytes_mut(at, piece.len() / size_of::<V>()),
            key: key(seed, &tensor.name),
            first: (piece.start / word) as u32,
            middle: if vector { 1.0 } else { 0.0 },
            // A uniform value's deviation is its reach over the root of 3.
            reach: if vector { NORM_REACH } else { (3f64.sqrt() * deviation) as f32 },
            scale: if stored == Stored::MXFP4 { exponent(scale) } else { bits(scale) },
            minimum: bits(quant_minimum * scale),
        };
        device.launch(kernel, &args)?;
    }
    // Who reads weights does not wait for the kernels before: see `Block::await_predecessors`.
    device.synchronize()
}

/// All bytes of a tensor, for the few that the host computes with.
///
/// # Errors
/// No memory.
///
/// # Panics
/// As of [`draw`].
pub(crate) fn drawn_bytes(tensor: &Tensor, seed: u64) -> Result<Vec<u8>, DeviceError> {
    let (device, len) = (Device::cpu(1), tensor.bytes.len());
    let buffer = device.alloc::<u8>(Purpose::Weights, len)?;
    draw(&device, tensor, seed, 0..len, &buffer, 0)?;
    device.download(&buffer, 0, len)
}

/// Of values that are drawn with a scale of 1: the root of their mean square, and the minimum that makes their mean zero.
///
/// A quant of `b` bits has mean `(2^b - 1) / 2` and variance `(4^b - 1) / 12`, the scales and minima within super-blocks too.
fn quants(stored: Stored) -> (f64, f64) {
    let mean = |bits: i32| (2f64.powi(bits) - 1.0) / 2.0;
    let variance = |bits: i32| (4f64.powi(bits) - 1.0) / 12.0;
    // Of what is even about zero but for a half.
    let signed = |bits: i32| variance(bits) + 0.25;
    // `s (q - m')`, where `m'` is the mean of `q`: minima are drawn as the scales are.
    let with_minima = |scale: i32, quant: i32| (variance(scale) + mean(scale).powi(2)) * variance(quant);
    // Of the 16 numbers of IQ4 and of MXFP4.
    let (uneven, doubled_e2m1) = (4548.0, 34.25);
    let (square, minimum) = match stored {
        Stored::F32 | Stored::F16 | Stored::BF16 => (1.0, 0.0),
        Stored::Q8_0 => (signed(8), 0.0),
        Stored::Q4_0 => (signed(4), 0.0),
        Stored::Q4_1 => (variance(4), -mean(4)),
        Stored::Q5_0 => (signed(5), 0.0),
        Stored::Q5_1 => (variance(5), -mean(5)),
        Stored::Q2_K => (with_minima(4, 2), mean(2)),
        Stored::Q3_K => (signed(6) * signed(3), 0.0),
        Stored::Q4_K => (with_minima(6, 4), mean(4)),
        Stored::Q5_K => (with_minima(6, 5), mean(5)),
        Stored::Q6_K => (signed(8) * signed(6), 0.0),
        Stored::IQ4_NL => (uneven, 0.0),
        Stored::IQ4_XS => (signed(6) * uneven, 0.0),
        Stored::MXFP4 => (doubled_e2m1, 0.0),
    };
    (square.sqrt(), minimum)
}

/// The exponent of half of the scales of MXFP4, while the others are twice as large, for a root of their mean square within
/// a factor of the root of 2 about `scale`.
fn exponent(scale: f64) -> u32 {
    // 2.5 is the mean of 1 and 4; the power of two below a number times the root of 2 is the nearest to it.
    let nearest = scale / 2.5f64.sqrt() * 2f64.sqrt();
    // A scale is `2^(e - 128)`.
    let log = (nearest.to_bits() >> 52) as i32 - 1023;
    (log + 128).clamp(0, 254) as u32
}

/// A tensor's own key: FNV-1a of its name, mixed with the seed by SplitMix64's finaliser.
fn key(seed: u64, name: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3);
    let name = name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    let mut key = name ^ seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::TensorType;

    #[test]
    fn a_tensor_in_pieces_has_the_bytes_of_one_drawn_whole() {
        let device = Device::cpu(1);
        for (ty, bytes) in [(TensorType::BF16, 64 * 300 * 2), (TensorType::Q4_1, 64 * 300 / 32 * 20)] {
            let tensor = Tensor { name: "t".to_owned(), dims: vec![64, 300], ty, bytes: 96..96 + bytes };
            let drawn = |pieces: &[Range<usize>]| {
                let buffer = device.alloc::<u8>(Purpose::Weights, bytes).expect("memory");
                for piece in pieces {
                    draw(&device, &tensor, 5, piece.clone(), &buffer, piece.start).expect("drawn");
                }
                device.download(&buffer, 0, bytes).expect("downloaded")
            };
            let whole = drawn(std::slice::from_ref(&(0..bytes)));
            assert!(drawn(&[8000..bytes, 0..4, 4..8000]) == whole, "{ty}");
            assert!(whole[..1000] != whole[1000..2000] && whole != vec![0; bytes]);
        }
    }
}
