//! From logits to tokens.

use kernels::sample;

use super::Done;
use crate::device::{Buffer, Device};

/// Penalises, in each of `rows` rows of logits, the tokens it has seen: `seen[offsets[r] .. offsets[r + 1]]`, each once.
pub fn penalise(
    device: &Device,
    logits: &Buffer<f32>,
    rows: usize,
    vocab: usize,
    seen: &Buffer<u32>,
    offsets: &Buffer<u32>,
    penalties: &Buffer<f32>,
) -> Done {
    // SAFETY: the views have the sizes the kernel documents; ids were checked against the vocabulary.
    unsafe {
        let args = sample::Penalty {
            logits: logits.view_mut(0, rows * vocab),
            seen: seen.view(0, seen.len()),
            offsets: offsets.view(0, rows + 1),
            penalties: penalties.view(0, rows),
            rows: rows as u32,
            vocab: vocab as u32,
        };
        device.launch(&sample::PENALTY, &args)
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
