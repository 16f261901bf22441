//! What `config.json` says of a model, in the terms of GGUF's metadata.
//!
//! Every field is known: it is translated, or has the one value that this program runs, or changes no answer. Any other
//! is an error that names it. Where a field may be left out, the library's own default holds.

use std::path::Path;

use kernels::attention::MAX_HEAD_DIM;

use super::error::{FolderError, FolderProblem};
use super::json::Fields;
use super::mixture::{self, Mixture};
use super::rope::Rope;
use crate::gguf::Writer;

/// The file.
pub(super) const FILE: &str = "config.json";

/// Sizes beyond these are taken for damage.
const MAX_SIZE: u32 = 1 << 20;

/// Positions beyond these are taken for damage, as in a GGUF file.
const MAX_CONTEXT: u32 = 1 << 24;

/// How far Mistral's tokens look back where a file does not say.
const MISTRAL_WINDOW: usize = 4096;

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
    /// Biases, sinks, a window in every second layer, and a mixture of experts.
    GptOss,
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

const FAMILIES: [Family; 7] = [
    Family { model_type: "llama", class: "LlamaForCausalLM", kind: Kind::Llama, gguf: "llama" },
    Family { model_type: "mistral", class: "MistralForCausalLM", kind: Kind::Llama, gguf: "llama" },
    Family { model_type: "qwen2", class: "Qwen2ForCausalLM", kind: Kind::Qwen2, gguf: "qwen2" },
    Family { model_type: "qwen3", class: "Qwen3ForCausalLM", kind: Kind::Qwen3, gguf: "qwen3" },
    Family { model_type: "phi3", class: "Phi3ForCausalLM", kind: Kind::Phi3, gguf: "phi3" },
    Family { model_type: "gpt_oss", class: "GptOssForCausalLM", kind: Kind::GptOss, gguf: "gpt-oss" },
    Family { model_type: "gpt2", class: "GPT2LMHeadModel", kind: Kind::Gpt2, gguf: "gpt2" },
];

