//! The Llama architecture: pre-norm, rotary embedding, grouped-query attention, gated feed-forward (Touvron et al. 2023).

use crate::batch::BatchBuffers;
use crate::device::{Buffer, Device, DeviceError};
use crate::gguf::Gguf;
use crate::model::config::ModelConfig;
use crate::model::weights::{Loader, Matrix};
use crate::model::{Activations, ModelError};
use crate::ops::{self, KvLayer, RopeTable};

/// The weights.
pub(super) struct Llama {
    /// `[vocab, hidden]`.
    pub(super) embedding: Matrix,
    pub(super) blocks: Vec<Block>,
    /// `[hidden]`.
    pub(super) output_norm: Buffer<f32>,
    /// `[vocab, hidden]`; where the file has none, the embedding serves.
    output: Option<Matrix>,
}

/// One transformer block.
pub(super) struct Block {
    attention_norm: Buffer<f32>,
    q: Matrix,
    k: Matrix,
    v: Matrix,
    attention_output: Matrix,
    feed_forward_norm: Buffer<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

impl Llama {
    pub(super) fn load(
        device: &Device,
        gguf: &Gguf,
        config: &ModelConfig,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, ModelError> {
        let mut load = Loader::new(device, gguf, progress)?;
        let hidden = config.hidden;
        Ok(Self {
            embedding: load.matrix("token_embd", config.vocab, hidden)?,
            blocks: (0..config.blocks)
                .map(|i| Block::load(&mut load, config, i))
                .collect::<Result<_, _>>()?,
            output_norm: load.vector("output_norm.weight", hidden)?,
            output: load
                .has("output.weight")
                .then(|| load.matrix("output", config.vocab, hidden))
                .transpose()?,
        })
    }

    /// The matrix that makes logits.
    pub(super) fn output(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

impl Block {
    fn load(load: &mut Loader<'_>, config: &ModelConfig, i: usize) -> Result<Self, ModelError> {
        let (hidden, heads, inner) = (config.hidden, config.heads, config.feed_forward);
        let (q_rows, kv_rows) = (heads.query * heads.dim, heads.kv * heads.dim);
        let name = |part: &str| format!("blk.{i}.{part}");
        Ok(Self {
            attention_norm: load.vector(&name("attn_norm.weight"), hidden)?,
            q: load.matrix(&name("attn_q"), q_rows, hidden)?,
            k: load.matrix(&name("attn_k"), kv_rows, hidden)?,
            v: load.matrix(&name("attn_v"), kv_rows, hidden)?,
            attention_output: load.matrix(&name("attn_output"), hidden, q_rows)?,
            feed_forward_norm: load.vector(&name("ffn_norm.weight"), hidden)?,
            gate: load.matrix(&name("ffn_gate"), inner, hidden)?,
            up: load.matrix(&name("ffn_up"), inner, hidden)?,
            down: load.matrix(&name("ffn_down"), hidden, inner)?,
        })
    }

    /// Adds the block's two parts to the residual stream `act.x`.
    pub(super) fn forward(
        &self,
        device: &Device,
        config: &ModelConfig,
        rope: &RopeTable,
        batch: &BatchBuffers,
        act: &Activations,
        kv: &KvLayer,
    ) -> Result<(), DeviceError> {
        let (tokens, heads) = (batch.tokens(), config.heads);
        let pairing = config.rope.pairing;

        // Attention: every token looks at its sequence up to itself.
        ops::rms_norm(device, &act.x, &self.attention_norm, config.epsilon, tokens, &act.normed)?;
        ops::linear(device, &self.q, &act.normed, tokens, &act.q)?;
        ops::linear(device, &self.k, &act.normed, tokens, &act.k)?;
        ops::linear(device, &self.v, &act.normed, tokens, &act.v)?;
        ops::rope(device, pairing, rope, batch, heads.query, heads.dim, &act.q)?;
        ops::rope(device, pairing, rope, batch, heads.kv, heads.dim, &act.k)?;
        ops::kv_write(device, heads, batch, &act.k, &act.v, kv)?;
        ops::attention(device, heads, batch, &act.q, kv, &act.attended)?;
        ops::linear(device, &self.attention_output, &act.attended, tokens, &act.normed)?;
        ops::add(device, &act.x, &act.normed, tokens * config.hidden)?;

        // Feed-forward: down(silu(gate(x)) * up(x)).
        ops::rms_norm(device, &act.x, &self.feed_forward_norm, config.epsilon, tokens, &act.normed)?;
        ops::linear(device, &self.gate, &act.normed, tokens, &act.gate)?;
        ops::linear(device, &self.up, &act.normed, tokens, &act.up)?;
        ops::swiglu(device, &act.gate, &act.up, tokens * config.feed_forward)?;
        ops::linear(device, &self.down, &act.gate, tokens, &act.normed)?;
        ops::add(device, &act.x, &act.normed, tokens * config.hidden)
    }
}
