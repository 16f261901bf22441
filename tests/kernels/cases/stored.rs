//! Stored weights: random ones, and what they stand for, by the formats' descriptions.

use half::{bf16, f16};

use super::float::Float;
use super::random::Random;

pub(crate) use kernels::format::Stored;

/// What the tests know of a stored type by themselves.
pub(crate) trait Layout: Copy {
    /// As kernels' names have it.
    fn lower(self) -> String;

    /// Values and bytes of the smallest piece that is stored.
    fn block(self) -> (usize, usize);

    /// Where in a block there are f16s: its scale, then its minimum.
    fn places(self) -> &'static [usize];

    /// The type that `tc` rounds weights to, and the rows they multiply.
    fn rounded(self) -> Float;

    /// `n` random values as they are stored, all of them finite and some of them zero.
    fn random(self, random: &mut Random, n: usize) -> Vec<u8>;

    /// What stored bytes stand for.
    fn parts(self, bytes: &[u8]) -> Vec<Parts>;

    /// The values that stored bytes stand for: exact but for one rounding to f32 that is still to be done.
    fn values(self, bytes: &[u8]) -> Vec<f64> {
        self.parts(bytes).iter().map(|parts| parts.scale * parts.q - parts.minus).collect()
    }

    /// The bits of what the tensor core multiplies. In f16 the scale and the minimum are rounded, and then what they make of `q`.
    fn halves(self, bytes: &[u8]) -> Vec<u16> {
        if self.rounded() == Float::Bf16 {
            return self.values(bytes).iter().map(|&value| Float::Bf16.bits(value as f32)).collect();
        }
        let value = |parts: &Parts| nearest_half(parts.scale) * parts.q - nearest_half(parts.minus);
        // An infinite scale times zero, or less an infinite minimum, is the GPU's own NaN.
        let bits = |parts| match nearest_half(value(parts)) {
            nan if nan.is_nan() => 0x7fff,
            value => Float::F16.bits(value as f32),
        };
        self.parts(bytes).iter().map(bits).collect()
    }

    /// `k` if rows may be so long, else the next length that they may have.
    fn row_length(self, k: usize) -> usize {
        k.next_multiple_of(self.block().0)
    }
}

impl Layout for Stored {
    fn lower(self) -> String {
        self.name().to_lowercase()
    }

    fn block(self) -> (usize, usize) {
        match self {
            Stored::F32 => (1, 4),
            Stored::F16 | Stored::BF16 => (1, 2),
            Stored::Q8_0 => (32, 34),
            Stored::Q4_0 => (32, 18),
            Stored::Q4_1 => (32, 20),
            Stored::Q5_0 => (32, 22),
            Stored::Q5_1 => (32, 24),
            Stored::Q2_K => (256, 84),
            Stored::Q3_K => (256, 110),
            Stored::Q4_K => (256, 144),
            Stored::Q5_K => (256, 176),
            Stored::Q6_K => (256, 210),
            Stored::IQ4_NL => (32, 18),
            Stored::IQ4_XS => (256, 136),
            Stored::MXFP4 => (32, 17),
        }
    }

    fn places(self) -> &'static [usize] {
        match self {
            Stored::F32 | Stored::F16 | Stored::BF16 | Stored::MXFP4 => &[],
            Stored::Q8_0 | Stored::Q4_0 | Stored::Q5_0 | Stored::IQ4_NL | Stored::IQ4_XS => &[0],
            Stored::Q4_1 | Stored::Q5_1 | Stored::Q4_K | Stored::Q5_K => &[0, 2],
            Stored::Q2_K => &[80, 82],
            Stored::Q3_K => &[108],
            Stored::Q6_K => &[208],
        }
    }

    fn rounded(self) -> Float {
        if matches!(self, Stored::MXFP4 | Stored::BF16) { Float::Bf16 } else { Float::F16 }
    }

    fn random(self, random: &mut Random, n: usize) -> Vec<u8> {
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
            // Scales within a super-block multiply by some more.
            let (scale, minimum) = if values == 256 { (1.0 / 256.0, 1.0 / 32.0) } else { (1.0 / 16.0, 1.0) };
            for (&at, factor) in self.places().iter().zip([scale, minimum]) {
                block[at..at + 2].copy_from_slice(&f16::from_f32(random.wide(3) * factor).to_le_bytes());
            }
            if self == Stored::MXFP4 {
                block[0] = 120 + random.below(12) as u8;
            }
        }
        bytes
    }

    fn parts(self, bytes: &[u8]) -> Vec<Parts> {
        let (_, size) = self.block();
        let mut parts = Vec::new();
        for block in bytes.chunks_exact(size) {
            let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f64();
            let scaled = |q: f64| Parts { scale: half(0), q, minus: 0.0 };
            let plain = |value: f64| Parts { scale: 1.0, q: value, minus: 0.0 };
            let added = |q: u8| Parts { minus: -half(2), ..scaled(q as f64) };
            match self {
                Stored::F32 => {
                    parts.push(plain(f32::from_le_bytes([block[0], block[1], block[2], block[3]]) as f64))
                }
                Stored::F16 => parts.push(plain(half(0))),
                Stored::BF16 => parts.push(plain(bf16::from_le_bytes([block[0], block[1]]).to_f64())),
                Stored::Q8_0 => parts.extend(block[2..].iter().map(|&q| scaled((q as i8) as f64))),
                Stored::Q4_0 => parts.extend(nibbles(&block[2..]).map(|q| scaled(q as f64 - 8.0))),
                Stored::Q4_1 => parts.extend(nibbles(&block[4..]).map(added)),
                Stored::Q5_0 => {
                    let fives = nibbles(&block[6..]).zip(bits(&block[2..6]));
                    parts.extend(fives.map(|(q, fifth)| scaled((q + 16 * fifth) as f64 - 16.0)));
                }
                Stored::Q5_1 => {
                    let fives = nibbles(&block[8..]).zip(bits(&block[4..8]));
                    parts.extend(fives.map(|(q, fifth)| added(q + 16 * fifth)));
                }
                Stored::IQ4_NL => parts.extend(nibbles(&block[2..]).map(|q| scaled(UNEVEN[q as usize]))),
                Stored::MXFP4 => {
                    let scale = 2f64.powi(block[0] as i32 - 127);
                    parts.extend(nibbles(&block[1..]).map(|q| Parts {
                        scale,
                        q: E2M1[q as usize],
                        minus: 0.0,
                    }));
                }
                _ => parts.extend((0..256).map(|i| super_block_parts(self, block, i))),
            }
        }
        parts
    }
}