/// Fields that change no answer: of training, of sampling, of how the library runs a model, of other tools. Tokens are in the
/// tokenizer's files.
const IDLE: [&str; 46] = [
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "auto_map",
    "bos_token_id",
    "do_sample",
    "embd_pdrop",
    "eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initial_context_length",
    "initializer_range",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "max_window_layers",
    "min_length",
    "n_ctx",
    "num_beams",
    "num_labels",
    "output_past",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "reorder_and_upcast_attn",
    "repetition_penalty",
    "resid_pdrop",
    "router_aux_loss_coef",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_use_proj",
    "task_specific_params",
    "temperature",
    "top_k",
    "top_p",
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
    /// The mixture of experts, where the feed-forward part is one.
    pub(super) mixture: Option<Mixture>,
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
        if family.kind != Kind::GptOss && fields.take("quantization_config").is_some() {
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
        let given = fields.size_up_to("head_dim", MAX_SIZE)?;
        let head_dim = match given {
            None if matches!(kind, Kind::Qwen3 | Kind::GptOss) => fields.required("head_dim", None)?,
            None if !hidden.is_multiple_of(heads) => {
                return Err(
                    fields.wrong("num_attention_heads", format!("is {heads}, no divisor of {hidden}"))
                );
            }
            given => given.unwrap_or(hidden / heads),
        };
        // Some ways of scaling have a number for each pair of a head's elements.
        if head_dim > MAX_HEAD_DIM {
            let name = if given.is_some() { "head_dim" } else { "num_attention_heads" };
            let problem = format!("makes heads of {head_dim}; up to {MAX_HEAD_DIM} are supported");
            return Err(fields.wrong(name, problem));
        }
        let context = length(fields, "max_position_embeddings")?;
        fields.only("hidden_act", "silu")?;
        // Phi-4-mini's, where they are the whole.
        fields.only("full_attn_mod", 1)?;
        fields.only("interpolate_factor", 1)?;
        if kind == Kind::GptOss {
            fields.only("attention_bias", true)?;
        }
        let mut attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
        let feed_forward_bias = fields.bool("mlp_bias")?.unwrap_or(false);
        if kind != Kind::Llama {
            for (name, given) in [("attention_bias", attention_bias), ("mlp_bias", feed_forward_bias)] {
                // Qwen2 has those of Q, K and V, whatever the field says.
                if given && !(kind == Kind::Qwen2 && name == "attention_bias") {
                    return Err(fields.wrong(name, "is true, which this architecture does not have"));
                }
            }
            attention_bias = kind == Kind::GptOss;
        }
        let (blocks, inner) = (size(fields, "num_hidden_layers")?, size(fields, "intermediate_size")?);
        let mixture = (kind == Kind::GptOss).then(|| Mixture::read(fields, hidden, inner)).transpose()?;
        Ok(Self {
            kind,
            architecture: family.gguf,
            blocks,
            hidden,
            inner,
            heads,
            kv_heads,
            head_dim,
            vocab: size(fields, "vocab_size")?,
            context,
            window: window(fields, family, blocks)?,
            epsilon: epsilon(fields, "rms_norm_eps")?,
            tied: fields.bool("tie_word_embeddings")?.unwrap_or(false),
            attention_bias,
            feed_forward_bias,
            mixture,
            rope: Some(Rope::read(fields, kind, head_dim, context)?),
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
            return Err(fields.wrong("activation_function", format!("is {name:?}, which is not supported")));
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
            mixture: None,
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
        if let Some(mixture) = &self.mixture {
            mixture.describe(self.inner, header, key);
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
    let given = fields.size_up_to(name, MAX_CONTEXT)?;
    fields.required(name, given)
}

fn epsilon(fields: &mut Fields, name: &str) -> Result<f32, FolderError> {
    let given = fields.positive(name)?;
    Ok(fields.required(name, given)? as f32)
}

/// How far tokens look back, in every layer or in none; of gpt-oss in every second.
fn window(fields: &mut Fields, family: &Family, blocks: usize) -> Result<Option<usize>, FolderError> {
    // Mistral's library has a window unless the file says null.
    let default = family.model_type == "mistral" && !fields.says("sliding_window");
    let window = fields.size_up_to("sliding_window", u32::MAX)?.or(default.then_some(MISTRAL_WINDOW));
    if family.kind == Kind::GptOss {
        mixture::check_layers(fields, blocks)?;
        return fields.required("sliding_window", window).map(Some);
    }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What every gated model says.
    fn gated(model_type: &str, class: &str, own: Value) -> Value {
        let mut config = json!({
            "architectures": [class], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
            "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
            "max_position_embeddings": 4096, "model_type": model_type, "num_attention_heads": 32,
            "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
            "torch_dtype": "bfloat16", "transformers_version": "4.42.3", "use_cache": true, "vocab_size": 32000,
        });
        for (name, value) in own.as_object().expect("fields") {
            config[name] = value.clone();
        }
        config
    }

    #[test]
    fn the_settings_of_published_models_are_understood() {
        let factors = |first: f64| (0..48).map(|i| first + f64::from(i)).collect::<Vec<f64>>();
        let long = json!({"type": "longrope", "long_factor": factors(1.0), "short_factor": factors(1.05)});
        let smollm2 = json!({
            "is_llama_config": true, "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
            "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "pretraining_tp": 1, "mlp_bias": false,
        });
        let llama31 = json!({
            "attention_bias": false, "eos_token_id": [128001, 128008], "mlp_bias": false, "rope_theta": 500000.0,
            "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        });
        let qwen25 = json!({
            "max_window_layers": 28, "sliding_window": 131072, "use_sliding_window": false, "use_mrope": false,
            "rope_theta": 1000000.0,
        });
        let qwen3 = json!({
            "head_dim": 128, "attention_bias": false, "max_window_layers": 36, "rope_scaling": null,
            "rope_theta": 1000000, "sliding_window": null, "use_sliding_window": false,
        });
        let phi3 = json!({
            "_name_or_path": "x", "auto_map": {"AutoConfig": "x"}, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
            "hidden_size": 3072, "original_max_position_embeddings": 4096, "pad_token_id": 32000,
            "rope_theta": 10000.0, "sliding_window": 2047, "attention_bias": false, "rope_scaling": null,
        });
        let phi4_mini = json!({
            "hidden_size": 4096, "partial_rotary_factor": 0.75, "full_attn_mod": 1, "interpolate_factor": 1,
            "lm_head_bias": false, "original_max_position_embeddings": 4096, "rope_scaling": long,
            "max_position_embeddings": 131072, "sliding_window": 262144,
        });
        let gpt2 = json!({
            "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
            "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-5, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
            "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": null,
            "summary_first_dropout": 0.1, "summary_proj_to_labels": true, "summary_type": "cls_index",
            "summary_use_proj": true, "task_specific_params": {"text-generation": {"max_length": 50}},
            "vocab_size": 50257,
        });
        let turns = ["sliding_attention", "full_attention"].repeat(12);
        let gpt_oss = json!({
            "attention_bias": true, "experts_per_token": 4, "head_dim": 64, "hidden_size": 2880,
            "initial_context_length": 4096, "intermediate_size": 2880, "layer_types": turns,
            "max_position_embeddings": 131072, "num_attention_heads": 64, "num_experts_per_tok": 4,
            "num_hidden_layers": 24, "num_local_experts": 32, "output_router_logits": false, "pad_token_id": 199999,
            "quantization_config": {"modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"],
                                    "quant_method": "mxfp4"},
            "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "rope_type": "yarn",
                             "original_max_position_embeddings": 4096, "truncate": false},
            "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": 128, "swiglu_limit": 7.0,
            "transformers_version": "4.55.0.dev0", "vocab_size": 201088,
        });
        for (config, rotated, window) in [
            (gated("llama", "LlamaForCausalLM", json!({"pretraining_tp": 1, "max_length": 4096})), 128, None),
            (gated("llama", "LlamaForCausalLM", llama31), 128, None),
            (gated("llama", "LlamaForCausalLM", smollm2), 128, None),
            (gated("mistral", "MistralForCausalLM", json!({"sliding_window": 2048})), 128, Some(2048)),
            (gated("mistral", "MistralForCausalLM", json!({"sliding_window": null})), 128, None),
            (gated("mistral", "MistralForCausalLM", json!({})), 128, Some(4096)),
            (gated("qwen2", "Qwen2ForCausalLM", qwen25), 128, None),
            (gated("qwen3", "Qwen3ForCausalLM", qwen3), 128, None),
            (gated("phi3", "Phi3ForCausalLM", phi3), 96, Some(2047)),
            (gated("phi3", "Phi3ForCausalLM", phi4_mini), 96, Some(262_144)),
            (gated("gpt_oss", "GptOssForCausalLM", gpt_oss), 64, Some(128)),
            (gpt2, 0, None),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(folder.path().join(FILE), config.to_string()).expect("a file");
            let read = Config::read(folder.path()).unwrap_or_else(|error| panic!("{error}: {config}"));
            assert_eq!(read.window, window, "{config}");
            let mut header = Writer::new();
            read.describe(&mut header);
            let name = format!("{}.rope.dimension_count", read.architecture);
            let gguf = crate::gguf::Gguf::drawn("x", header.header(), 0).expect("a header");
            assert_eq!(gguf.u32(&name).unwrap_or(0), rotated, "{config}");
        }
    }
}
