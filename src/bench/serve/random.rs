//! Numbers drawn from a seed: those of one place do not depend on how many were drawn elsewhere.

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use super::args::Range;

/// A stream of random numbers.
pub(super) struct Random(Pcg64);

impl Random {
    /// The stream of a seed and a number, which counts requests or whatever else has a stream of its own.
    pub(super) fn new(seed: u64, stream: u64) -> Random {
        Random(Pcg64::seed_from_u64(seed.rotate_left(32) ^ stream))
    }

    /// From 0 to `n`, `n` not among them.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(n)) >> 64) as u64
    }

    pub(super) fn within(&mut self, range: Range) -> u32 {
        range.least + self.below(u64::from(range.most - range.least) + 1) as u32
    }

    /// From 0 to 1, 1 not among them.
    pub(super) fn part(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_its_seeds_and_numbers_own() {
        let first = |seed, stream| Random::new(seed, stream).number();
        assert_eq!(first(1, 2), first(1, 2));
        let mut all: Vec<u64> = (0..100).flat_map(|seed| (0..100).map(move |n| first(seed, n))).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 10_000);
    }

    #[test]
    fn a_range_is_drawn_whole_and_evenly() {
        let range = Range { least: 3, most: 6 };
        let mut counts = [0; 8];
        let mut random = Random::new(1, 0);
        for _ in 0..8000 {
            counts[random.within(range) as usize] += 1;
        }
        assert_eq!(counts[..3], [0; 3]);
        assert_eq!(counts[7], 0);
        // Within five standard deviations of 2000.
        assert!(counts[3..7].iter().all(|&count: &i32| (1806..2194).contains(&count)), "{counts:?}");
    }

    #[test]
    fn a_shuffle_keeps_everything_and_leaves_nothing_in_order() {
        let mut items: Vec<u32> = (0..200).collect();
        Random::new(1, 0).shuffle(&mut items);
        assert!(items.iter().zip(0..).filter(|&(&item, place)| item == place).count() < 10);
        items.sort_unstable();
        assert_eq!(items, (0..200).collect::<Vec<u32>>());
    }
}