/// A value is `scale * q - minus`.
pub(crate) struct Parts {
    scale: f64,
    q: f64,
    minus: f64,
}

/// The f16 nearest to a number, ties to even.
fn nearest_half(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let unit = 2f64.powi(value.abs().log2().floor().max(-14.0) as i32 - 10);
    let rounded = (value / unit).round_ties_even() * unit;
    if rounded.abs() < 65536.0 { rounded } else { f64::INFINITY.copysign(value) }
}

/// Value `i` of a super-block.
fn super_block_parts(stored: Stored, block: &[u8], i: usize) -> Parts {
    let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f64();
    // A field of `width` bits for each value, from byte `at` on: a run of 32 bytes has the lowest bits of 32 values, above
    // them those of the next 32, and so on.
    let field = |at: usize, width: usize| {
        let in_run = 256 / width / (256 / 8);
        let (run, turn) = (i / 32 / in_run, i / 32 % in_run);
        (block[at + 32 * run + i % 32] >> (width * turn) & ((1 << width) - 1)) as i32
    };
    match stored {
        Stored::Q2_K => {
            let part = block[i / 16];
            let (scale, minus) = (half(80) * (part % 16) as f64, half(82) * (part / 16) as f64);
            Parts { scale, q: field(16, 2) as f64, minus }
        }
        Stored::Q3_K => {
            let part = i / 16;
            let low = if part < 8 { block[96 + part] % 16 } else { block[96 + part - 8] / 16 };
            let high = block[104 + part % 4] >> (part / 4 * 2) & 3;
            let scale = (low + 16 * high) as f64 - 32.0;
            let q = (field(32, 2) + 4 * field(0, 1) - 4) as f64;
            Parts { scale: half(108) * scale, q, minus: 0.0 }
        }
        Stored::Q4_K | Stored::Q5_K => {
            let part = i / 32;
            let packed = &block[4..16];
            let (scale, minimum) = if part < 4 {
                (packed[part] % 64, packed[part + 4] % 64)
            } else {
                let both = packed[part + 4];
                (both % 16 + packed[part - 4] / 64 * 16, both / 16 + packed[part] / 64 * 16)
            };
            let q = if stored == Stored::Q4_K { field(16, 4) } else { field(48, 4) + 16 * field(16, 1) };
            Parts { scale: half(0) * scale as f64, q: q as f64, minus: half(2) * minimum as f64 }
        }
        Stored::Q6_K => {
            // 128 values in 64 bytes: the low halves are the first 64.
            let byte = block[i / 128 * 64 + i % 64];
            let low = if i % 128 < 64 { byte % 16 } else { byte / 16 } as i32;
            let scale = block[192 + i / 16] as i8;
            let q = (low + 16 * field(128, 2) - 32) as f64;
            Parts { scale: half(208) * scale as f64, q, minus: 0.0 }
        }
        Stored::IQ4_XS => {
            let part = i / 32;
            let low =
                if part.is_multiple_of(2) { block[4 + part / 2] % 16 } else { block[4 + part / 2] / 16 };
            let high = u16::from_le_bytes([block[2], block[3]]) >> (2 * part) & 3;
            let scale = low as f64 + 16.0 * high as f64 - 32.0;
            let q = nibbles(&block[8 + 16 * part..][..16]).nth(i % 32).expect("32 of them");
            Parts { scale: half(0) * scale, q: UNEVEN[q as usize], minus: 0.0 }
        }
        _ => unreachable!("no super-blocks"),
    }
}

/// The numbers of IQ4.
const UNEVEN: [f64; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];
/// The floats with two bits of exponent and one of fraction; all zeros are positive.
const E2M1: [f64; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Low halves of all bytes, then high halves.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|q| q % 16).chain(bytes.iter().map(|q| q / 16))
}

/// The bits of all bytes, lowest first.
fn bits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().flat_map(|byte| (0..8).map(move |i| byte >> i & 1))
}
