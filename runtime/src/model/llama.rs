//! The Llama architecture: pre-norm, rotary embedding, grouped-query attention, gated feed-forward (Touvron et al. 2023).

use crate::batch::BatchBuffers;
use crate::device::{Buffer, Device, DeviceError};
use crate::gguf::Gguf;
use crate::model::cache::Cache;
use crate::model::config::ModelConfig;
use crate::model::linear::Linear;
use crate::model::weights::{Loader, Matrix};
use crate::model::{Activations, ModelError};
use crate::numerics::Numerics;
use crate::ops::{self, Addend, AttentionLayer, RopeTable};
use crate::products::Products;

/// The weights.
pub(super) struct Llama {
    /// `[vocab, hidden]`; none where the output's matrix serves.
    embedding: Option<Matrix>,
    pub(super) blocks: Vec<Block>,
    /// `[hidden]`.
    pub(super) output_norm: Buffer<f32>,
    /// `[vocab, hidden]`: makes logits. Where the file has none, it is the embedding.
    pub(super) output: Linear,
}

/// One transformer block.
pub(super) struct Block {
    attention_norm: Buffer<f32>,
    qkv: Linear,
    attention_output: Linear,
    feed_forward_norm: Buffer<f32>,
    gate_up: Linear,
    down: Linear,
}

impl Llama {
    pub(super) fn load(
        device: &Device,
        gguf: &Gguf,
        config: &ModelConfig,
        numerics: Numerics,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, ModelError> {
        let mut load = Loader::new(device, gguf, progress)?;
        let hidden = config.hidden;
        let embedding = load.matrix("token_embd", config.vocab, hidden)?;
        let (output, embedding) = if load.has("output.weight") {
            let output = Linear::load(&mut load, numerics, &["output"], &[config.vocab], hidden)?;
            (output, Some(embedding))
        } else {
            (Linear::of(embedding, numerics), None)
        };
        let blocks = (0..config.blocks)
            .map(|i| Block::load(&mut load, config, numerics, i))
            .collect::<Result<_, _>>()?;
        let output_norm = load.vector("output_norm.weight", hidden)?;
        load.finish();
        Ok(Self { blocks, output_norm, output, embedding })
    }

    /// The matrix whose rows are the tokens' first values.
    pub(super) fn embedding(&self) -> &Matrix {
        self.embedding.as_ref().unwrap_or(&self.output.matrices()[0])
    }
}

impl Block {
    fn load(
        load: &mut Loader<'_>,
        config: &ModelConfig,
        numerics: Numerics,
        i: usize,
    ) -> Result<Self, ModelError> {
        let (hidden, heads, inner) = (config.hidden, config.heads, config.feed_forward);
        let (q_rows, kv_rows) = (heads.query * heads.dim, heads.kv * heads.dim);
        let name = |part: &str| format!("blk.{i}.{part}");
        let mut linear = |parts: &[&str], rows: &[usize], columns| {
            let names: Vec<String> = parts.iter().map(|part| name(part)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            Linear::load(load, numerics, &names, rows, columns)
        };
        Ok(Self {
            qkv: linear(&["attn_q", "attn_k", "attn_v"], &[q_rows, kv_rows, kv_rows], hidden)?,
            attention_output: linear(&["attn_output"], &[hidden], q_rows)?,
            gate_up: linear(&["ffn_gate", "ffn_up"], &[inner, inner], hidden)?,
            down: linear(&["ffn_down"], &[hidden], inner)?,
            attention_norm: load.vector(&name("attn_norm.weight"), hidden)?,
            feed_forward_norm: load.vector(&name("ffn_norm.weight"), hidden)?,
        })
    }

    /// The matrices: of Q, K and V, of the attention's output, of gate and up, of down.
    pub(super) fn linears(&self) -> [&Linear; 4] {
        [&self.qkv, &self.attention_output, &self.gate_up, &self.down]
    }

    /// Adds `before` and the block's first part to the residual stream `act.x`, and gives what the second part adds.
    #[allow(clippy::too_many_arguments, reason = "each is one thing that a block works with")]
    pub(super) fn forward<'a>(
        &'a self,
        device: &Device,
        products: &Products,
        config: &ModelConfig,
        rope: &RopeTable,
        batch: &BatchBuffers,
        act: &'a Activations,
        cache: &Cache,
        layer: usize,
        before: Option<Addend<'a>>,
    ) -> Result<Addend<'a>, DeviceError> {
        let (tokens, heads, epsilon) = (batch.loaded().tokens, config.heads, config.epsilon);
        let Activations { x, normed, attended, inner, wide, narrow, .. } = act;

        // Attention: every token looks at its sequence up to itself.
        let form = self.qkv.form();
        ops::rms_norm(device, x, before, None, &self.attention_norm, epsilon, tokens, (normed, form))?;
        ops::multiply(device, products, &self.qkv, normed, tokens, wide)?;
        let pairing = config.rope.pairing;
        ops::rope(device, pairing, rope, heads, batch, &self.qkv, normed, wide, cache, layer)?;
        let form = self.attention_output.form();
        ops::attention(device, heads, batch, cache, AttentionLayer::plain(layer), attended.values())?;
        ops::round(device, attended, form, tokens)?;
        ops::multiply(device, products, &self.attention_output, attended, tokens, narrow)?;
        let added = Addend { w: &self.attention_output, x: attended, sums: narrow, tokens };

        // Feed-forward: down(silu(gate(x)) * up(x)).
        let form = self.gate_up.form();
        ops::rms_norm(
            device,
            x,
            Some(added),
            None,
            &self.feed_forward_norm,
            epsilon,
            tokens,
            (normed, form),
        )?;
        ops::multiply(device, products, &self.gate_up, normed, tokens, wide)?;
        ops::swiglu(device, &self.gate_up, normed, tokens, wide, (inner, self.down.form()))?;
        ops::multiply(device, products, &self.down, inner, tokens, narrow)?;
        Ok(Addend { w: &self.down, x: inner, sums: narrow, tokens })
    }
}
