//! From logits to tokens.

use kernels::logprobs::{self, Ask};
use kernels::sample::{self, Adjustment, Entry};

use super::Done;
use crate::device::{Buffer, Device};

/// Whether the logits are changed or put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// By bias and penalties.
    Adjust,
    /// To what they were before.
    Restore,
}

/// Changes the logits of the rows of the first `rows` adjustments, whose entries lie within `entries`.
pub fn change(
    device: &Device,
    change: Change,
    logits: &Buffer<f32>,
    vocab: usize,
    entries: &Buffer<Entry>,
    adjustments: &Buffer<Adjustment>,
    rows: usize,
) -> Done {
    let kernel = match change {
        Change::Adjust => &sample::ADJUST,
        Change::Restore => &sample::RESTORE,
    };
    // SAFETY: the views have the sizes the kernel documents; it leaves out ids that the vocabulary does not have.
    unsafe {
        let args = sample::Adjust {
            logits: logits.view_mut(0, logits.len()),
            entries: entries.view_mut(0, entries.len()),
            adjustments: adjustments.view(0, rows),
            vocab: vocab as u32,
        };
        device.launch(kernel, &args)
    }
}

/// Answers the first `asks` of the rows that ask how likely `tokens` and the most likely tokens are.
pub fn logprobs(
    device: &Device,
    logits: &Buffer<f32>,
    vocab: usize,
    tokens: &Buffer<u32>,
    asks: (&Buffer<Ask>, usize),
    answers: &Buffer<u64>,
) -> Done {
    let (asks, count) = asks;
    // SAFETY: the views have the sizes the kernel documents; the tokens are ids that were chosen from these logits.
    unsafe {
        let args = logprobs::Logprobs {
            logits: logits.view(0, logits.len()),
            tokens: tokens.view(0, tokens.len()),
            asks: asks.view(0, count),
            answers: answers.view_mut(0, count * logprobs::WORDS),
            vocab: vocab as u32,
        };
        device.launch(&logprobs::LOGPROBS, &args)
    }
}

/// Chooses a token for each of `rows` rows of logits.
pub fn sample(
    device: &Device,
    logits: &Buffer<f32>,
    weights: &Buffer<u64>,
    rows: usize,
    vocab: usize,
    choices: &Buffer<sample::Choice>,
    tokens: &Buffer<u32>,
) -> Done {
    // SAFETY: the views have the sizes the kernel documents.
    unsafe {
        let args = sample::Sample {
            logits: logits.view(0, rows * vocab),
            weights: weights.view_mut(0, rows * vocab),
            choices: choices.view(0, rows),
            tokens: tokens.view_mut(0, rows),
            rows: rows as u32,
            vocab: vocab as u32,
        };
        device.launch(&sample::TOKEN, &args)
    }
}
