//! What exchanges come to in numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::drive::Driven;
use super::exchange::{End, Exchange};

/// Times, the shortest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn new(mut times: Vec<Duration>) -> Times {
        times.sort_unstable();
        Times(times)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The mean in milliseconds, of no times `None`.
    pub(super) fn mean(&self) -> Option<f64> {
        let total: f64 = self.0.iter().map(|&time| ms(time)).sum();
        (self.count() > 0).then(|| total / self.count() as f64)
    }

    /// The shortest time, in milliseconds, that so large a part of them does not exceed.
    pub(super) fn percentile(&self, percent: u32) -> Option<f64> {
        let rank = (self.count() * percent as usize).div_ceil(100).max(1);
        self.0.get(rank - 1).map(|&time| ms(time))
    }

    /// How many are not over so many milliseconds.
    pub(super) fn up_to(&self, most: f64) -> usize {
        self.0.partition_point(|&time| ms(time) <= most)
    }
}

fn ms(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}

/// Failures of a kind.
#[derive(Debug, PartialEq)]
pub(super) struct Failures {
    pub(super) count: usize,
    /// What the first of them said.
    pub(super) example: String,
}

/// Failures by kind.
#[derive(Debug, Default)]
pub(super) struct Errors(pub(super) BTreeMap<String, Failures>);

impl Errors {
    pub(super) fn of<'a>(exchanges: impl IntoIterator<Item = &'a Exchange>) -> Errors {
        let mut errors = Errors::default();
        for exchange in exchanges {
            if let End::Failed(failure) = &exchange.end {
                let new = || Failures { count: 0, example: failure.words.clone() };
                errors.0.entry(failure.kind.clone()).or_insert_with(new).count += 1;
            }
        }
        errors
    }

    pub(super) fn count(&self) -> usize {
        self.0.values().map(|failures| failures.count).sum()
    }

    /// The kind of most of them.
    pub(super) fn most(&self) -> Option<&str> {
        self.0.iter().max_by_key(|(_, failures)| failures.count).map(|(kind, _)| kind.as_str())
    }
}

/// The numbers of a run.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) seconds: f64,
    /// The most requests that were running at a time.
    pub(super) peak: u64,
    pub(super) requests: usize,
    pub(super) complete: usize,
    pub(super) cancelled: usize,
    pub(super) errors: Errors,
    /// Tokens of complete requests' prompts, where the server counts them.
    pub(super) tokens_in: Option<u64>,
    /// Tokens of complete and of cancelled requests.
    pub(super) tokens_out: u64,
    /// Who counted those of complete requests: `usage`, `chunks`, or `usage and chunks`.
    pub(super) counted_by: &'static str,
    /// From the beginning of a request to its first text.
    pub(super) first: Times,
    /// From one event with text to the next.
    pub(super) gaps: Times,
    /// From the first text to the last, by the number of tokens after the first.
    pub(super) per_token: Times,
    /// From the beginning of a request to its end.
    pub(super) whole: Times,
}

impl Figures {
    /// All times are those of complete requests.
    pub(super) fn of(driven: &Driven) -> Figures {
        let exchanges: Vec<&Exchange> = driven.exchanges.iter().map(|(_, exchange)| exchange).collect();
        let ended = |end: End| exchanges.iter().copied().filter(move |exchange| exchange.end == end);
        let complete: Vec<&Exchange> = ended(End::Complete).collect();
        let answers = || complete.iter().map(|exchange| &exchange.answer);
        let by_usage = answers().filter(|answer| answer.tokens_out.is_some()).count();
        let per_token = complete.iter().filter_map(|exchange| {
            let further = u32::try_from(exchange.answer.tokens()).ok()?.checked_sub(1).filter(|&n| n > 0)?;
            let decoded: Duration = exchange.gaps.iter().sum();
            exchange.first.map(|_| decoded / further)
        });
        Figures {
            seconds: driven.seconds,
            peak: driven.peak,
            requests: exchanges.len(),
            complete: complete.len(),
            cancelled: ended(End::Cancelled).count(),
            errors: Errors::of(exchanges.iter().copied()),
            tokens_in: answers().map(|answer| answer.tokens_in).sum(),
            tokens_out: answers().map(|answer| answer.tokens()).sum::<u64>()
                + ended(End::Cancelled).map(|exchange| exchange.answer.chunks).sum::<u64>(),
            counted_by: match by_usage {
                0 => "chunks",
                all if all == complete.len() => "usage",
                _ => "usage and chunks",
            },
            first: Times::new(complete.iter().filter_map(|exchange| exchange.first).collect()),
            gaps: Times::new(complete.iter().flat_map(|exchange| exchange.gaps.iter().copied()).collect()),
            per_token: Times::new(per_token.collect()),
            whole: Times::new(complete.iter().map(|exchange| exchange.took).collect()),
        }
    }

