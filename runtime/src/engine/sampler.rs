//! Chooses tokens on the device; only their ids come back, and log-probabilities where they are asked for.

use kernels::logprobs::{Ask, TOP, WORDS};
use kernels::sample::{Adjustment, Choice, Entry, NO_TOKEN};

use crate::device::{Buffer, Device, DeviceError, Purpose};
use crate::engine::adjust::{Adjustments, MOST_BIASED, MOST_FORBIDDEN};
use crate::engine::logprobs;
use crate::model::Model;
use crate::ops::{self, Change};
use crate::request::Chosen;

/// Buffers for the choice of one token a sequence.
pub(crate) struct Sampler {
    vocab: usize,
    /// `[sequences, vocab]`.
    weights: Buffer<u64>,
    /// `[sequences]`.
    choices: Buffer<Choice>,
    /// `[sequences]`.
    tokens: Buffer<u32>,
    /// Of each sequence that has any, one sequence after the other.
    entries: Buffer<Entry>,
    /// `[sequences]`.
    adjustments: Buffer<Adjustment>,
    /// `[sequences]`.
    asks: Buffer<Ask>,
    /// `[sequences, WORDS]`.
    answers: Buffer<u64>,
}

/// What one row of logits is sampled with.
pub(crate) struct Row<'a> {
    pub(crate) choice: Choice,
    pub(crate) adjustments: Option<&'a Adjustments>,
    /// Whether log-probabilities are wanted, and those of how many of the most likely tokens.
    pub(crate) logprobs: Option<u32>,
}

impl Row<'_> {
    /// The most likely token.
    pub(crate) const GREEDY: Self = {
        let choice = Choice { random: 0, temperature: 0.0, top_p: 1.0, min_p: 0.0, top_k: 0 };
        Self { choice, adjustments: None, logprobs: None }
    };
}

impl Sampler {
    pub(crate) fn new(device: &Device, model: &Model) -> Result<Self, DeviceError> {
        let (limits, vocab) = (model.limits(), model.config().vocab);
        let rows = limits.sequences;
        // A sequence has an entry for each of its tokens, for those with a bias and for forbidden ones, at most.
        let entries = limits.context.min(vocab) + MOST_BIASED + MOST_FORBIDDEN;
        Ok(Self {
            vocab,
            weights: device.alloc(Purpose::Activations, rows * vocab)?,
            choices: device.alloc(Purpose::Inputs, rows)?,
            tokens: device.alloc(Purpose::Activations, rows)?,
            entries: device.alloc(Purpose::Inputs, rows * entries)?,
            adjustments: device.alloc(Purpose::Inputs, rows)?,
            asks: device.alloc(Purpose::Inputs, rows)?,
            answers: device.alloc(Purpose::Activations, rows * WORDS)?,
        })
    }

    /// Whether the device still works: a word makes its way there and back.
    ///
    /// # Errors
    /// A failing driver: after a fault that the device does not survive, every call fails.
    pub(crate) fn probe(&mut self, device: &Device) -> Result<(), DeviceError> {
        device.upload(&mut self.tokens, 0, &[NO_TOKEN])?;
        device.download(&self.tokens, 0, 1).map(drop)
    }

    /// A token for each row of the model's logits, in order; [`kernels::sample::NO_TOKEN`] where a row has no usable
    /// numbers.
    ///
    /// Where nothing is adjusted and no log-probabilities are wanted, that is an upload, a launch and a download.
    pub(crate) fn sample(
        &mut self,
        device: &Device,
        model: &Model,
        rows: &[Row<'_>],
    ) -> Result<Vec<Chosen>, DeviceError> {
        let choices: Vec<Choice> = rows.iter().map(|row| row.choice).collect();
        device.upload(&mut self.choices, 0, &choices)?;
        let adjusted = self.upload_adjustments(device, rows)?;
        if adjusted > 0 {
            self.change(device, model, Change::Adjust, adjusted)?;
        }
        let (choices, tokens) = (&self.choices, &self.tokens);
        ops::sample(device, model.logits(), &self.weights, rows.len(), self.vocab, choices, tokens)?;

        let ask = |(row, of): (u32, &Row<'_>)| Some(Ask { row, top: of.logprobs?.min(TOP as u32) });
        let asks: Vec<Ask> = (0..).zip(rows).filter_map(ask).collect();
        if adjusted > 0 && !asks.is_empty() {
            // Log-probabilities are the model's own.
            self.change(device, model, Change::Restore, adjusted)?;
        }
        let answers = self.answers(device, model, &asks)?;
        let ids = device.download(&self.tokens, 0, rows.len())?;
        let plain = |id| Chosen { id, logprob: None, top: Vec::new() };
        let mut chosen: Vec<Chosen> = ids.into_iter().map(plain).collect();
        for (ask, answer) in asks.iter().zip(answers.chunks(WORDS)) {
            let chosen = &mut chosen[ask.row as usize];
            if chosen.id != NO_TOKEN {
                *chosen = logprobs::chosen(answer, ask.top as usize);
            }
        }
        Ok(chosen)
    }

    /// Puts the entries of all rows on the device, one after the other; how many rows have some.
    fn upload_adjustments(&mut self, device: &Device, rows: &[Row<'_>]) -> Result<usize, DeviceError> {
        let (mut entries, mut adjustments) = (Vec::new(), Vec::new());
        for (row, of) in rows.iter().enumerate() {
            if let Some(of) = of.adjustments {
                adjustments.push(of.adjustment(row, entries.len()));
                entries.extend_from_slice(of.entries());
            }
        }
        if !adjustments.is_empty() {
            device.upload(&mut self.entries, 0, &entries)?;
            device.upload(&mut self.adjustments, 0, &adjustments)?;
        }
        Ok(adjustments.len())
    }

    fn change(&self, device: &Device, model: &Model, change: Change, rows: usize) -> Result<(), DeviceError> {
        ops::change(device, change, model.logits(), self.vocab, &self.entries, &self.adjustments, rows)
    }

    /// What the device tells about the rows that ask.
    fn answers(&mut self, device: &Device, model: &Model, asks: &[Ask]) -> Result<Vec<u64>, DeviceError> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        device.upload(&mut self.asks, 0, asks)?;
        let asked = (&self.asks, asks.len());
        ops::logprobs(device, model.logits(), self.vocab, &self.tokens, asked, &self.answers)?;
        device.download(&self.answers, 0, asks.len() * WORDS)
    }
}
