//! What a sequence's logits are changed by before a token is chosen: bias, penalties, tokens that must not come yet.

use std::collections::HashMap;

use kernels::sample::{Adjustment, Entry, UNSEEN};

use crate::request::Sampling;

/// Tokens of a sequence with a bias at most; see [`Sampling::logit_bias`].
pub const MOST_BIASED: usize = 1024;

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

#[cfg(test)]
mod tests {
    use super::*;

    const FORBIDDEN: f32 = f32::NEG_INFINITY;

    fn entry(id: u32, count: u32, bias: f32) -> Entry {
        Entry { id, count, bias }
    }

    fn sampling(repetition_penalty: f32, presence_penalty: f32, bias: &[(u32, f32)]) -> Sampling {
        Sampling { repetition_penalty, presence_penalty, logit_bias: bias.to_vec(), ..Sampling::GREEDY }
    }

    #[test]
    fn what_asks_for_nothing_has_no_entries() {
        let mut adjustments = Adjustments::new(&Sampling::GREEDY, &[1, 2], &[]);
        adjustments.push(3);
        assert_eq!(adjustments.entries(), []);
    }

    #[test]
    fn a_token_of_bias_prompt_and_output_is_one_entry() {
        let mut adjustments = Adjustments::new(&sampling(1.5, 0.0, &[(7, 2.0), (8, 1.0)]), &[5, 7, 5], &[]);
        assert_eq!(adjustments.entries(), [entry(7, 0, 2.0), entry(8, UNSEEN, 1.0), entry(5, 0, 0.0)]);
        for id in [7, 9, 7] {
            adjustments.push(id);
        }
        let want = [entry(7, 2, 2.0), entry(8, UNSEEN, 1.0), entry(5, 0, 0.0), entry(9, 1, 0.0)];
        assert_eq!(adjustments.entries(), want);
        let by = adjustments.adjustment(3, 10);
        assert_eq!((by.row, by.first, by.entries, by.repetition), (3, 10, 4, 1.5));
    }

    #[test]
    fn presence_and_frequency_count_the_output_alone() {
        let frequency = Sampling { frequency_penalty: 0.1, ..Sampling::GREEDY };
        for sampling in [sampling(1.0, 0.3, &[]), frequency] {
            let mut adjustments = Adjustments::new(&sampling, &[5, 6], &[]);
            assert_eq!(adjustments.entries(), []);
            [6, 6, 4].into_iter().for_each(|id| adjustments.push(id));
            assert_eq!(adjustments.entries(), [entry(6, 2, 0.0), entry(4, 1, 0.0)]);
        }
    }

    #[test]
    fn forbidden_tokens_get_their_bias_back() {
        let mut adjustments = Adjustments::new(&sampling(1.0, 0.3, &[(2, 50.0)]), &[5], &[1, 2]);
        adjustments.push(5);
        let want = |one, two| [entry(2, UNSEEN, two), entry(1, UNSEEN, one), entry(5, 1, 0.0)];
        assert_eq!(adjustments.entries(), want(FORBIDDEN, FORBIDDEN));
        adjustments.allow();
        assert_eq!(adjustments.entries(), want(0.0, 50.0));
        adjustments.push(1);
        adjustments.allow();
        assert_eq!(adjustments.entries()[1], entry(1, 1, 0.0));
    }

    #[test]
    fn once_nothing_is_forbidden_nothing_may_be_left() {
        let mut adjustments = Adjustments::new(&Sampling::GREEDY, &[5], &[1, 2]);
        assert_eq!(adjustments.entries(), [entry(1, UNSEEN, FORBIDDEN), entry(2, UNSEEN, FORBIDDEN)]);
        adjustments.allow();
        assert_eq!(adjustments.entries(), []);
    }

    #[test]
    fn of_an_id_that_comes_twice_the_last_counts_and_no_more_than_there_is_room_for() {
        let mut bias = vec![(1, 2.0), (1, -3.0)];
        let adjustments = Adjustments::new(&sampling(1.0, 0.0, &bias), &[], &[]);
        assert_eq!(adjustments.entries(), [entry(1, UNSEEN, -3.0)]);
        bias = (0..2000).map(|id| (id, 1.0)).collect();
        let adjustments = Adjustments::new(&sampling(1.0, 0.0, &bias), &[], &[]);
        assert_eq!(adjustments.entries().len(), MOST_BIASED);
    }
}
