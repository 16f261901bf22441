//! What `config.json` says of a model, in the terms of GGUF's metadata.
//!
//! Every field is known: it is translated, or has the one value that this program runs, or changes no answer. Any other
//! is an error that names it. Where a field may be left out, the library's own default holds.

use std::path::Path;

use super::error::{FolderError, FolderProblem};
use super::json::Fields;
use super::rope::Rope;
use crate::gguf::Writer;

/// The file.
pub(super) const FILE: &str = "config.json";

/// Sizes beyond these are taken for damage.
const MAX_SIZE: u32 = 1 << 20;

/// Kinds of models, by what distinguishes their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Gated feed-forward, RMS norms and rotary embedding, in tensors of their own.
    Llama,
    /// The same with biases of Q, K and V.
    Qwen2,
    /// The same with norms of every query and key.
    Qwen3,
    /// Q, K and V are one tensor, gate and up another.
    Phi3,
    /// Layer norms, learned positions, matrices the other way around.
    Gpt2,
}

/// What a model is called.
struct Family {
    model_type: &'static str,
    class: &'static str,
    kind: Kind,
    /// `general.architecture`.
    gguf: &'static str,
}

const FAMILIES: [Family; 6] = [
    Family { model_type: "llama", class: "LlamaForCausalLM", kind: Kind::Llama, gguf: "llama" },
    Family { model_type: "mistral", class: "MistralForCausalLM", kind: Kind::Llama, gguf: "llama" },
    Family { model_type: "qwen2", class: "Qwen2ForCausalLM", kind: Kind::Qwen2, gguf: "qwen2" },
    Family { model_type: "qwen3", class: "Qwen3ForCausalLM", kind: Kind::Qwen3, gguf: "qwen3" },
    Family { model_type: "phi3", class: "Phi3ForCausalLM", kind: Kind::Phi3, gguf: "phi3" },
    Family { model_type: "gpt2", class: "GPT2LMHeadModel", kind: Kind::Gpt2, gguf: "gpt2" },
];

/// Fields that change no answer: of training, of how the library runs a model, of other tools. Tokens are in the
/// tokenizer's files.
const IDLE: [&str; 33] = [
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "auto_map",
    "bos_token_id",
    "embd_pdrop",
    "eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "max_window_layers",
    "n_ctx",
    "num_labels",
    "output_past",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "reorder_and_upcast_attn",
    "resid_pdrop",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_use_proj",
    "task_specific_params",
    "transformers.js_config",
    "transformers_version",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
    "use_return_dict",
];

/// A model.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) kind: Kind,
    /// `general.architecture`.
    pub(super) architecture: &'static str,
    /// Transformer blocks.
    pub(super) blocks: usize,
    /// Elements of the residual stream.
    pub(super) hidden: usize,
    /// Elements between the projections of the feed-forward part.
    pub(super) inner: usize,
    /// Query heads.
    pub(super) heads: usize,
    /// Heads of keys and values.
    pub(super) kv_heads: usize,
    /// Elements of a head.
    pub(super) head_dim: usize,
    /// Tokens in the vocabulary.
    pub(super) vocab: usize,
    /// Positions.
    pub(super) context: usize,
    /// How far a token looks back; `None`: to the beginning.
    window: Option<usize>,
    /// Added to the mean of squares in a norm.
    epsilon: f32,
    /// Whether the embedding makes the logits too.
    pub(super) tied: bool,
    /// Whether all projections of attention have biases.
    pub(super) attention_bias: bool,
    /// Whether all projections of the feed-forward part have biases.
    pub(super) feed_forward_bias: bool,
    /// How positions turn queries and keys; none where they are learned.
    pub(super) rope: Option<Rope>,
}

impl Config {
    /// Reads the file of a folder.
    pub(super) fn read(folder: &Path) -> Result<Self, FolderError> {
        let path = folder.join(FILE);
        let Some(mut fields) = Fields::of_file(&path)? else {
            let problem = "without it a folder is no Hugging Face model";
            return Err(FolderProblem::Missing(problem).at(&path));
        };
        let family = family(&mut fields)?;
        // Weights in types that no kernel here reads.
        if fields.take("quantization_config").is_some() {
            let problem = "is there: weights that are quantised already are not supported, except as GGUF";
            return Err(fields.wrong("quantization_config", problem));
        }
        fields.only("is_encoder_decoder", false)?;
        fields.only("add_cross_attention", false)?;
        let config = match family.kind {
            Kind::Gpt2 => Self::gpt2(&mut fields, family)?,
            _ => Self::gated(&mut fields, family)?,
        };
        fields.finish(&IDLE)?;
        Ok(config)
    }

