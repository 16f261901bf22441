//! Random data, the same on every run.

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// A stream of random values.
pub(crate) struct Random(Pcg64Mcg);

impl Random {
    /// The stream of this number.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// Uniform bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `0..n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.bits() as u128 * n as u128) >> 64) as usize
    }

    /// Uniform in `-1..1`.
    pub(crate) fn float(&mut self) -> f32 {
        (self.bits() >> 39) as f32 / (1u64 << 24) as f32 - 1.0
    }

    /// `n` values, uniform in `-1..1`.
    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    /// `-1..1` times a power of two with an exponent in `-spread..=spread`; now and then a zero.
    pub(crate) fn wide(&mut self, spread: i32) -> f32 {
        match self.below(16) {
            0 => 0.0,
            _ => self.float() * 2f32.powi(self.below(2 * spread as usize + 1) as i32 - spread),
        }
    }

    /// Uniform bytes.
    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Puts a list in random order.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }
}
