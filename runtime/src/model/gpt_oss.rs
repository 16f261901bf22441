//! The gpt-oss architecture (OpenAI 2025): attention with sinks, every second layer through a window, and a mixture of experts
//! with a clamped activation; biases everywhere.

use crate::device::{Buffer, DeviceError};
use crate::model::ModelError;
use crate::model::activations::Activations;
use crate::model::architecture::{Block, Input, Parts};
use crate::model::block_loader::BlockLoader;
use crate::model::experts::Experts;
use crate::model::linear::Linear;
use crate::model::norm::Norm;
use crate::model::step::Step;
use crate::ops::Addend;

/// The tensors of a block.
pub(super) const PARTS: Parts =
    Parts { biased: &BIASED, unbiased: &["attn_norm", "attn_sinks", "post_attention_norm"] };

const BIASED: [&str; 8] = [
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_gate_inp",
    "ffn_gate_exps",
    "ffn_up_exps",
    "ffn_down_exps",
];

/// One transformer block.
struct GptOss {
    attention_norm: Norm,
    /// Q, K and V.
    qkv: Linear,
    /// `[heads]`: one more score for each head, with no value.
    sinks: Buffer<f32>,
    attention_output: Linear,
    feed_forward_norm: Norm,
    /// Tells which experts compute a token.
    router: Linear,
    gate: Experts,
    up: Experts,
    down: Experts,
}

/// The weights of a block.
pub(super) fn load(load: &mut BlockLoader<'_, '_>) -> Result<Box<dyn Block>, ModelError> {
    let (hidden, mixture) = (load.config.hidden, load.mixture()?);
    let (count, inner) = (mixture.experts, mixture.feed_forward);
    let [q, k, v] = load.config.heads.rows();
    load.expect_biases(&BIASED)?;
    Ok(Box::new(GptOss {
        qkv: load.linear(&["attn_q", "attn_k", "attn_v"], &[q, k, v], hidden)?,
        sinks: load.vector("attn_sinks", q / load.config.heads.dim)?,
        attention_output: load.linear(&["attn_output"], &[hidden], q)?,
        router: load.linear(&["ffn_gate_inp"], &[count], hidden)?,
        gate: load.experts("ffn_gate_exps", [count, inner, hidden])?,
        up: load.experts("ffn_up_exps", [count, inner, hidden])?,
        down: load.experts("ffn_down_exps", [count, hidden, inner])?,
        attention_norm: load.rms_norm("attn_norm")?,
        feed_forward_norm: load.rms_norm("post_attention_norm")?,
    }))
}

impl Block for GptOss {
    fn linears(&self) -> Vec<(Input, &Linear)> {
        vec![
            (Input::Normed, &self.qkv),
            (Input::Attended, &self.attention_output),
            (Input::Normed, &self.router),
        ]
    }

    fn experts(&self) -> Vec<(Input, &Experts)> {
        vec![(Input::Normed, &self.gate), (Input::Normed, &self.up), (Input::Inner, &self.down)]
    }

    fn forward<'a>(
        &'a self,
        step: &Step<'a>,
        layer: usize,
        before: Option<Addend<'a>>,
    ) -> Result<Addend<'a>, DeviceError> {
        let Activations { normed, attended, wide, narrow, .. } = step.act;

        // Attention: every token looks at its sequence up to itself, in even layers no further back than the window.
        step.norm(before, &self.attention_norm, &self.qkv)?;
        step.multiply(&self.qkv, normed, wide)?;
        step.rope(&self.qkv, None, layer)?;
        step.attention(layer, Some(&self.sinks), &self.attention_output)?;
        let added = step.multiply(&self.attention_output, attended, narrow)?;

        // Feed-forward: the weighted sum of down(activation(gate(x), up(x))) of the chosen experts.
        let gate_up = [&self.gate, &self.up];
        step.mixture(added, &self.feed_forward_norm, &self.router, gate_up, &self.down)
    }
}
