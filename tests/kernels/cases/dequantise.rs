//! Quantised weights as f16 or bf16. Exact.

use half::f16;
use kernels::dequantise::{self, Dequantise};

use super::random::Random;
use super::stored::{Layout, Stored};
use super::{Case, Expect, Launch, Scale, Stage};

/// Some stored weights.
pub(crate) struct Weights {
    pub(crate) stored: Stored,
    pub(crate) bytes: Vec<u8>,
}

impl Weights {
    /// `len` ordinary ones.
    pub(crate) fn new(stored: Stored, len: usize) -> Self {
        Self { stored, bytes: stored.random(&mut Random::new(len as u64), len) }
    }

    /// Scales and minima from one end of their type to the other, so that values become subnormal, infinite or zero.
    fn extreme(stored: Stored, len: usize) -> Self {
        let mut weights = Self::new(stored, len);
        let mut random = Random::new(len as u64 + 1);
        for block in weights.bytes.chunks_exact_mut(stored.block().1) {
            for &at in stored.places() {
                let bits = random.bits() as u16;
                let bits = if f16::from_bits(bits).is_finite() { bits } else { 1 };
                block[at..at + 2].copy_from_slice(&bits.to_le_bytes());
            }
            if stored == Stored::MXFP4 {
                block[0] = random.bits() as u8;
            }
        }
        weights
    }

    /// What the tensor core multiplies, as bits.
    pub(crate) fn halves(&self) -> Vec<u16> {
        self.stored.halves(&self.bytes)
    }
}

pub(crate) fn cases(stored: Stored, scale: Scale) -> Vec<Box<dyn Case>> {
    let mut cases: Vec<Weights> =
        [32, 64, 4064, 4096, 4128].map(|len| Weights::new(stored, stored.row_length(len))).into();
    cases.push(Weights::extreme(stored, stored.block().0 * 300));
    if scale == Scale::Full {
        cases.push(Weights::new(stored, 576 * 1536));
        cases.push(Weights::extreme(stored, stored.block().0 * 30_001));
    }
    cases.into_iter().map(|case| Box::new(case) as _).collect()
}

impl Case for Weights {
    fn label(&self) -> String {
        format!("bytes={}", self.bytes.len())
    }

    fn bytes(&self) -> u64 {
        let (values, size) = self.stored.block();
        (self.bytes.len() + 2 * (self.bytes.len() / size * values)) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let (values, size) = self.stored.block();
        let len = self.bytes.len() / size * values;
        let args = Dequantise {
            w: stage.input(&self.bytes),
            // A 16-bit float may have the bits of the stage's poison: not as an output. These are NaNs.
            y: stage.in_out(&vec![u16::MAX; len]),
            len: len as u64,
        };
        Launch::new(dequantise::of(self.stored).expect("quantised weights"), args)
    }

    fn oracle(&self) -> Vec<Expect> {
        vec![Expect::bits(&self.halves())]
    }
}
