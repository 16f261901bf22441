//! When requests begin that do not wait for each other: a Poisson process.

use std::time::Duration;

use super::random::Random;

/// The moments, counted from the first request's. The time between two is exponentially distributed.
pub(super) struct Arrivals {
    random: Random,
    rate: f64,
    next: f64,
}

impl Arrivals {
    /// So many a second on average.
    pub(super) fn new(rate: f64, seed: u64) -> Arrivals {
        // Requests have the streams from 0 on.
        Arrivals { random: Random::new(seed, u64::MAX), rate, next: 0.0 }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let moment = self.next;
        self.next -= (1.0 - self.random.part()).ln() / self.rate;
        Some(Duration::from_secs_f64(moment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(rate: f64, seed: u64, n: usize) -> Vec<f64> {
        let moments: Vec<Duration> = Arrivals::new(rate, seed).take(n + 1).collect();
        assert_eq!(moments[0], Duration::ZERO);
        moments.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
    }

    #[test]
    fn arrivals_are_those_of_a_poisson_process() {
        for (rate, seed) in [(0.5, 0), (7.0, 1), (250.0, 2)] {
            let n = 20_000;
            let gaps = gaps(rate, seed, n);
            let mean = gaps.iter().sum::<f64>() / n as f64;
            // An exponential distribution's deviation is its mean; five deviations of the mean of n.
            let bound = 5.0 / (n as f64).sqrt();
            assert!((mean * rate - 1.0).abs() < bound, "{mean} at {rate}");
            let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
            assert!((deviation / mean - 1.0).abs() < 2.0 * bound, "{deviation} for {mean}");
            // It forgets: so large a part is over the mean.
            let over = gaps.iter().filter(|&&gap| gap > mean).count() as f64 / n as f64;
            assert!((over - (-1.0_f64).exp()).abs() < bound, "{over}");
        }
    }

    #[test]
    fn arrivals_follow_from_the_seed() {
        assert_eq!(gaps(3.0, 5, 50), gaps(3.0, 5, 50));
        assert_ne!(gaps(3.0, 5, 50), gaps(3.0, 6, 50));
    }
}
