//! A model: weights on a device and the forward pass of its architecture.

mod activations;
mod architecture;
mod block_loader;
pub mod cache;
pub mod config;
mod error;
pub mod experts;
mod gated;
mod gpt2;
mod gpt_oss;
pub mod linear;
mod llama;
pub mod norm;
mod phi3;
mod qwen2;
mod qwen3;
mod rope_table;
mod step;
mod transformer;
pub mod weights;

use std::collections::HashMap;

use kernels::flash::MAX_HEAD_DIM;
use kernels::kv::PAGE;

use crate::batch::{Batch, BatchBuffers, BatchLimits, Shape, TileTokens};
use crate::device::{Buffer, Device, DeviceError, Graph};
use crate::gguf::Gguf;
use crate::numerics::{Form, Numerics};
use crate::ops::{self, Addend, RopeTable};
use crate::products::Products;

use activations::Activations;
use architecture::Architecture;
use cache::Cache;
use config::ModelConfig;
pub use error::ModelError;
use step::Step;
use transformer::Transformer;

/// A model on a device, with its KV cache.
pub struct Model {
    config: ModelConfig,
    limits: BatchLimits,
    numerics: Numerics,
    transformer: Transformer,
    products: Products,
    rope: RopeTable,
    batch: BatchBuffers,
    activations: Activations,
    cache: Cache,
    graphs: HashMap<Shape, Recording>,
}

/// A decoding shape's launches.
enum Recording {
    /// It has run once, so that all its kernels are loaded.
    Seen,
    /// On devices that record.
    Graph(Graph),
}

/// What a model needs beside its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The arithmetic of its products.
    pub numerics: Numerics,
    /// The greatest batch.
    pub limits: BatchLimits,
    /// Pages of keys and values.
    pub pages: usize,
}

/// Sees the residual stream after each part of a forward pass: `(name, values [tokens, hidden])`, with the names `embed`,
/// `block.0` and so on, `final_norm`.
pub type Observer<'a> = &'a mut dyn FnMut(&str, &[f32]);

