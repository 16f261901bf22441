//! Sampling, by sorting. Exact: a token's weight is `2^40 exp((z - z_max) / temperature)` cut off, with the library's
//! own exponential, and all after that is integers.

use std::cmp::Ordering;

use cuda_std::math::exp;
use kernels::sample::{ADJUST, Adjust, Adjustment, Choice, Entry, NO_TOKEN, RESTORE, Sample, TOKEN, UNSEEN};

use super::random::Random;
use super::{Case, Expect, Launch, Scale, Stage};

/// Rows of logits, each with its way to choose.
pub(crate) struct Draw {
    vocab: usize,
    logits: Vec<f32>,
    choices: Vec<Choice>,
}

/// What a row of logits looks like.
#[derive(Clone, Copy)]
enum Logits {
    /// All different.
    Smooth,
    /// A few levels, zeros of either sign among them.
    Tied,
    /// From one end of f32 to the other, negative infinity included.
    Huge,
}

impl Logits {
    fn value(self, random: &mut Random) -> f32 {
        match self {
            Logits::Smooth => random.float() * 8.0,
            Logits::Tied => [-0.0, 0.0, 1.0, -1.0, 1.5][random.below(5)],
            Logits::Huge => [f32::NEG_INFINITY, f32::MAX, f32::MIN, random.float() * 1e30, random.float()]
                [random.below(5)],
        }
    }
}

impl Draw {
    /// `rows` of every kind of logits, each with some combination of limits.
    pub(crate) fn random(vocab: usize, rows: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut logits = Vec::with_capacity(rows * vocab);
        let mut choices = Vec::new();
        for row in 0..rows {
            let kind = [Logits::Smooth, Logits::Tied, Logits::Smooth, Logits::Huge][row % 4];
            logits.extend((0..vocab).map(|_| kind.value(&mut random)));
            choices.push(Choice {
                random: [random.bits(), 0, u64::MAX, random.bits()][random.below(4)],
                temperature: [1.0, 0.7, 5.0, 0.0, 1e-3, 1e-40, 0.1][random.below(7)],
                top_p: [1.0, 0.95, 0.5, 0.1, 1e-9, 0.0, 0.999_999][random.below(7)],
                min_p: [0.0, 0.0, 0.05, 0.5, 1.0][random.below(5)],
                top_k: [0, 1, 2, 5, 40, vocab - 1, vocab, vocab + 5][random.below(8)] as u32,
            });
        }
        // Every row has a number to choose.
        logits.iter_mut().step_by(vocab).for_each(|logit| *logit = logit.max(-3.0));
        Self { vocab, logits, choices }
    }

    /// Rows that have no token: a NaN of either sign, a greatest logit that is infinite; greedy and not.
    pub(crate) fn none(vocab: usize) -> Self {
        let choice = Choice { random: 7, temperature: 1.0, top_p: 0.9, min_p: 0.0, top_k: 3 };
        let greedy = Choice { temperature: 0.0, ..choice };
        let mut logits = Random::new(vocab as u64).floats(8 * vocab);
        for (row, special) in logits.chunks_exact_mut(2 * vocab).zip([f32::NAN, -f32::NAN, f32::INFINITY]) {
            row[vocab - 1] = special;
            row[vocab + vocab / 2] = special;
        }
        logits[6 * vocab..].fill(f32::NEG_INFINITY);
        Self { vocab, logits, choices: [choice, greedy].repeat(4) }
    }

    /// One row of logits, drawn from often, in one way, at random.
    pub(crate) fn often(row: &[f32], choice: Choice, times: usize) -> Self {
        let mut random = Random::new(times as u64);
        let choice = |_| Choice { random: random.bits(), ..choice };
        Self { vocab: row.len(), logits: row.repeat(times), choices: (0..times).map(choice).collect() }
    }

