//! Draws a tensor on a device.

use std::ops::Range;

use cuda_std::{F16, Kernel, Value};
use kernels::draw::{self, Draw};

use crate::device::{Buffer, Device, DeviceError};
use crate::gguf::{Tensor, TensorType};

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
    let (kernel, word, quant_deviation) = kind(tensor.ty);
    assert!(piece.start.is_multiple_of(word) && piece.end.is_multiple_of(word), "whole words are drawn");
    assert!((at * size_of::<V>()).is_multiple_of(word) && piece.len().is_multiple_of(size_of::<V>()));
    assert!(
        tensor.bytes.len() / word <= u32::MAX as usize,
        "words of {} have numbers of 32 bits",
        tensor.name
    );
    let deviation = 1.0 / (tensor.dims[0] as f64).sqrt();
    let vector = tensor.dims.len() == 1;
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
            scale: bits(scale),
            // Even about zero: the quants' mean is 7.5.
            minimum: bits(-7.5 * scale),
        };
        device.launch(kernel, &args)
    }
}

/// The kernel, the bytes of its words, and the root of the mean square of quants (of 0 to 15 about their mean for Q4_1).
fn kind(ty: TensorType) -> (&'static Kernel<Draw>, usize, f64) {
    match ty {
        TensorType::F32 => (&draw::F32_WEIGHTS, 4, 1.0),
        TensorType::F16 => (&draw::F16_WEIGHTS, 4, 1.0),
        TensorType::BF16 => (&draw::BF16_WEIGHTS, 4, 1.0),
        TensorType::Q8_0 => (&draw::Q8_0_WEIGHTS, 2, 5461.5f64.sqrt()),
        TensorType::Q4_0 => (&draw::Q4_0_WEIGHTS, 2, 21.5f64.sqrt()),
        TensorType::Q4_1 => (&draw::Q4_1_WEIGHTS, 2, 21.25f64.sqrt()),
        other => panic!("{other} is not drawn"),
    }
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
    use crate::device::Purpose;

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
