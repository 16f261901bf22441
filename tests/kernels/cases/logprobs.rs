//! Log-probabilities, by sorting. Exact: a token's part is `2^40 exp(z - z_max)` cut off, with the library's own exponential,
//! and all after that is integers.

use std::cmp::Reverse;

use cuda_std::math::exp;
use kernels::logprobs::{Ask, LOGPROBS, Logprobs, TOP, WORDS};
use kernels::sample::NO_TOKEN;

use super::random::Random;
use super::{Case, Expect, Launch, Scale, Stage};

/// Rows of logits with a chosen token each, and what is asked of some of them.
pub(crate) struct Likely {
    vocab: usize,
    logits: Vec<f32>,
    tokens: Vec<u32>,
    asks: Vec<Ask>,
}

impl Likely {
    /// For each row how many tokens are asked for, if any; the last rows are asked first.
    pub(crate) fn new(vocab: usize, tops: &[Option<usize>]) -> Self {
        let mut random = Random::new(vocab as u64);
        let mut logits = Vec::new();
        for row in 0..tops.len() {
            logits.extend((0..vocab).map(|_| match row % 3 {
                0 => random.float() * 12.0,
                // Ties, zeros of either sign among them.
                1 => [-0.0, 0.0, 1.0, -1.0, 1.5][random.below(5)],
                _ => [f32::NEG_INFINITY, f32::MIN, random.float() * 1e30, random.float()][random.below(4)],
            }));
        }
        // Every row has a number to choose.
        logits.iter_mut().step_by(vocab).for_each(|logit| *logit = logit.max(-3.0));
        let mut tokens: Vec<u32> = tops.iter().map(|_| random.below(vocab) as u32).collect();
        if let [.., last] = &mut tokens[1..] {
            *last = NO_TOKEN;
        }
        let asked = tops.iter().enumerate().rev().filter_map(|(row, top)| Some((row, (*top)?)));
        let asks = asked.map(|(row, top)| Ask { row: row as u32, top: top as u32 }).collect();
        Self { vocab, logits, tokens, asks }
    }

    /// Ordered as floats are, then by the lower id; both zeros are one value.
    fn rank(&self, ask: Ask, id: usize) -> u64 {
        let logit = self.logits[ask.row as usize * self.vocab + id];
        let bits = if logit == 0.0 { 0 } else { logit.to_bits() };
        let ordered = if bits < 1 << 31 { bits + (1 << 31) } else { u32::MAX - bits };
        u64::from(ordered) * (1 << 32) + u64::from(u32::MAX - id as u32)
    }

    fn answer(&self, ask: Ask) -> [u64; WORDS] {
        let mut answer = [0; WORDS];
        let token = self.tokens[ask.row as usize];
        if token == NO_TOKEN {
            return answer;
        }
        let row = &self.logits[ask.row as usize * self.vocab..][..self.vocab];
        let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        answer[0] = row.iter().map(|logit| (exp(logit - best) * (1u64 << 40) as f32) as u64).sum();
        answer[1] = self.rank(ask, token as usize);
        let mut ranks: Vec<u64> = (0..self.vocab).map(|id| self.rank(ask, id)).collect();
        ranks.sort_by_key(|&rank| Reverse(rank));
        for (word, rank) in answer[2..].iter_mut().zip(ranks).take((ask.top as usize).max(1)) {
            *word = rank;
        }
        answer
    }
}

pub(crate) fn cases(scale: Scale) -> Vec<Box<dyn Case>> {
    let mut cases = vec![
        Likely::new(1, &[Some(TOP)]),
        Likely::new(3, &[Some(0), None, Some(5), Some(1)]),
        Likely::new(700, &[Some(3), Some(TOP), Some(TOP), None, Some(0)]),
        Likely::new(2100, &[Some(1), Some(7), Some(0), Some(TOP)]),
    ];
    if scale == Scale::Full {
        cases.push(Likely::new(151_936, &[Some(TOP), Some(5), Some(TOP), Some(1)]));
    }
    cases.into_iter().map(|case| Box::new(case) as _).collect()
}

impl Case for Likely {
    fn label(&self) -> String {
        format!("vocab={} asks={}", self.vocab, self.asks.len())
    }

    fn bytes(&self) -> u64 {
        4 * self.asks.len() as u64 * self.vocab as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = Logprobs {
            logits: stage.input(&self.logits),
            tokens: stage.input(&self.tokens),
            asks: stage.input(&self.asks),
            answers: stage.output(self.asks.len() * WORDS),
            vocab: self.vocab as u32,
        };
        Launch::new(&LOGPROBS, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        vec![Expect::bits(&self.asks.iter().flat_map(|&ask| self.answer(ask)).collect::<Vec<u64>>())]
    }
}
