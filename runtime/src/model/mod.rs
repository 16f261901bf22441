//! A model: weights on a device and the forward pass of its architecture.

pub mod cache;
pub mod config;
mod error;
pub mod linear;
mod llama;
mod rope_table;
pub mod weights;

use kernels::embed::NO_FAULT;
use kernels::kv::PAGE;

use crate::batch::{Batch, BatchBuffers, BatchLimits};
use crate::device::{Buffer, Device, DeviceError, Purpose};
use crate::gguf::Gguf;
use crate::ops::{self, KvLayer, RopeTable};

use config::ModelConfig;
pub use error::ModelError;
use llama::Llama;

/// What a step computes on its way, one buffer a role, `tokens` rows each.
struct Activations {
    /// `[tokens, hidden]`: the residual stream.
    x: Buffer<f32>,
    /// `[tokens, hidden]`: the normed input of a part, or the output of one.
    normed: Buffer<f32>,
    /// `[tokens, heads, head_dim]`.
    q: Buffer<f32>,
    /// `[tokens, kv_heads, head_dim]`.
    k: Buffer<f32>,
    /// `[tokens, kv_heads, head_dim]`.
    v: Buffer<f32>,
    /// `[tokens, heads, head_dim]`.
    attended: Buffer<f32>,
    /// `[tokens, feed_forward]`.
    gate: Buffer<f32>,
    /// `[tokens, feed_forward]`.
    up: Buffer<f32>,
    /// `[sequences, hidden]`: rows whose logits are wanted.
    last: Buffer<f32>,
    /// `[sequences, vocab]`.
    logits: Buffer<f32>,
    /// One value, see [`kernels::embed`].
    fault: Buffer<u32>,
}

/// A model on a device, with its KV cache.
pub struct Model {
    config: ModelConfig,
    limits: BatchLimits,
    llama: Llama,
    rope: RopeTable,
    batch: BatchBuffers,
    activations: Activations,
    kv: Vec<KvLayer>,
}

/// Sees the residual stream after each part of a forward pass: `(name, values [tokens, hidden])`, with the names `embed`,
/// `block.0` and so on, `final_norm`.
pub type Observer<'a> = &'a mut dyn FnMut(&str, &[f32]);

impl Model {
    /// Loads a file's weights and makes room for batches up to `limits` and for `pages` pages of keys and values.
    /// `progress` is told the bytes uploaded so far and in all.
    ///
    /// # Errors
    /// The file describes no model that this program runs, or the device lacks memory.
    pub fn load(
        device: &Device,
        gguf: &Gguf,
        limits: BatchLimits,
        pages: usize,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, ModelError> {
        let config = ModelConfig::from_gguf(gguf)?;
        let limits = BatchLimits { context: limits.context.min(config.context), ..limits };
        let llama = Llama::load(device, gguf, &config, progress)?;
        let rope = rope_table::load(device, gguf, &config, limits.context)?;
        let batch = BatchBuffers::new(device, limits)?;
        let activations = Activations::new(device, &config, limits)?;
        let page = PAGE * config.heads.kv * config.heads.dim;
        let layer = || -> Result<KvLayer, DeviceError> {
            let keys = device.alloc(Purpose::KvCache, pages * page)?;
            Ok(KvLayer { keys, values: device.alloc(Purpose::KvCache, pages * page)? })
        };
        let kv = (0..config.blocks).map(|_| layer()).collect::<Result<_, _>>()?;
        Ok(Self { config, limits, llama, rope, batch, activations, kv })
    }

    /// Bytes of keys and values that a page of [`PAGE`] tokens takes over all layers.
    pub fn page_bytes(config: &ModelConfig) -> usize {
        2 * config.blocks * PAGE * config.heads.kv * config.heads.dim * size_of::<f32>()
    }

    /// What the file says of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The greatest batch.
    pub fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// Computes a batch: writes its keys and values, and leaves the logits that it wants in [`logits`](Self::logits).
    ///
    /// # Errors
    /// [`ModelError::TokenOutOfRange`], before anything is computed; or a failing device.
    pub fn forward(
        &mut self,
        device: &Device,
        batch: &Batch,
        observer: Option<Observer<'_>>,
    ) -> Result<(), ModelError> {
        if let Some((position, id)) = batch.out_of_range(self.config.vocab) {
            return Err(ModelError::TokenOutOfRange { position, id, vocab: self.config.vocab });
        }
        self.batch.load(device, batch)?;
        device.upload(&mut self.activations.fault, 0, &[NO_FAULT])?;
        self.run(device, batch.outputs(), observer)
    }

    /// The logits of the last batch, `[outputs, vocab]`.
    pub fn logits(&self) -> &Buffer<f32> {
        &self.activations.logits
    }

    fn observe(
        &self,
        device: &Device,
        name: &str,
        x: &Buffer<f32>,
        observer: &mut Option<Observer<'_>>,
    ) -> Result<(), DeviceError> {
        if let Some(observe) = observer {
            observe(name, &device.download(x, 0, self.batch.tokens() * self.config.hidden)?);
        }
        Ok(())
    }

    /// From token ids to logits.
    fn run(
        &self,
        device: &Device,
        outputs: usize,
        mut observer: Option<Observer<'_>>,
    ) -> Result<(), ModelError> {
        let (config, llama, act, batch) = (&self.config, &self.llama, &self.activations, &self.batch);
        let tokens = batch.tokens();

        ops::embed(device, &llama.embedding, &batch.ids, &act.fault, tokens, &act.x)?;
        self.observe(device, "embed", &act.x, &mut observer)?;

        for (i, (block, kv)) in llama.blocks.iter().zip(&self.kv).enumerate() {
            block.forward(device, config, &self.rope, batch, act, kv)?;
            self.observe(device, &format!("block.{i}"), &act.x, &mut observer)?;
        }
        if observer.is_some() {
            ops::rms_norm(device, &act.x, &llama.output_norm, config.epsilon, tokens, &act.normed)?;
            self.observe(device, "final_norm", &act.normed, &mut observer)?;
        }

        // Only the rows whose logits are wanted go on.
        if outputs > 0 {
            ops::gather(device, &act.x, config.hidden, &batch.outputs, &act.fault, outputs, &act.last)?;
            ops::rms_norm(device, &act.last, &llama.output_norm, config.epsilon, outputs, &act.normed)?;
            ops::linear(device, llama.output(), &act.normed, outputs, &act.logits)?;
        }
        Ok(())
    }
}

impl Activations {
    fn new(device: &Device, config: &ModelConfig, limits: BatchLimits) -> Result<Self, DeviceError> {
        let rows = |rows: usize, width: usize| device.alloc(Purpose::Activations, rows * width);
        let (tokens, heads) = (limits.tokens, config.heads);
        Ok(Self {
            x: rows(tokens, config.hidden)?,
            normed: rows(tokens.max(limits.sequences), config.hidden)?,
            q: rows(tokens, heads.query * heads.dim)?,
            k: rows(tokens, heads.kv * heads.dim)?,
            v: rows(tokens, heads.kv * heads.dim)?,
            attended: rows(tokens, heads.query * heads.dim)?,
            gate: rows(tokens, config.feed_forward)?,
            up: rows(tokens, config.feed_forward)?,
            last: rows(limits.sequences, config.hidden)?,
            logits: rows(limits.sequences, config.vocab)?,
            fault: device.alloc(Purpose::Activations, 1)?,
        })
    }
}