    /// One row's token.
    fn token(&self, row: usize) -> u32 {
        let logits = &self.logits[row * self.vocab..][..self.vocab];
        let choice = &self.choices[row];
        if logits.iter().any(|logit| logit.is_nan()) {
            return NO_TOKEN;
        }
        let mut ids: Vec<usize> = (0..self.vocab).collect();
        // Stable, so ties stay in the order of ids.
        ids.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap_or(Ordering::Equal));
        let best = logits[ids[0]];
        if best.is_infinite() {
            return NO_TOKEN;
        }
        if choice.temperature == 0.0 {
            return ids[0] as u32;
        }
        let one = (1u64 << 40) as f32;
        let weight = |id: usize| (exp((logits[id] - best) / choice.temperature) * one) as u64;
        let mass = |ids: &[usize]| ids.iter().map(|&id| weight(id) as u128).sum::<u128>();
        if choice.top_k > 0 {
            ids.truncate(choice.top_k as usize);
        }
        if choice.top_p < 1.0 {
            let share = (choice.top_p as f64 * 2f64.powi(32)) as u128;
            let wanted = ((mass(&ids) * share) >> 32).max(1);
            let mut sum = 0;
            let reached = ids.iter().position(|&id| {
                sum += weight(id) as u128;
                sum >= wanted
            });
            ids.truncate(reached.map_or(ids.len(), |last| last + 1));
        }
        let least = (choice.min_p * one) as u64;
        ids.retain(|&id| weight(id) >= least);
        ids.sort();
        let place = (mass(&ids) * choice.random as u128) >> 64;
        let mut sum = 0;
        let drawn = ids.iter().find(|&&id| {
            sum += weight(id) as u128;
            place < sum
        });
        drawn.map_or(NO_TOKEN, |&id| id as u32)
    }
}

pub(crate) fn cases(scale: Scale) -> Vec<Box<dyn Case>> {
    let mut cases = vec![Draw::none(3), Draw::none(700)];
    for (i, vocab) in [1, 2, 3, 31, 255, 256, 257, 512, 1000].into_iter().enumerate() {
        cases.push(Draw::random(vocab, if scale == Scale::Full { 200 } else { 12 }, i as u64));
    }
    if scale == Scale::Full {
        cases.push(Draw::random(151_936, 8, 100));
        cases.push(Draw::random(49_152, 8, 101));
    }
    cases.into_iter().map(|case| Box::new(case) as _).collect()
}

impl Case for Draw {
    fn label(&self) -> String {
        format!("vocab={} rows={}", self.vocab, self.choices.len())
    }

    fn bytes(&self) -> u64 {
        4 * self.logits.len() as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = Sample {
            logits: stage.input(&self.logits),
            weights: stage.workspace(self.logits.len()),
            choices: stage.input(&self.choices),
            tokens: stage.output(self.choices.len()),
            rows: self.choices.len() as u32,
            vocab: self.vocab as u32,
        };
        Launch::new(&TOKEN, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        vec![Expect::bits(&(0..self.choices.len()).map(|row| self.token(row)).collect::<Vec<u32>>())]
    }
}

/// Rows of logits, and what changes them.
#[derive(Clone)]
pub(crate) struct Change {
    vocab: usize,
    logits: Vec<f32>,
    entries: Vec<Entry>,
    adjustments: Vec<Adjustment>,
}

/// Whether the changes are made or unmade.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Adjust,
    Restore,
}

/// A change in one of its ways.
pub(crate) struct Changed(pub(crate) Way, pub(crate) Change);

impl Change {
    /// One row.
    pub(crate) fn one(row: &[f32], entries: &[Entry], adjustment: Adjustment) -> Self {
        let adjustment = Adjustment { row: 0, first: 0, entries: entries.len() as u32, ..adjustment };
        Self {
            vocab: row.len(),
            logits: row.to_vec(),
            entries: entries.to_vec(),
            adjustments: vec![adjustment],
        }
    }

