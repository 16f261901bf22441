//! Stored weights: random ones, and what they stand for.

use half::{bf16, f16};

use super::random::Random;

/// How weights are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q4_1,
}

impl Stored {
    pub(crate) const ALL: [Stored; 6] =
        [Stored::F32, Stored::F16, Stored::Bf16, Stored::Q8_0, Stored::Q4_0, Stored::Q4_1];

    /// As kernels' names have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stored::F32 => "f32",
            Stored::F16 => "f16",
            Stored::Bf16 => "bf16",
            Stored::Q8_0 => "q8_0",
            Stored::Q4_0 => "q4_0",
            Stored::Q4_1 => "q4_1",
        }
    }

    /// Values and bytes of the smallest piece that is stored.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            Stored::F32 => (1, 4),
            Stored::F16 | Stored::Bf16 => (1, 2),
            Stored::Q8_0 => (32, 34),
            Stored::Q4_0 => (32, 18),
            Stored::Q4_1 => (32, 20),
        }
    }

    /// `k` if rows may be so long, else the next length that they may have.
    pub(crate) fn row_length(self, k: usize) -> usize {
        k.next_multiple_of(self.block().0)
    }

    /// `n` random values as they are stored, all of them finite and some of them zero.
    pub(crate) fn random(self, random: &mut Random, n: usize) -> Vec<u8> {
        let (values, size) = self.block();
        let blocks = n / values;
        if values == 1 {
            let value = |random: &mut Random| random.wide(3);
            return match self {
                Stored::F32 => (0..n).flat_map(|_| value(random).to_le_bytes()).collect(),
                Stored::F16 => (0..n).flat_map(|_| f16::from_f32(value(random)).to_le_bytes()).collect(),
                _ => (0..n).flat_map(|_| bf16::from_f32(value(random)).to_le_bytes()).collect(),
            };
        }
        let mut bytes = random.bytes(blocks * size);
        for block in bytes.chunks_exact_mut(size) {
            block[..2].copy_from_slice(&f16::from_f32(random.wide(3) / 16.0).to_le_bytes());
            if self == Stored::Q4_1 {
                block[2..4].copy_from_slice(&f16::from_f32(random.wide(3)).to_le_bytes());
            }
        }
        bytes
    }

    /// The values that stored bytes stand for: exact but for Q4_1, where one rounding to f32 is still to be done.
    pub(crate) fn values(self, bytes: &[u8]) -> Vec<f64> {
        let (_, size) = self.block();
        let mut values = Vec::new();
        for block in bytes.chunks_exact(size) {
            let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f64();
            match self {
                Stored::F32 => {
                    values.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]]) as f64)
                }
                Stored::F16 => values.push(half(0)),
                Stored::Bf16 => values.push(bf16::from_le_bytes([block[0], block[1]]).to_f64()),
                Stored::Q8_0 => values.extend(block[2..].iter().map(|&q| half(0) * (q as i8) as f64)),
                Stored::Q4_0 => values.extend(nibbles(&block[2..]).map(|q| half(0) * (q - 8.0))),
                Stored::Q4_1 => values.extend(nibbles(&block[4..]).map(|q| half(0) * q + half(2))),
            }
        }
        values
    }
}

/// Low halves of all bytes, then high halves.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = f64> {
    bytes.iter().map(|q| (q & 15) as f64).chain(bytes.iter().map(|q| (q >> 4) as f64))
}