impl Model {
    /// Loads a file's weights and makes room for what a plan asks.
    /// `progress` is told the bytes uploaded so far and in all.
    ///
    /// # Errors
    /// The file describes no model that this program runs, or the device lacks memory.
    pub fn load(
        device: &Device,
        gguf: &Gguf,
        plan: Plan,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, ModelError> {
        let config = ModelConfig::from_gguf(gguf)?;
        let limits = BatchLimits { context: plan.limits.context.min(config.context), ..plan.limits };
        let form = cache_form(gguf, plan.numerics);
        let dim = config.heads.dim;
        if form != Form::F32 && (!dim.is_multiple_of(16) || dim > MAX_HEAD_DIM) {
            let problem = format!(
                "heads of {dim}; in tc numerics multiples of 16 up to {MAX_HEAD_DIM} are supported: use --numerics f32"
            );
            let field = format!("{}.attention.key_length", config.architecture);
            return Err(ModelError::Field { path: gguf.path().to_owned(), field, problem });
        }
        let architecture = Architecture::of(gguf)?;
        let transformer = Transformer::load(device, gguf, architecture, &config, plan.numerics, progress)?;
        let blocks = transformer.blocks.iter().flat_map(|block| block.linears());
        let linears = blocks.map(|(_, w)| (w, limits.tokens));
        let products = Products::new(device, linears.chain([(&transformer.output, limits.sequences)]))?;
        let rope = rope_table::load(device, gguf, &config, limits.context)?;
        let heads = config.heads;
        let batch = BatchBuffers::new(device, limits, TileTokens::of(heads.query / heads.kv), plan.pages)?;
        let activations = Activations::new(device, &config, &transformer, limits, form)?;
        let cache = Cache::new(device, form, heads, config.blocks, limits, plan.pages)?;
        let (numerics, graphs) = (plan.numerics, HashMap::new());
        Ok(Self { config, limits, numerics, transformer, products, rope, batch, activations, cache, graphs })
    }

    /// Bytes of keys and values that a page of [`PAGE`] tokens takes over all layers of a file's model.
    pub fn page_bytes(gguf: &Gguf, config: &ModelConfig, numerics: Numerics) -> usize {
        2 * config.blocks * PAGE * config.heads.kv * config.heads.dim * cache_form(gguf, numerics).bytes()
    }

    /// What the file says of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The greatest batch.
    pub fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// The arithmetic of its products.
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// Computes a batch: writes its keys and values, and leaves the logits that it wants in [`logits`](Self::logits).
    ///
    /// # Errors
    /// [`ModelError::TokenOutOfRange`] and [`ModelError::ContextOverflow`], before anything is computed; or a failing
    /// device.
    pub fn forward(
        &mut self,
        device: &Device,
        batch: &Batch,
        mut observer: Option<Observer<'_>>,
    ) -> Result<(), ModelError> {
        if let Some((position, id)) = batch.out_of_range(self.config.vocab) {
            return Err(ModelError::TokenOutOfRange { position, id, vocab: self.config.vocab });
        }
        let context = self.limits.context;
        if let Some(position) = batch.last_position().filter(|&position| position as usize >= context) {
            return Err(ModelError::ContextOverflow { position, context });
        }
        let shape = self.batch.shape(batch);
        self.batch.load(device, batch, shape)?;
        if !shape.decodes() || observer.is_some() || device.profiles() {
            return Ok(self.run(device, &mut observer)?);
        }
        match self.graphs.get(&shape) {
            // SAFETY: what the graph uses is this model's own memory, all of which lives as long as the model.
            Some(Recording::Graph(graph)) => unsafe { device.replay(graph)? },
            Some(Recording::Seen) => match device.capture(|| self.run(device, &mut None))? {
                Some(graph) => {
                    // SAFETY: as above.
                    unsafe { device.replay(&graph)? };
                    self.graphs.insert(shape, Recording::Graph(graph));
                }
                None => self.run(device, &mut None)?,
            },
            None => {
                self.run(device, &mut None)?;
                self.graphs.insert(shape, Recording::Seen);
            }
        }
        Ok(())
    }

    /// The logits of the last batch, `[outputs, vocab]`.
    pub fn logits(&self) -> &Buffer<f32> {
        &self.activations.logits
    }

    /// From token ids to logits, of the batch that is loaded.
    fn run(&self, device: &Device, observer: &mut Option<Observer<'_>>) -> Result<(), DeviceError> {
        let Self { config, transformer, products, rope, batch, activations: act, cache, .. } = self;
        let step = Step { device, products, config, rope, batch, act, cache };
        let Shape { tokens, outputs, .. } = batch.loaded();
        let norm = |added, from, rows, form| {
            ops::norm(device, &act.x, added, from, &transformer.output_norm, rows, (&act.normed, form))
        };
        ops::embed(device, transformer.embedding(), batch.ids(), &act.fault, &act.x)?;
        if let Some(positions) = &transformer.positions {
            let values = &act.narrow;
            ops::embed(device, positions, batch.positions(), &act.fault, values)?;
            ops::add(device, &act.x, Addend::Values { values, width: config.hidden, tokens })?;
        }
        self.observe(device, "embed", &act.x, observer)?;

        let mut added: Option<Addend<'_>> = None;
        for (i, block) in transformer.blocks.iter().enumerate() {
            let addend = block.forward(&step, i, added)?;
            added = Some(addend);
            if observer.is_some() {
                // What otherwise waits for the next norm.
                ops::add(device, &act.x, addend)?;
                added = None;
                self.observe(device, &format!("block.{i}"), &act.x, observer)?;
            }
        }
        if observer.is_some() {
            norm(None, None, tokens, Form::F32)?;
            self.observe(device, "final_norm", act.normed.values(), observer)?;
        }

        // Only the rows whose logits are wanted go on.
        if outputs > 0 {
            let output = &transformer.output;
            norm(added, Some(batch.outputs()), outputs, output.form())?;
            ops::multiply(device, products, output, &act.normed, outputs, &act.logits)?;
            ops::logits(device, output, &act.normed, outputs, &act.logits)?;
        }
        Ok(())
    }

    fn observe(
        &self,
        device: &Device,
        name: &str,
        x: &Buffer<f32>,
        observer: &mut Option<Observer<'_>>,
    ) -> Result<(), DeviceError> {
        if let Some(observe) = observer {
            observe(name, &device.download(x, 0, self.batch.loaded().tokens * self.config.hidden)?);
        }
        Ok(())
    }
}

/// The form of the KV cache: that of the rows before the first block's queries.
fn cache_form(gguf: &Gguf, numerics: Numerics) -> Form {
    let tensor = ["attn_q", "attn_qkv"].iter().find_map(|part| gguf.tensor(&format!("blk.0.{part}.weight")));
    tensor.and_then(|tensor| tensor.ty.stored()).map_or(Form::F32, |stored| numerics.form(stored))
}
