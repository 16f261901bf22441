//! Token ids in, numbers out: what correctness is argued with. No tokenizer and no sampler takes part.

use crate::batch::{Batch, Chunk};
use crate::device::Device;
use crate::kv_cache::pages_for;
use crate::model::{Model, ModelError};

/// What a model computes for one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptTrace {
    /// The prompt.
    pub ids: Vec<u32>,
    /// Logits after the prompt's last token, `[vocab]`.
    pub final_logits: Vec<f32>,
    /// Greedy decoding, ties to the lowest id; never stops at an end token.
    pub steps: Vec<Step>,
    /// The residual stream after each part, over the prompt; empty unless asked for.
    pub layers: Vec<Layer>,
}

/// One step of greedy decoding.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The token of the greatest logit.
    pub id: u32,
    /// Its log-probability.
    pub logprob: f64,
    /// How far its logit lies above the second.
    pub margin: f64,
    /// The five greatest logits.
    pub top5: Vec<(u32, f32)>,
}

/// What is kept of the residual stream after one part of the forward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// `embed`, `block.0`, ..., `final_norm`.
    pub name: String,
    /// L2 norm over all prompt positions.
    pub l2_all: f64,
    /// L2 norm at the last position.
    pub l2_last: f64,
    /// The first values at position 0.
    pub first8_pos0: Vec<f32>,
    /// The first values at the last position.
    pub first8_last: Vec<f32>,
}

/// Computes `ids` in one piece, then `steps` greedy tokens one by one. Uses the pages of the KV cache from 0 on.
///
/// # Errors
/// An id outside of the vocabulary, or a failing device.
///
/// # Panics
/// If the prompt is empty or the model has no room for it: see [`Model::limits`].
pub fn trace_prompt(
    device: &Device,
    model: &mut Model,
    ids: &[u32],
    steps: usize,
    layers: bool,
) -> Result<PromptTrace, ModelError> {
    let hidden = model.config().hidden;
    let pages: Vec<u32> = (0..pages_for(ids.len() + steps) as u32).collect();
    let mut seen = Vec::new();
    let mut observe = |name: &str, values: &[f32]| seen.push(Layer::new(name, values, hidden));

    let mut batch = Batch::default();
    batch.push(Chunk { tokens: ids, start: 0, pages: &pages, wants_logits: true });
    model.forward(device, &batch, if layers { Some(&mut observe) } else { None })?;
    let final_logits = logits(device, model)?;

    let mut trace = PromptTrace {
        ids: ids.to_vec(),
        final_logits: final_logits.clone(),
        steps: Vec::new(),
        layers: seen,
    };
    let mut row = final_logits;
    for i in 0..steps {
        let step = Step::choose(&row);
        if i + 1 < steps {
            let mut batch = Batch::default();
            batch.push(Chunk { tokens: &[step.id], start: ids.len() + i, pages: &pages, wants_logits: true });
            model.forward(device, &batch, None)?;
            row = logits(device, model)?;
        }
        trace.steps.push(step);
    }
    Ok(trace)
}

fn logits(device: &Device, model: &Model) -> Result<Vec<f32>, ModelError> {
    Ok(device.download(model.logits(), 0, model.config().vocab)?)
}

impl Step {
    fn choose(logits: &[f32]) -> Self {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        // Stable, so ties stay in the order of ids.
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        let logit = |rank: usize| order.get(rank).map_or(f64::NEG_INFINITY, |&id| logits[id as usize] as f64);
        let total: f64 = logits.iter().map(|&logit_i| (logit_i as f64 - logit(0)).exp()).sum();
        Self {
            id: order.first().copied().unwrap_or(0),
            logprob: -total.ln(),
            margin: logit(0) - logit(1),
            top5: order.iter().take(5).map(|&id| (id, logits[id as usize])).collect(),
        }
    }
}

impl Layer {
    fn new(name: &str, values: &[f32], hidden: usize) -> Self {
        let last = &values[values.len() - hidden..];
        let l2 = |values: &[f32]| values.iter().map(|&v| v as f64 * v as f64).sum::<f64>().sqrt();
        let first8 = |values: &[f32]| values[..hidden.min(8)].to_vec();
        Self {
            name: name.to_owned(),
            l2_all: l2(values),
            l2_last: l2(last),
            first8_pos0: first8(values),
            first8_last: first8(last),
        }
    }
}
