//! The Qwen3 architecture (Yang et al. 2025): a Llama whose heads turn in halves, those of Q and K being normed before.

use crate::model::ModelError;
use crate::model::architecture::{Block, Parts};
use crate::model::block_loader::BlockLoader;
use crate::model::gated::Gated;

/// The tensors of a block.
pub(super) const PARTS: Parts = Parts {
    biased: &["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"],
    unbiased: &["attn_norm", "attn_q_norm", "attn_k_norm", "ffn_norm"],
};

/// The weights of a block.
pub(super) fn load(load: &mut BlockLoader<'_, '_>) -> Result<Box<dyn Block>, ModelError> {
    let (hidden, inner) = (load.config.hidden, load.config.feed_forward);
    let [q, k, v] = load.config.heads.rows();
    Ok(Box::new(Gated {
        qkv: load.linear(&["attn_q", "attn_k", "attn_v"], &[q, k, v], hidden)?,
        head_norms: Some(load.head_norms("attn_q_norm", "attn_k_norm")?),
        attention_output: load.linear(&["attn_output"], &[hidden], q)?,
        gate_up: load.linear(&["ffn_gate", "ffn_up"], &[inner, inner], hidden)?,
        down: load.linear(&["ffn_down"], &[hidden], inner)?,
        attention_norm: load.rms_norm("attn_norm")?,
        feed_forward_norm: load.rms_norm("ffn_norm")?,
    }))
}
