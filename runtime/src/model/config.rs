//! What a GGUF file says of its model.

mod fields;
mod mixture;
mod rope;

use crate::gguf::{Gguf, Optional};
use crate::model::ModelError;
use crate::model::architecture::{Architecture, Positions, Window};
use crate::ops::Heads;

use fields::Fields;
pub use mixture::Mixture;
pub use rope::{Pairing, RopeConfig, Scaling};

/// The shape of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// `general.architecture`.
    pub architecture: String,
    /// Transformer blocks.
    pub blocks: usize,
    /// Elements of the residual stream.
    pub hidden: usize,
    /// Elements between the projections of the feed-forward part.
    pub feed_forward: usize,
    /// Heads of attention.
    pub heads: Heads,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Positions the model was made for.
    pub context: usize,
    /// How many positions up to its own a token looks at; 0: at all.
    pub window: usize,
    /// Layers 0, `window_every`, `2 window_every` and so on have the window, the others none.
    pub window_every: usize,
    /// The mixture of experts, where the feed-forward part is one.
    pub mixture: Option<Mixture>,
    /// Added to the mean of squares in a norm.
    pub epsilon: f32,
    /// Rotary position embedding.
    pub rope: RopeConfig,
}

/// Positions beyond these are taken for damage: the angles of RoPE are kept for each.
const MAX_CONTEXT: u32 = 1 << 24;

/// Fields that would change what is computed, and that no architecture here has.
const NOT_RUN: [&str; 8] = [
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attention.scale",
    "attn_logit_softcapping",
    "embedding_scale",
    "final_logit_softcapping",
    "logit_scale",
    "residual_scale",
];

impl ModelConfig {
    /// Reads the metadata.
    ///
    /// # Errors
    /// An architecture, or a value of a field, that this program does not run; a missing field.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        expect_whole(gguf)?;
        let architecture = Architecture::of(gguf)?;
        let fields = Fields { gguf, architecture: architecture.name };

        let hidden = fields.size("embedding_length")?;
        let heads = heads(&fields, hidden)?;
        let mixture = Mixture::read(&fields, architecture)?;
        if let Some(name) = NOT_RUN.iter().find(|name| gguf.get(&fields.key(name)).is_some()) {
            return Err(fields.wrong(name, "is not supported".to_owned()));
        }
        if gguf.get(&fields.key("attention.causal")).is_some()
            && !gguf.bool(&fields.key("attention.causal"))?
        {
            return Err(fields.wrong("attention.causal", "only causal attention is supported".to_owned()));
        }
        let context = fields.size_up_to("context_length", MAX_CONTEXT)?;
        fields.positive(architecture.epsilon)?;
        let rope = match architecture.positions {
            Positions::Rotary(pairing) => RopeConfig::read(&fields, heads.dim, context, pairing)?,
            Positions::Learned => RopeConfig::NONE,
        };
        Ok(Self {
            architecture: architecture.name.to_owned(),
            blocks: fields.size("block_count")?,
            hidden,
            feed_forward: fields.size("feed_forward_length")?,
            heads,
            vocab: fields.vocab()?,
            context,
            window: window(&fields, architecture, context)?,
            window_every: if let Window::EvenLayers = architecture.window { 2 } else { 1 },
            mixture,
            epsilon: gguf.f32(&fields.key(architecture.epsilon))?,
            rope,
        })
    }
}

impl ModelConfig {
    /// Positions that a token sees at most in a layer, if it does not see all up to itself.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        (self.window > 0 && layer.is_multiple_of(self.window_every)).then_some(self.window)
    }
}

/// That a file is not one of several that a model was cut into.
fn expect_whole(gguf: &Gguf) -> Result<(), ModelError> {
    const COUNT: &str = "split.count";
    let count = gguf.u32(COUNT).optional()?.unwrap_or(1);
    if count <= 1 {
        return Ok(());
    }
    let part = gguf.u32("split.no").optional()?.unwrap_or(0).saturating_add(1);
    let problem = format!(
        "this is part {part} of {count}; merge the parts into one file first, with llama-gguf-split --merge"
    );
    Err(ModelError::Field { path: gguf.path().to_owned(), field: COUNT.to_owned(), problem })
}

fn heads(fields: &Fields<'_>, hidden: usize) -> Result<Heads, ModelError> {
    let query = fields.size("attention.head_count")?;
    let kv = fields.optional("attention.head_count_kv", Fields::size)?.unwrap_or(query);
    let dim = fields.optional("attention.key_length", Fields::size)?.unwrap_or(hidden / query);
    let value_dim = fields.optional("attention.value_length", Fields::size)?.unwrap_or(dim);
    if query % kv != 0 {
        return Err(fields.wrong("attention.head_count_kv", format!("{kv} does not divide {query} heads")));
    }
    if value_dim != dim {
        return Err(
            fields.wrong("attention.value_length", format!("{value_dim} differs from the key's {dim}"))
        );
    }
    let most = kernels::attention::MAX_HEAD_DIM;
    if dim == 0 || dim > most {
        return Err(
            fields.wrong("attention.key_length", format!("heads of {dim}; 1 to {most} are supported"))
        );
    }
    Ok(Heads { query, kv, dim })
}

/// 0 where every token sees all positions before it.
fn window(fields: &Fields<'_>, architecture: &Architecture, context: usize) -> Result<usize, ModelError> {
    const PATTERN: &str = "attention.sliding_window_pattern";
    if let Window::EvenLayers = architecture.window {
        let every = fields.optional(PATTERN, Fields::number)?.unwrap_or(2);
        if every != 2 {
            return Err(fields.wrong(PATTERN, format!("{every} is not supported, 2 is")));
        }
        fields.size_up_to("attention.sliding_window", u32::MAX)?;
    }
    let window = fields.optional("attention.sliding_window", Fields::number)?.unwrap_or(0) as usize;
    let has_pattern = fields.gguf.get(&fields.key(PATTERN)).is_some();
    match architecture.window {
        _ if window == 0 || window >= context => Ok(0),
        Window::EveryLayer if has_pattern => Err(fields.wrong(PATTERN, "is not supported".to_owned())),
        Window::EveryLayer | Window::EvenLayers => Ok(window),
        Window::None => {
            Err(fields.wrong("attention.sliding_window", format!("a window of {window} is not supported")))
        }
    }
}
