//! Embedding lookup: rows of the table, dequantised. Exact.

use kernels::embed::{self, Embed, NO_FAULT};

use super::random::Random;
use super::stored::{Layout, Stored};
use super::{Case, Expect, Launch, Scale, Stage};

/// A table, and the tokens to look up.
pub(crate) struct Lookup {
    pub(crate) stored: Stored,
    pub(crate) n: usize,
    pub(crate) vocab: usize,
    pub(crate) table: Vec<u8>,
    pub(crate) ids: Vec<u32>,
}

impl Lookup {
    /// Random ids, the first and the last of the vocabulary among them.
    pub(crate) fn new(stored: Stored, n: usize, vocab: usize, tokens: usize) -> Self {
        let mut random = Random::new((n * vocab + tokens) as u64);
        let table = stored.random(&mut random, n * vocab);
        let mut ids: Vec<u32> = (0..tokens).map(|_| random.below(vocab) as u32).collect();
        ids[0] = vocab as u32 - 1;
        if let Some(id) = ids.get_mut(1) {
            *id = 0;
        }
        Self { stored, n, vocab, table, ids }
    }

    fn with_id(mut self, token: usize, id: u32) -> Self {
        self.ids[token] = id;
        self
    }

    /// What a row of the output holds before.
    const BEFORE: f32 = -7.25;
}

pub(crate) fn cases(stored: Stored, scale: Scale) -> Vec<Box<dyn Case>> {
    let mut cases: Vec<Lookup> = [(1, 1, 1), (33, 5, 3), (64, 300, 9), (127, 40, 2), (576, 211, 17)]
        .map(|(n, vocab, tokens)| Lookup::new(stored, stored.row_length(n), vocab, tokens))
        .into();
    for id in [50, u32::MAX] {
        cases.push(Lookup::new(stored, stored.row_length(40), 50, 5).with_id(3, id));
    }
    if scale == Scale::Full {
        cases.push(Lookup::new(stored, stored.row_length(96), 151_936, 700));
    }
    cases.into_iter().map(|case| Box::new(case) as _).collect()
}

impl Case for Lookup {
    fn label(&self) -> String {
        format!("n={} vocab={} tokens={}", self.n, self.vocab, self.ids.len())
    }

    fn bytes(&self) -> u64 {
        (self.ids.len() * (self.table.len() / self.vocab + 4 * self.n)) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = Embed {
            table: stage.input(&self.table),
            ids: stage.input(&self.ids),
            y: stage.in_out(&vec![Self::BEFORE; self.ids.len() * self.n]),
            fault: stage.in_out(&[NO_FAULT]),
            n: self.n as u32,
            vocab: self.vocab as u32,
            tokens: self.ids.len() as u32,
        };
        Launch::new(embed::of(self.stored), args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let row = self.table.len() / self.vocab;
        let mut fault = NO_FAULT;
        let mut y = Vec::new();
        for (token, &id) in self.ids.iter().enumerate() {
            match self.table.chunks_exact(row).nth(id as usize) {
                Some(row) => y.extend(self.stored.values(row).iter().map(|&value| value as f32)),
                None => {
                    fault = token as u32;
                    y.resize(y.len() + self.n, Self::BEFORE);
                }
            }
        }
        vec![Expect::bits(&y), Expect::bits(&[fault])]
    }
}
