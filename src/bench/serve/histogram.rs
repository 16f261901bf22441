//! A histogram of times whose bins grow by a constant factor, as JSON and as text.

use serde_json::{Value, json};

use super::measure::Times;

/// How many bins there are at most.
const BINS: u32 = 12;
/// The greatest bar's length.
const WIDTH: usize = 40;
/// The least bin's lower bound in milliseconds: what is shorter came in one piece.
const LEAST: f64 = 1e-3;

/// Bins one after the other.
#[derive(Debug, PartialEq)]
pub(super) struct Histogram(Vec<Bin>);

#[derive(Debug, PartialEq)]
struct Bin {
    /// In milliseconds; a time that equals the upper bound is within.
    from: f64,
    to: f64,
    count: usize,
}

impl Histogram {
    /// From the least time to the greatest.
    pub(super) fn of(times: &Times) -> Histogram {
        let (Some(least), Some(greatest)) = (times.percentile(0), times.percentile(100)) else {
            return Histogram(Vec::new());
        };
        let least = least.max(LEAST);
        let greatest = greatest.max(least);
        let bins = if greatest > least { BINS } else { 1 };
        let bound = |bin: u32| least * (greatest / least).powf(f64::from(bin) / f64::from(bins));
        let mut below = 0;
        let bin = |bin: u32| {
            let (from, to) = (bound(bin), bound(bin + 1));
            let up_to = if bin + 1 == bins { times.count() } else { times.up_to(to) };
            let count = up_to - below;
            below = up_to;
            Bin { from, to, count }
        };
        Histogram((0..bins).map(bin).collect())
    }

    pub(super) fn to_json(&self) -> Value {
        let bin = |bin: &Bin| json!({"from_ms": bin.from, "to_ms": bin.to, "count": bin.count});
        self.0.iter().map(bin).collect()
    }

    /// A line for each bin.
    pub(super) fn to_text(&self) -> String {
        let most = self.0.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
        let line = |bin: &Bin| {
            // Whoever is there at all is seen.
            let bar = "#".repeat((bin.count * WIDTH).div_ceil(most));
            format!("{:>10.3} to {:>10.3} ms {bar:<WIDTH$} {}\n", bin.from, bin.to, bin.count)
        };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::serve::measure::tests::times;

    fn counts(histogram: &Histogram) -> Vec<usize> {
        histogram.0.iter().map(|bin| bin.count).collect()
    }

    #[test]
    fn every_time_is_in_the_bin_that_has_it() {
        // From 1 to 4096 in twelve bins: each a power of two.
        let histogram = Histogram::of(&times([1, 2, 3, 4, 5, 900, 1000, 1100, 4096]));
        for (bin, power) in histogram.0.iter().zip(0..) {
            assert!((bin.from / 2_f64.powi(power) - 1.0).abs() < 1e-9, "{bin:?}");
            assert!((bin.to / 2_f64.powi(power + 1) - 1.0).abs() < 1e-9, "{bin:?}");
        }
        let counts = counts(&histogram);
        assert_eq!(counts.len(), 12);
        assert_eq!(counts.iter().sum::<usize>(), 9);
        assert_eq!((counts[9], counts[10], counts[11]), (2, 1, 1));
    }

    #[test]
    fn equal_times_and_none_and_nothing_have_histograms() {
        assert_eq!(counts(&Histogram::of(&times([5, 5, 5]))), [3]);
        assert_eq!(counts(&Histogram::of(&times([0, 0]))), [2]);
        let zero = Histogram::of(&times([0, 0, 16]));
        assert_eq!((counts(&zero)[0], counts(&zero)[11], zero.0[0].from), (2, 1, LEAST));
        assert_eq!(Histogram::of(&times([])).to_text(), "");
    }

    #[test]
    fn bars_are_as_long_as_their_counts() {
        let text = Histogram::of(&times([[1; 80].as_slice(), &[4096; 20], &[64]].concat())).to_text();
        let bars: Vec<usize> = text.lines().map(|line| line.matches('#').count()).collect();
        assert_eq!((bars[0], bars[11]), (40, 10));
        assert_eq!(bars[1..11].iter().filter(|&&bar| bar > 0).collect::<Vec<_>>(), [&1]);
        assert!(text.lines().next().unwrap().ends_with(" 80"), "{text}");
    }
}