    fn gated(fields: &mut Fields, family: &Family) -> Result<Self, FolderError> {
        let kind = family.kind;
        let hidden = size(fields, "hidden_size")?;
        let heads = size(fields, "num_attention_heads")?;
        let kv_heads = match fields.size_up_to("num_key_value_heads", MAX_SIZE)? {
            None if matches!(family.model_type, "llama" | "phi3") => heads,
            given => fields.required("num_key_value_heads", given)?,
        };
        let head_dim = match fields.size_up_to("head_dim", MAX_SIZE)? {
            None if kind == Kind::Qwen3 => fields.required("head_dim", None)?,
            None if !hidden.is_multiple_of(heads) => {
                return Err(
                    fields.wrong("num_attention_heads", format!("is {heads}, no divisor of {hidden}"))
                );
            }
            given => given.unwrap_or(hidden / heads),
        };
        let context = length(fields, "max_position_embeddings")?;
        fields.only("hidden_act", "silu")?;
        let mut attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
        let feed_forward_bias = fields.bool("mlp_bias")?.unwrap_or(false);
        if kind != Kind::Llama {
            for (name, given) in [("attention_bias", attention_bias), ("mlp_bias", feed_forward_bias)] {
                // Qwen2 has those of Q, K and V, whatever the field says.
                if given && !(kind == Kind::Qwen2 && name == "attention_bias") {
                    return Err(fields.wrong(name, "is true, which this architecture does not have"));
                }
            }
            attention_bias = false;
        }
        Ok(Self {
            kind,
            architecture: family.gguf,
            blocks: size(fields, "num_hidden_layers")?,
            hidden,
            inner: size(fields, "intermediate_size")?,
            heads,
            kv_heads,
            head_dim,
            vocab: size(fields, "vocab_size")?,
            context,
            window: window(fields, family)?,
            epsilon: epsilon(fields, "rms_norm_eps")?,
            tied: fields.bool("tie_word_embeddings")?.unwrap_or(false),
            attention_bias,
            feed_forward_bias,
            rope: Some(Rope::read(fields, kind == Kind::Phi3, head_dim, context)?),
        })
    }

    fn gpt2(fields: &mut Fields, family: &Family) -> Result<Self, FolderError> {
        let hidden = size(fields, "n_embd")?;
        let heads = size(fields, "n_head")?;
        if !hidden.is_multiple_of(heads) {
            return Err(fields.wrong("n_head", format!("is {heads}, no divisor of {hidden}")));
        }
        // Both are the formula with a tangent.
        if let Some(name) = fields.text("activation_function")?
            && !["gelu_new", "gelu_pytorch_tanh"].contains(&name.as_str())
        {
            return Err(fields.wrong("activation_function", format!("is {name}, which is not supported")));
        }
        fields.only("scale_attn_weights", true)?;
        fields.only("scale_attn_by_inverse_layer_idx", false)?;
        Ok(Self {
            kind: family.kind,
            architecture: family.gguf,
            blocks: size(fields, "n_layer")?,
            hidden,
            inner: fields.size_up_to("n_inner", MAX_SIZE)?.unwrap_or(4 * hidden),
            heads,
            kv_heads: heads,
            head_dim: hidden / heads,
            vocab: size(fields, "vocab_size")?,
            context: length(fields, "n_positions")?,
            window: None,
            epsilon: epsilon(fields, "layer_norm_epsilon")?,
            tied: fields.bool("tie_word_embeddings")?.unwrap_or(true),
            attention_bias: true,
            feed_forward_bias: true,
            rope: None,
        })
    }

    /// The keys that GGUF files of such models have.
    pub(super) fn describe(&self, header: &mut Writer) {
        header.text("general.architecture", self.architecture);
        let key = |name: &str| format!("{}.{name}", self.architecture);
        for (name, value) in [
            ("block_count", self.blocks),
            ("context_length", self.context),
            ("embedding_length", self.hidden),
            ("feed_forward_length", self.inner),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
            ("vocab_size", self.vocab),
        ] {
            header.u32(&key(name), value as u32);
        }
        if let Some(window) = self.window {
            header.u32(&key("attention.sliding_window"), window as u32);
        }
        let layer_norms = self.kind == Kind::Gpt2;
        let name = if layer_norms { "layer_norm_epsilon" } else { "layer_norm_rms_epsilon" };
        header.f32(&key(&format!("attention.{name}")), self.epsilon);
        if let Some(rope) = &self.rope {
            rope.describe(header, key);
        }
    }
}

/// That of `model_type`; the class in `architectures` must be the one that makes logits of it.
fn family(fields: &mut Fields) -> Result<&'static Family, FolderError> {
    let name = fields.text("model_type")?;
    let name = fields.required("model_type", name)?;
    let Some(family) = FAMILIES.iter().find(|family| family.model_type == name) else {
        let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
        let problem = format!("is {name:?}, which is not supported; {} are", known.join(", "));
        return Err(fields.wrong("model_type", problem));
    };
    if let Some(classes) = fields.take("architectures")
        && classes.as_array().is_none_or(|list| list.iter().all(|class| class != family.class))
    {
        let problem = format!("is {classes}, which is not supported; {} is", family.class);
        return Err(fields.wrong("architectures", problem));
    }
    Ok(family)
}

fn size(fields: &mut Fields, name: &str) -> Result<usize, FolderError> {
    let given = fields.size_up_to(name, MAX_SIZE)?;
    fields.required(name, given)
}

fn length(fields: &mut Fields, name: &str) -> Result<usize, FolderError> {
    let given = fields.size_up_to(name, u32::MAX)?;
    fields.required(name, given)
}

fn epsilon(fields: &mut Fields, name: &str) -> Result<f32, FolderError> {
    let given = fields.positive(name)?;
    Ok(fields.required(name, given)? as f32)
}

/// How far tokens look back, in every layer or in none.
fn window(fields: &mut Fields, family: &Family) -> Result<Option<usize>, FolderError> {
    let window = fields.size_up_to("sliding_window", u32::MAX)?;
    if let Some(kinds) = fields.take("layer_types") {
        // Which newer files have beside the fields that they follow from.
        if kinds.as_array().is_none_or(|kinds| kinds.iter().any(|kind| kind != "full_attention")) {
            return Err(
                fields.wrong("layer_types", "has other layers than full_attention, which are not supported")
            );
        }
    }
    match family.kind {
        Kind::Qwen2 | Kind::Qwen3 => {
            // Layers of both kinds. The window is written even where it is not used.
            fields.only("use_sliding_window", false)?;
            Ok(None)
        }
        _ => Ok(window),
    }
}