    /// Something by the second.
    pub(super) fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.seconds
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::serve::exchange::Failure;
    use crate::bench::serve::wire::Answer;

    pub(in crate::bench::serve) fn times(ms: impl IntoIterator<Item = u64>) -> Times {
        Times::new(ms.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn a_percentile_is_the_least_time_that_covers_its_part() {
        let hundred = times((1..=100).rev());
        for (percent, expected) in [(50, 50.0), (95, 95.0), (99, 99.0), (100, 100.0), (1, 1.0), (0, 1.0)] {
            assert_eq!(hundred.percentile(percent), Some(expected));
        }
        assert_eq!(hundred.mean(), Some(50.5));
        let three = times([30, 10, 20]);
        assert_eq!([50, 95, 99].map(|percent| three.percentile(percent)), [20.0, 30.0, 30.0].map(Some));
        // 49.5 of 101 is the 51st, which is 50 where they begin with 0.
        assert_eq!(times(0..=100).percentile(50), Some(50.0));
        assert_eq!(times([7]).percentile(50), Some(7.0));
        assert_eq!((times([]).percentile(50), times([]).mean(), times([]).count()), (None, None, 0));
    }

    fn exchange(end: End, chunks: u64, tokens_out: Option<u64>, gaps: &[u64]) -> Exchange {
        let answer = Answer { chunks, tokens_out, tokens_in: tokens_out.map(|_| 7), ..Answer::default() };
        let gaps: Vec<Duration> = gaps.iter().map(|&ms| Duration::from_millis(ms)).collect();
        let first = (chunks > 0).then_some(Duration::from_millis(40));
        Exchange { answer, first, gaps, took: Duration::from_millis(100), end }
    }

    fn figures(exchanges: Vec<Exchange>) -> Figures {
        Figures::of(&Driven { exchanges: exchanges.into_iter().enumerate().collect(), seconds: 2.0, peak: 3 })
    }

    fn failed(kind: &str, words: &str) -> End {
        End::Failed(Failure { kind: kind.to_owned(), words: words.to_owned() })
    }

    #[test]
    fn times_are_those_of_complete_requests_and_tokens_those_of_cancelled_ones_too() {
        let figures = figures(vec![
            exchange(End::Complete, 3, Some(5), &[10, 30]),
            exchange(End::Complete, 1, Some(1), &[]),
            exchange(End::Complete, 0, Some(0), &[]),
            exchange(End::Cancelled, 4, None, &[1, 1, 1]),
            exchange(failed("timeout", "a"), 9, None, &[500]),
            exchange(failed("timeout", "b"), 0, None, &[]),
            exchange(failed("status 429", ""), 0, None, &[]),
        ]);
        assert_eq!((figures.requests, figures.complete, figures.cancelled), (7, 3, 1));
        assert_eq!((figures.tokens_in, figures.tokens_out, figures.counted_by), (Some(21), 10, "usage"));
        assert_eq!(figures.per_second(figures.tokens_out), 5.0);
        assert_eq!((&figures.first, &figures.gaps), (&times([40, 40]), &times([10, 30])));
        // 40 ms for the four tokens after the first.
        assert_eq!((&figures.per_token, &figures.whole), (&times([10]), &times([100, 100, 100])));
        assert_eq!((figures.errors.count(), figures.errors.most()), (3, Some("timeout")));
        assert_eq!(figures.errors.0["timeout"], Failures { count: 2, example: "a".to_owned() });
    }

    #[test]
    fn without_usage_chunks_are_counted_and_that_is_told() {
        let whole = |tokens_out| exchange(End::Complete, 3, tokens_out, &[10, 30]);
        let counted = |exchanges| {
            let figures = figures(exchanges);
            (figures.tokens_in, figures.tokens_out, figures.counted_by)
        };
        assert_eq!(counted(vec![whole(None), whole(None)]), (None, 6, "chunks"));
        assert_eq!(counted(vec![whole(None), whole(Some(4))]), (None, 7, "usage and chunks"));
    }
}
