//! The GPT-2 architecture (Radford et al. 2019): layer norms, learned positions, attention of Q, K and V out of one matrix, a
//! feed-forward part with GELU, and biases everywhere.

use crate::device::DeviceError;
use crate::model::ModelError;
use crate::model::activations::Activations;
use crate::model::architecture::{Block, Input, Parts};
use crate::model::block_loader::BlockLoader;
use crate::model::linear::Linear;
use crate::model::norm::Norm;
use crate::model::step::Step;
use crate::ops::Addend;

/// The tensors of a block.
pub(super) const PARTS: Parts = Parts {
    biased: &["attn_norm", "attn_qkv", "attn_output", "ffn_norm", "ffn_up", "ffn_down"],
    unbiased: &[],
};

/// One transformer block.
struct Gpt2 {
    attention_norm: Norm,
    /// Q, K and V.
    qkv: Linear,
    attention_output: Linear,
    feed_forward_norm: Norm,
    up: Linear,
    down: Linear,
}

/// The weights of a block.
pub(super) fn load(load: &mut BlockLoader<'_, '_>) -> Result<Box<dyn Block>, ModelError> {
    let (hidden, inner) = (load.config.hidden, load.config.feed_forward);
    let [q, k, v] = load.config.heads.rows();
    load.expect_biases(&["attn_qkv", "attn_output", "ffn_up", "ffn_down"])?;
    Ok(Box::new(Gpt2 {
        qkv: load.fused("attn_qkv", &[q, k, v], hidden)?,
        attention_output: load.linear(&["attn_output"], &[hidden], q)?,
        up: load.linear(&["ffn_up"], &[inner], hidden)?,
        down: load.linear(&["ffn_down"], &[hidden], inner)?,
        attention_norm: load.layer_norm("attn_norm")?,
        feed_forward_norm: load.layer_norm("ffn_norm")?,
    }))
}

impl Block for Gpt2 {
    fn linears(&self) -> Vec<(Input, &Linear)> {
        vec![
            (Input::Normed, &self.qkv),
            (Input::Attended, &self.attention_output),
            (Input::Normed, &self.up),
            (Input::Inner, &self.down),
        ]
    }

    fn forward<'a>(
        &'a self,
        step: &Step<'a>,
        layer: usize,
        before: Option<Addend<'a>>,
    ) -> Result<Addend<'a>, DeviceError> {
        let Activations { normed, attended, inner, wide, narrow, .. } = step.act;

        // Attention: every token looks at its sequence up to itself. Nothing turns; Q, K and V go to their places.
        step.norm(before, &self.attention_norm, &self.qkv)?;
        step.multiply(&self.qkv, normed, wide)?;
        step.rope(&self.qkv, None, layer)?;
        step.attention(layer, None, &self.attention_output)?;
        let added = step.multiply(&self.attention_output, attended, narrow)?;

        // Feed-forward: down(gelu(up(x))).
        step.norm(Some(added), &self.feed_forward_norm, &self.up)?;
        step.multiply(&self.up, normed, wide)?;
        step.gelu(&self.up, &self.down)?;
        step.multiply(&self.down, inner, narrow)
    }
}
