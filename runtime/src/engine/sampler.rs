//! Chooses tokens on the device; only their ids come back.

use kernels::sample::{Choice, NO_TOKEN};

use crate::device::{Buffer, Device, DeviceError, Purpose};
use crate::model::Model;
use crate::ops;

/// Buffers for the choice of one token a sequence.
pub(crate) struct Sampler {
    vocab: usize,
    /// `[sequences, vocab]`.
    weights: Buffer<u64>,
    /// `[sequences]`.
    choices: Buffer<Choice>,
    /// `[sequences]`.
    tokens: Buffer<u32>,
    /// Distinct tokens of each sequence, one sequence after the other.
    seen: Buffer<u32>,
    /// `[sequences + 1]`.
    offsets: Buffer<u32>,
    /// `[sequences]`.
    penalties: Buffer<f32>,
}

/// What one row of logits is sampled with.
pub(crate) struct Row<'a> {
    pub(crate) choice: Choice,
    pub(crate) penalty: f32,
    /// Distinct tokens that the penalty applies to.
    pub(crate) seen: &'a [u32],
}

impl Sampler {
    pub(crate) fn new(device: &Device, model: &Model) -> Result<Self, DeviceError> {
        let (limits, vocab) = (model.limits(), model.config().vocab);
        let rows = limits.sequences;
        Ok(Self {
            vocab,
            weights: device.alloc(Purpose::Activations, rows * vocab)?,
            choices: device.alloc(Purpose::Inputs, rows)?,
            tokens: device.alloc(Purpose::Activations, rows)?,
            seen: device.alloc(Purpose::Inputs, rows * limits.context.min(vocab))?,
            offsets: device.alloc(Purpose::Inputs, rows + 1)?,
            penalties: device.alloc(Purpose::Inputs, rows)?,
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
    pub(crate) fn sample(
        &mut self,
        device: &Device,
        model: &Model,
        rows: &[Row<'_>],
    ) -> Result<Vec<u32>, DeviceError> {
        if rows.iter().any(|row| row.penalty != 1.0) {
            let mut offsets = vec![0];
            let mut seen = Vec::new();
            for row in rows {
                seen.extend_from_slice(row.seen);
                offsets.push(seen.len() as u32);
            }
            let penalties: Vec<f32> = rows.iter().map(|row| row.penalty).collect();
            device.upload(&mut self.seen, 0, &seen)?;
            device.upload(&mut self.offsets, 0, &offsets)?;
            device.upload(&mut self.penalties, 0, &penalties)?;
            let (logits, seen) = (model.logits(), &self.seen);
            ops::penalise(device, logits, rows.len(), self.vocab, seen, &self.offsets, &self.penalties)?;
        }
        let choices: Vec<Choice> = rows.iter().map(|row| row.choice).collect();
        device.upload(&mut self.choices, 0, &choices)?;
        ops::sample(
            device,
            model.logits(),
            &self.weights,
            rows.len(),
            self.vocab,
            &self.choices,
            &self.tokens,
        )?;
        device.download(&self.tokens, 0, rows.len())
    }
}
