//! What is asked, request by request: the same for the same arguments, in whichever order it is sent.

use super::LoadFault;
use super::args::{Args, Range};
use super::dataset::{self, Entry, Prompt};
use super::random::Random;

/// What made-up prompts are made of.
const WORDS: [&str; 64] = [
    "after", "air", "all", "and", "are", "back", "because", "before", "bird", "book", "bridge", "but",
    "city", "cold", "could", "day", "door", "down", "early", "evening", "every", "field", "fire", "for",
    "from", "garden", "green", "had", "her", "his", "house", "into", "late", "letter", "light", "long",
    "made", "market", "morning", "never", "night", "not", "old", "over", "rain", "river", "road", "said",
    "sea", "slow", "snow", "stone", "that", "the", "their", "they", "train", "tree", "under", "water",
    "when", "wind", "with", "year",
];
/// The stream of random numbers that the shared words are drawn from; requests have those from 0 on.
const SHARED: u64 = u64::MAX - 1;

/// All requests of a run.
pub(super) struct Workload {
    seed: u64,
    input: Range,
    output: Range,
    shared: String,
    entries: Vec<Entry>,
    cancel_share: f64,
    /// Of requests with even numbers, and of those with odd ones.
    temperatures: [Option<f64>; 2],
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Work {
    pub(super) prompt: Prompt,
    pub(super) max_tokens: u32,
    /// `None`: the server's own default.
    pub(super) temperature: Option<f64>,
    /// For the draw of its tokens.
    pub(super) seed: u64,
    /// Its stream is dropped after so many tokens.
    pub(super) cancel_after: Option<u32>,
}

impl Workload {
    pub(super) fn new(args: &Args) -> Result<Workload, LoadFault> {
        let seed = args.seed.unwrap_or(0);
        let mut shared = words(&mut Random::new(seed, SHARED), args.shared_prefix);
        if !shared.is_empty() {
            shared.push(' ');
        }
        Ok(Workload {
            seed,
            input: args.input_len,
            output: args.output_len,
            shared,
            entries: args.dataset.as_deref().map_or(Ok(Vec::new()), dataset::read)?,
            cancel_share: args.cancel_share,
            temperatures: match args.temperature {
                // Greedy ones and sampled ones in turn.
                given if args.verify_invariance => [Some(0.0), Some(given.unwrap_or(1.0))],
                given => [given; 2],
            },
        })
    }

    /// The request of that number.
    pub(super) fn work(&self, number: usize) -> Work {
        let mut random = Random::new(self.seed, number as u64);
        let seed = random.number();
        let drawn = random.within(self.output);
        let (prompt, max_tokens) = if self.entries.is_empty() {
            let length = random.within(self.input);
            (Prompt::Text(self.shared.clone() + &words(&mut random, length)), drawn)
        } else {
            let Entry { prompt, max_tokens } = &self.entries[number % self.entries.len()];
            (prompt.clone(), max_tokens.unwrap_or(drawn))
        };
        let cancelled = random.part() < self.cancel_share;
        let cancel_after = cancelled.then(|| random.below(u64::from(max_tokens)) as u32);
        // JSON's numbers are exact up to 2^53 everywhere.
        Work {
            prompt,
            max_tokens,
            temperature: self.temperatures[number % 2],
            seed: seed >> 11,
            cancel_after,
        }
    }
}

fn words(random: &mut Random, n: u32) -> String {
    let word = |_| WORDS[random.below(WORDS.len() as u64) as usize];
    (0..n).map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(seed: u64, shared: u32, cancel_share: f64) -> Workload {
        let mut shared = words(&mut Random::new(seed, SHARED), shared);
        shared.push(' ');
        let (input, output) = (Range { least: 3, most: 9 }, Range { least: 2, most: 5 });
        Workload {
            seed,
            input,
            output,
            shared,
            entries: Vec::new(),
            cancel_share,
            temperatures: [None, Some(1.0)],
        }
    }

    #[test]
    fn requests_follow_from_the_seed_and_their_number_alone() {
        let (one, other) = (workload(4, 10, 0.2), workload(4, 10, 0.2));
        let forth: Vec<Work> = (0..50).map(|number| one.work(number)).collect();
        let back: Vec<Work> = (0..50).rev().map(|number| other.work(number)).collect();
        assert!(forth.iter().eq(back.iter().rev()));
        assert_eq!((forth[6].temperature, forth[7].temperature), (None, Some(1.0)));
        let differs = workload(5, 10, 0.2);
        assert!((0..50).all(|number| differs.work(number).prompt != forth[number].prompt));
    }

    #[test]
    fn prompts_have_the_shared_words_and_lengths_within_bounds() {
        let workload = workload(1, 10, 0.0);
        let (mut inputs, mut outputs) = ([0; 20], [0; 6]);
        for number in 0..1000 {
            let Work { prompt, max_tokens, cancel_after, .. } = workload.work(number);
            let text = prompt.text();
            assert!(text.starts_with(&workload.shared) && cancel_after.is_none(), "{text}");
            inputs[text.split(' ').count()] += 1;
            outputs[max_tokens as usize] += 1;
        }
        assert_eq!(inputs[13..].iter().sum::<i32>(), 1000);
        assert!(inputs[13..].iter().all(|&count| count > 0), "{inputs:?}");
        assert!(outputs[2..].iter().sum::<i32>() == 1000 && outputs[2..].iter().all(|&count| count > 0));
    }

    #[test]
    fn the_share_that_is_cancelled_is_the_one_asked_for() {
        let workload = workload(1, 0, 0.2);
        let cancelled: Vec<(u32, u32)> = (0..10_000)
            .map(|number| workload.work(number))
            .filter_map(|work| Some((work.cancel_after?, work.max_tokens)))
            .collect();
        // Five standard deviations.
        assert!((1800..=2200).contains(&cancelled.len()), "{}", cancelled.len());
        assert!(cancelled.iter().all(|&(after, max_tokens)| after < max_tokens));
        assert!((0..5).all(|after| cancelled.iter().any(|one| one.0 == after)));
    }

    #[test]
    fn a_dataset_is_asked_in_its_order_and_again_from_its_beginning() {
        let entry = |text: &str, max_tokens| Entry { prompt: Prompt::Text(text.to_owned()), max_tokens };
        let workload =
            Workload { entries: vec![entry("a", Some(100)), entry("b", None)], ..workload(1, 0, 0.0) };
        let texts: String = (0..5).map(|number| workload.work(number).prompt.text()).collect();
        assert_eq!(texts, "ababa");
        assert_eq!(workload.work(2).max_tokens, 100);
        assert!((2..=5).contains(&workload.work(3).max_tokens));
    }
}
