//! Drawn weights: each word by itself, from the hash's definition. Exact.

use half::{bf16, f16};
use kernels::draw::{self, Draw};

use super::stored::{Layout, Stored};
use super::{Case, Expect, Launch, Scale, Stage};

/// A piece of a tensor.
pub(crate) struct Piece {
    pub(crate) stored: Stored,
    pub(crate) key: u64,
    pub(crate) first: u32,
    pub(crate) words: usize,
    pub(crate) middle: f32,
    pub(crate) reach: f32,
}

/// The least scale, 0.0115 or so.
const SCALE: u16 = 0x21e3;
/// The greatest minimum, -0.08 or so.
const MINIMUM: u16 = 0xad1f;

/// The least exponent of MXFP4.
const EXPONENT: u8 = 119;

impl Piece {
    /// Bytes that a lane writes.
    fn word(&self) -> usize {
        match self.stored {
            Stored::F32 | Stored::F16 | Stored::BF16 => 4,
            Stored::MXFP4 => 1,
            _ => 2,
        }
    }

    /// The word of a block that begins at its byte `at` and is neither scale nor minimum: random, but for minima of parts,
    /// which are their scales.
    fn other(&self, i: u32, at: usize) -> u16 {
        let random = hash(self.key, i) as u16;
        let twice = |word: u16| word.to_le_bytes().map(|byte| byte % 16 * 17);
        match (self.stored, at) {
            (Stored::Q2_K, 0..16) | (Stored::Q4_K | Stored::Q5_K, 12..16) => {
                u16::from_le_bytes(twice(random))
            }
            (Stored::Q4_K | Stored::Q5_K, 8..12) => hash(self.key, i - 2) as u16,
            _ => random,
        }
    }

    /// `bits` random bits as the middle of one of so many parts of -1..1, then placed. Exact: it is rounded to f32
    /// afterwards, and from there to a narrower type.
    fn value(&self, random: u64, bits: i32) -> f64 {
        let x = (random as f64 + 0.5) * 2f64.powi(1 - bits) - 1.0;
        self.middle as f64 + x * self.reach as f64
    }
}

pub(crate) fn cases(stored: Stored, scale: Scale) -> Vec<Box<dyn Case>> {
    let piece = |key, first, words| Piece { stored, key, first, words, middle: 0.0, reach: 0.072_168_78 };
    let mut cases = vec![
        piece(0, 0, 1),
        piece(1, 0, 255),
        piece(0x0123_4567_89ab_cdef, 7, 4097),
        piece(u64::MAX, u32::MAX - 12_000, 12_000),
        Piece { middle: 1.0, reach: 0.125, ..piece(99, 3, 5000) },
    ];
    if scale == Scale::Full {
        cases.push(piece(0xdead_beef, 1 << 29, 1_000_003));
    }
    cases.into_iter().map(|case| Box::new(case) as _).collect()
}

/// The hash by its definition, in numbers wide enough that nothing wraps by itself.
fn hash(key: u64, i: u32) -> u64 {
    let low = |n: u64| n % (1 << 32);
    let mix = |h: u64| {
        let h = low((h ^ (h / (1 << 16))) * 0x85eb_ca6b);
        let h = low((h ^ (h / (1 << 13))) * 0xc2b2_ae35);
        h ^ (h / (1 << 16))
    };
    mix(mix(i as u64 ^ low(key)) ^ (key / (1 << 32)))
}

impl Case for Piece {
    fn label(&self) -> String {
        format!("key={:#x} first={} words={} middle={}", self.key, self.first, self.words, self.middle)
    }

    fn bytes(&self) -> u64 {
        (self.words * self.word()) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        // Not as an output: among random bytes some are what such memory is filled with. The oracle misses what is not
        // written.
        let args = Draw {
            out: stage.in_out(&vec![0u8; self.words * self.word()]),
            key: self.key,
            first: self.first,
            middle: self.middle,
            reach: self.reach,
            scale: if self.stored == Stored::MXFP4 { EXPONENT as u32 } else { SCALE as u32 },
            minimum: MINIMUM as u32,
        };
        Launch::new(draw::of(self.stored), args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let mut bytes: Vec<u8> = Vec::new();
        for i in 0..self.words as u32 {
            let i = self.first + i;
            let random = hash(self.key, i);
            let halves = [random & 0xffff, random >> 16];
            let wobble = (random & 127) as u16;
            match self.stored {
                Stored::F32 => bytes.extend((self.value(random >> 8, 24) as f32).to_le_bytes()),
                Stored::F16 => bytes.extend(
                    halves.iter().flat_map(|&h| f16::from_f32(self.value(h, 16) as f32).to_le_bytes()),
                ),
                Stored::BF16 => bytes.extend(
                    halves.iter().flat_map(|&h| bf16::from_f32(self.value(h, 16) as f32).to_le_bytes()),
                ),
                Stored::MXFP4 if i.is_multiple_of(17) => bytes.push(EXPONENT + (random & 1) as u8),
                Stored::MXFP4 => bytes.push(random as u8),
                _ => {
                    let at = 2 * i as usize % self.stored.block().1;
                    let signed = self.stored.places().len() == 1;
                    let word = match self.stored.places().iter().position(|&half| half == at) {
                        Some(0) if signed && random & 0x8000 != 0 => 0x8000 + SCALE + wobble,
                        Some(0) => SCALE + wobble,
                        Some(_) => MINIMUM + wobble,
                        None => self.other(i, at),
                    };
                    bytes.extend(word.to_le_bytes());
                }
            }
        }
        vec![Expect::Bits(bytes)]
    }
}
