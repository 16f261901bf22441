//! What a sequence's logits are changed by before a token is chosen: bias, penalties, tokens that must not come yet.

use std::collections::HashMap;

use kernels::sample::{Adjustment, Entry, UNSEEN};

use crate::request::Sampling;

/// Tokens of a sequence with a bias at most; see [`Sampling::logit_bias`].
pub(crate) const MOST_BIASED: usize = 1024;

/// Tokens that are forbidden at most.
pub(crate) const MOST_FORBIDDEN: usize = 64;

/// The tokens of a sequence whose logits are not left as they are. Empty where nothing is asked for.
pub(crate) struct Adjustments {
    repetition: f32,
    presence: f32,
    frequency: f32,
    /// In the order they came.
    entries: Vec<Entry>,
    /// Where a token's entry is.
    places: HashMap<u32, usize>,
    /// Forbidden tokens, with the bias that they have afterwards.
    forbidden: Vec<(u32, f32)>,
}

impl Adjustments {
    /// For a request with this prompt; `forbidden` tokens are not chosen until [`allow`](Self::allow).
    pub(crate) fn new(sampling: &Sampling, prompt: &[u32], forbidden: &[u32]) -> Self {
        let mut adjustments = Self {
            repetition: sampling.repetition_penalty,
            presence: sampling.presence_penalty,
            frequency: sampling.frequency_penalty,
            entries: Vec::new(),
            places: HashMap::new(),
            forbidden: Vec::new(),
        };
        for &(id, bias) in sampling.logit_bias.iter().take(MOST_BIASED) {
            adjustments.entry(id).bias = bias;
        }
        for &id in forbidden.iter().take(MOST_FORBIDDEN) {
            let entry = adjustments.entry(id);
            let bias = std::mem::replace(&mut entry.bias, f32::NEG_INFINITY);
            adjustments.forbidden.push((id, bias));
        }
        // The other penalties look at the output alone.
        if adjustments.repetition != 1.0 {
            for &id in prompt {
                let entry = adjustments.entry(id);
                if entry.count == UNSEEN {
                    entry.count = 0;
                }
            }
        }
        adjustments
    }

    /// The output has one more token.
    pub(crate) fn push(&mut self, id: u32) {
        if self.repetition != 1.0 || self.presence != 0.0 || self.frequency != 0.0 {
            let entry = self.entry(id);
            entry.count = if entry.count == UNSEEN { 1 } else { entry.count + 1 };
        }
    }

    /// Nothing is forbidden any more.
    pub(crate) fn allow(&mut self) {
        for (id, bias) in std::mem::take(&mut self.forbidden) {
            self.entry(id).bias = bias;
        }
        if self.entries.iter().all(|entry| entry.count == UNSEEN && entry.bias == 0.0) {
            self.entries.clear();
            self.places.clear();
        }
    }

    /// The tokens, each once.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is told the device about row `row`, whose entries begin at `first`.
    pub(crate) fn adjustment(&self, row: usize, first: usize) -> Adjustment {
        Adjustment {
            row: row as u32,
            first: first as u32,
            entries: self.entries.len() as u32,
            repetition: self.repetition,
            presence: self.presence,
            frequency: self.frequency,
        }
    }

    fn entry(&mut self, id: u32) -> &mut Entry {
        let place = *self.places.entry(id).or_insert(self.entries.len());
        if place == self.entries.len() {
            self.entries.push(Entry { id, count: UNSEEN, bias: 0.0 });
        }
        &mut self.entries[place]
    }
}