    /// For each row so many entries, of every kind; rows of none have no adjustment, and the last rows come first.
    pub(crate) fn new(vocab: usize, counts: &[usize]) -> Self {
        let mut random = Random::new(vocab as u64);
        let logits = (0..counts.len() * vocab)
            .map(|i| if i % 7 == 3 { f32::NEG_INFINITY } else { random.wide(5) })
            .collect();
        let mut change = Self { vocab, logits, entries: Vec::new(), adjustments: Vec::new() };
        for (row, &count) in counts.iter().enumerate().rev().filter(|(_, count)| **count > 0) {
            change.adjustments.push(Adjustment {
                row: row as u32,
                first: change.entries.len() as u32,
                entries: count as u32,
                repetition: [1.3, 1.0, 0.5, 2.0][row % 4],
                presence: [0.0, 0.7, -1.1, 0.3][row % 4],
                frequency: [0.1, 0.0, 0.013, -0.7][row % 4],
            });
            // One that the vocabulary does not have is among them.
            let mut ids: Vec<u32> = (0..=vocab as u32).collect();
            random.shuffle(&mut ids);
            change.entries.extend(ids[..count].iter().map(|&id| Entry {
                id,
                count: [UNSEEN, 0, 1, 2, 3, 1000, 131_072][random.below(7)],
                bias: [0.0, -0.0, 1.7, -100.0, 100.0, f32::NEG_INFINITY, random.wide(3)][random.below(7)],
            }));
        }
        change
    }

    /// Logits and entries after the change.
    fn made(&self) -> (Vec<f32>, Vec<Entry>) {
        let (mut logits, mut entries) = (self.logits.clone(), self.entries.clone());
        for by in &self.adjustments {
            for entry in entries[by.first as usize..].iter_mut().take(by.entries as usize) {
                if entry.id as usize >= self.vocab {
                    continue;
                }
                let logit = &mut logits[by.row as usize * self.vocab + entry.id as usize];
                let (former, seen) = (*logit, entry.count != UNSEEN);
                // Of two floats, a result in f64 that is rounded once more is the rounded result.
                let mut steps: Vec<Box<dyn Fn(f64) -> f64>> = Vec::new();
                let number = |x: f32| f64::from(x);
                let (bias, repetition) = (number(entry.bias), number(by.repetition));
                steps.push(Box::new(move |x| x + bias));
                if seen {
                    steps.push(Box::new(move |x| if x > 0.0 { x / repetition } else { x * repetition }));
                }
                if seen && entry.count > 0 {
                    let presence = number(by.presence);
                    let times = number((f64::from(entry.count) * number(by.frequency)) as f32);
                    steps.push(Box::new(move |x| x - presence));
                    steps.push(Box::new(move |x| x - times));
                }
                for step in steps {
                    *logit = step(number(*logit)) as f32;
                }
                entry.bias = former;
            }
        }
        (logits, entries)
    }
}

pub(crate) fn change_cases(way: Way, scale: Scale) -> Vec<Box<dyn Case>> {
    let mut cases =
        vec![Change::new(1, &[1]), Change::new(300, &[5, 0, 301, 257, 64]), Change::new(9, &[0, 1])];
    if scale == Scale::Full {
        cases.push(Change::new(151_936, &[700, 8192]));
    }
    cases.into_iter().map(|change| Box::new(Changed(way, change)) as _).collect()
}

impl Case for Changed {
    fn label(&self) -> String {
        format!("vocab={} rows={}", self.1.vocab, self.1.adjustments.len())
    }

    fn bytes(&self) -> u64 {
        20 * self.1.entries.len() as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let change = &self.1;
        let (logits, entries) = match self.0 {
            Way::Adjust => (change.logits.clone(), change.entries.clone()),
            Way::Restore => change.made(),
        };
        let args = Adjust {
            logits: stage.in_out(&logits),
            entries: stage.in_out(&entries),
            adjustments: stage.input(&change.adjustments),
            vocab: change.vocab as u32,
        };
        Launch::new(if self.0 == Way::Adjust { &ADJUST } else { &RESTORE }, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let (logits, entries) = self.1.made();
        let logits = if self.0 == Way::Adjust { &logits } else { &self.1.logits };
        vec![Expect::bits(logits), Expect::bits(&entries)]
    }
}
