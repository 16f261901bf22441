//! The weights of a model.

use crate::device::Device;
use crate::gguf::Gguf;
use crate::model::architecture::{Architecture, Block, Positions};
use crate::model::block_loader::BlockLoader;
use crate::model::config::ModelConfig;
use crate::model::linear::{self, Linear};
use crate::model::norm::Norm;
use crate::model::weights::{Loader, Matrix};
use crate::model::{ModelError, experts};
use crate::numerics::Numerics;

/// What all architectures have in common: blocks between an embedding and an output.
pub(super) struct Transformer {
    /// `[vocab, hidden]`; none where the output's matrix serves.
    embedding: Option<Matrix>,
    /// `[context, hidden]`: added to the tokens' first values, where the architecture learns its positions.
    pub(super) positions: Option<Matrix>,
    pub(super) blocks: Vec<Box<dyn Block>>,
    pub(super) output_norm: Norm,
    /// `[vocab, hidden]`: makes logits. Where the file has none, it is the embedding.
    pub(super) output: Linear,
}

impl Transformer {
    pub(super) fn load(
        device: &Device,
        gguf: &Gguf,
        architecture: &Architecture,
        config: &ModelConfig,
        numerics: Numerics,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, ModelError> {
        architecture.check(gguf, config)?;
        experts::check(gguf, numerics)?;
        linear::check(gguf, numerics)?;
        let mut load = Loader::new(device, gguf, progress)?;
        let hidden = config.hidden;
        let embedding = load.matrix("token_embd", config.vocab, hidden)?;
        let positions = match architecture.positions {
            Positions::Rotary(_) => None,
            Positions::Learned => Some(load.matrix("position_embd", config.context, hidden)?),
        };
        let (output, embedding) = if load.has("output.weight") {
            let output = Linear::load(&mut load, numerics, &["output"], &[config.vocab], hidden)?;
            (output, Some(embedding))
        } else {
            (Linear::of(embedding, numerics), None)
        };
        let blocks = (0..config.blocks)
            .map(|block| (architecture.block)(&mut BlockLoader { load: &mut load, config, numerics, block }))
            .collect::<Result<_, _>>()?;
        let output_norm = (architecture.norm)(&mut load, "output_norm", hidden, config.epsilon)?;
        load.finish();
        Ok(Self { embedding, positions, blocks, output_norm, output })
    }

    /// The matrix whose rows are the tokens' first values.
    pub(super) fn embedding(&self) -> &Matrix {
        self.embedding.as_ref().unwrap_or_else(|| self.output.first())
    }
}
