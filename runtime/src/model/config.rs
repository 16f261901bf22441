//! What a GGUF file says of its model.

use crate::gguf::Gguf;
use crate::model::ModelError;
use crate::ops::Heads;

/// Architectures that this program runs.
const SUPPORTED: &str = "llama";

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
    /// Added to the mean of squares in a norm.
    pub epsilon: f32,
    /// Rotary position embedding.
    pub rope: RopeConfig,
}

/// How positions turn queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeConfig {
    /// Elements of a head that turn.
    pub rotated: usize,
    /// The base of the frequencies.
    pub base: f64,
    /// Positions are divided by it.
    pub scale: f64,
    /// Which elements form a pair.
    pub pairing: Pairing,
}

/// Which elements of a head form a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// `(2i, 2i + 1)`: Llama, whose GGUF files hold Q and K permuted for it.
    Interleaved,
    /// `(i, i + rotated / 2)`: the others.
    SplitHalf,
}

/// Sizes beyond these are taken for damage.
const MAX_SIZE: u32 = 1 << 20;

impl ModelConfig {
    /// Reads the metadata.
    ///
    /// # Errors
    /// An architecture, or a value of a field, that this program does not run; a missing field.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let architecture = gguf.str("general.architecture")?.to_owned();
        if architecture != "llama" {
            let path = gguf.path().to_owned();
            return Err(ModelError::Architecture { path, name: architecture, supported: SUPPORTED });
        }
        let fields = Fields { gguf, architecture: &architecture };

        let hidden = fields.size("embedding_length")?;
        let query = fields.size("attention.head_count")?;
        let kv = fields.optional("attention.head_count_kv", Fields::size)?.unwrap_or(query);
        let dim = fields.optional("attention.key_length", Fields::size)?.unwrap_or(hidden / query);
        let value_dim = fields.optional("attention.value_length", Fields::size)?.unwrap_or(dim);
        let heads = Heads { query, kv, dim };
        if query % kv != 0 {
            return Err(
                fields.wrong("attention.head_count_kv", format!("{kv} does not divide {query} heads"))
            );
        }
        if value_dim != dim {
            return Err(
                fields.wrong("attention.value_length", format!("{value_dim} differs from the key's {dim}"))
            );
        }
        if dim == 0 || dim > kernels::attention::MAX_HEAD_DIM {
            let most = kernels::attention::MAX_HEAD_DIM;
            return Err(
                fields.wrong("attention.key_length", format!("heads of {dim}; 1 to {most} are supported"))
            );
        }
        if fields.optional("expert_count", Fields::number)?.unwrap_or(0) > 0 {
            return Err(fields.wrong("expert_count", "mixtures of experts are not supported".to_owned()));
        }
        let context = fields.size_up_to("context_length", u32::MAX)?;
        if let Some(window) = fields.optional("attention.sliding_window", Fields::number)?
            && window > 0
            && (window as usize) < context
        {
            return Err(
                fields.wrong("attention.sliding_window", format!("a window of {window} is not supported"))
            );
        }

        Ok(Self {
            blocks: fields.size("block_count")?,
            hidden,
            feed_forward: fields.size("feed_forward_length")?,
            heads,
            vocab: fields.vocab()?,
            context,
            epsilon: gguf.f32(&fields.key("attention.layer_norm_rms_epsilon"))?,
            rope: fields.rope(dim)?,
            architecture,
        })
    }
}

/// The metadata under the architecture's name.
struct Fields<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Fields<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn wrong(&self, name: &str, problem: String) -> ModelError {
        ModelError::Field { path: self.gguf.path().to_owned(), field: self.key(name), problem }
    }

    fn number(&self, name: &str) -> Result<u32, ModelError> {
        Ok(self.gguf.u32(&self.key(name))?)
    }

    fn float(&self, name: &str) -> Result<f64, ModelError> {
        let value = self.gguf.f32(&self.key(name))? as f64;
        if value.is_finite() {
            Ok(value)
        } else {
            Err(self.wrong(name, format!("{value} is not a number to use")))
        }
    }

    fn size(&self, name: &str) -> Result<usize, ModelError> {
        self.size_up_to(name, MAX_SIZE)
    }

    fn size_up_to(&self, name: &str, most: u32) -> Result<usize, ModelError> {
        match self.number(name)? {
            0 => Err(self.wrong(name, "0 is no size".to_owned())),
            n if n > most => Err(self.wrong(name, format!("{n} is over {most}"))),
            n => Ok(n as usize),
        }
    }

    /// `read(name)` if the file has the field.
    fn optional<T>(
        &self,
        name: &str,
        read: impl Fn(&Self, &str) -> Result<T, ModelError>,
    ) -> Result<Option<T>, ModelError> {
        if self.gguf.get(&self.key(name)).is_some() { read(self, name).map(Some) } else { Ok(None) }
    }

    /// The embedding's rows decide: the tokenizer may know fewer tokens.
    fn vocab(&self) -> Result<usize, ModelError> {
        let tensor = self.gguf.tensor("token_embd.weight").ok_or_else(|| ModelError::Tensor {
            path: self.gguf.path().to_owned(),
            name: "token_embd.weight".to_owned(),
            problem: "is missing".to_owned(),
        })?;
        Ok(tensor.dims.get(1).copied().unwrap_or(1))
    }

    fn rope(&self, head_dim: usize) -> Result<RopeConfig, ModelError> {
        let rotated = self.optional("rope.dimension_count", Fields::size)?.unwrap_or(head_dim);
        if rotated > head_dim || rotated % 2 != 0 {
            let problem = format!("{rotated} is no even number up to the head's {head_dim}");
            return Err(self.wrong("rope.dimension_count", problem));
        }
        let kind = self.optional("rope.scaling.type", |fields, name| {
            Ok(fields.gguf.str(&fields.key(name))?.to_owned())
        })?;
        let mut scale = 1.0;
        match kind.as_deref() {
            Some("none") => {}
            None | Some("linear") => {
                for name in ["rope.scaling.factor", "rope.scale_linear"] {
                    if let Some(factor) = self.optional(name, Fields::float)? {
                        scale = if factor == 0.0 { 1.0 } else { factor };
                        break;
                    }
                }
            }
            Some(other) => return Err(self.wrong("rope.scaling.type", format!("{other:?} is not supported"))),
        }
        let base = self.optional("rope.freq_base", Fields::float)?.unwrap_or(10_000.0);
        if base <= 0.0 || scale <= 0.0 {
            return Err(
                self.wrong("rope.freq_base", format!("base {base} with scale {scale} gives no angles"))
            );
        }
        Ok(RopeConfig { rotated, base, scale, pairing: Pairing::Interleaved })
    }
}
