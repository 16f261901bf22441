//! Makes Hugging Face folders.

use std::collections::BTreeMap;
use std::path::Path;

use runtime::gguf::{Gguf, TensorType};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::gpt_oss;

/// A folder in the making.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, Stored>,
}

/// A tensor, the slowest dimension first.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

impl Folder {
    /// The folder that a fixture would have been converted from: names, settings and arrangements are the library's, in the
    /// style of its earlier versions.
    pub(crate) fn of_fixture(gguf: &Gguf) -> Self {
        let architecture = gguf.str("general.architecture").expect("a name").to_owned();
        let number = |name: &str| gguf.u32(&format!("{architecture}.{name}")).ok();
        let float = |name: &str| gguf.f32(&format!("{architecture}.{name}")).ok().map(f64::from);
        let heads = number("attention.head_count").expect("heads") as usize;
        let kv_heads = number("attention.head_count_kv").expect("heads") as usize;
        let vocab = gguf.tensor("token_embd.weight").expect("an embedding").dims[1];
        let tied = gguf.tensor("output.weight").is_none();
        let config = if architecture == "gpt2" {
            json!({
                "model_type": "gpt2",
                "n_embd": number("embedding_length"), "n_head": heads, "n_layer": number("block_count"),
                "n_inner": number("feed_forward_length"), "n_positions": number("context_length"),
                "layer_norm_epsilon": float("attention.layer_norm_epsilon"), "vocab_size": vocab,
                "activation_function": "gelu_new", "n_ctx": 1024, "torch_dtype": "float32",
            })
        } else {
            let factors = |name: &str| {
                let tensor = gguf.tensor(name)?;
                let data = gguf.data(tensor).expect("factors");
                let floats = data.as_chunks().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes)));
                Some(floats.collect::<Vec<f64>>())
            };
            let long = factors("rope_factors_long.weight").map(|long| {
                json!({
                    "type": "su", "long_factor": long, "short_factor": factors("rope_factors_short.weight"),
                    "attention_factor": float("rope.scaling.attn_factor"),
                })
            });
            if architecture == "gpt-oss" {
                gpt_oss::config(gguf)
            } else {
                json!({
                    "model_type": architecture, "hidden_act": "silu", "use_cache": true, "torch_dtype": "float32",
                    "hidden_size": number("embedding_length"), "num_attention_heads": heads,
                    "num_key_value_heads": kv_heads, "num_hidden_layers": number("block_count"),
                    "intermediate_size": number("feed_forward_length"), "vocab_size": vocab,
                    "head_dim": number("attention.key_length"), "max_position_embeddings": number("context_length"),
                    "rms_norm_eps": float("attention.layer_norm_rms_epsilon"), "rope_theta": float("rope.freq_base"),
                    "tie_word_embeddings": tied, "rope_scaling": long,
                    "original_max_position_embeddings": number("rope.scaling.original_context_length"),
                })
            }
        };
        let mut folder = Self { config, tensors: BTreeMap::new() };
        if architecture == "gpt-oss" {
            gpt_oss::add_experts(gguf, &mut folder);
        }
        for tensor in gguf.tensors() {
            let Some(name) = name(&architecture, &tensor.name) else { continue };
            let mut data = gguf.data(tensor).expect("the fixture's data");
            let dtype = match tensor.ty {
                TensorType::F32 => Dtype::F32,
                TensorType::F16 => Dtype::F16,
                TensorType::BF16 => Dtype::BF16,
                TensorType::Q8_0 => {
                    data = gpt_oss::dequantised(&data);
                    Dtype::F32
                }
                other => panic!("no folder has {other}"),
            };
            let mut shape: Vec<usize> = tensor.dims.iter().rev().copied().collect();
            let size = data.len() / shape.iter().product::<usize>();
            let row = data.len() / shape[0];
            if architecture == "llama" && name.contains("q_proj") {
                data = halves(&data, row, heads);
            } else if architecture == "llama" && name.contains("k_proj") {
                data = halves(&data, row, kv_heads);
            } else if architecture == "gpt2" && shape.len() == 2 && name.starts_with("h.") {
                data = transposed(&data, shape[0], shape[1], size);
                shape.reverse();
            }
            folder.tensors.insert(name, Stored { dtype, shape, data });
        }
        folder
    }

    /// Writes it, its weights in so many files; with an index if there are several.
    pub(crate) fn write(&self, shards: usize) -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        put(folder.path(), "config.json", self.config.to_string().as_bytes());
        let mut map = Map::new();
        for shard in 0..shards {
            let mine = self.tensors.iter().enumerate().filter(|(i, _)| i % shards == shard);
            let mine: Vec<(&String, TensorView<'_>)> = mine
                .map(|(_, (name, Stored { dtype, shape, data }))| {
                    (name, TensorView::new(*dtype, shape.clone(), data).expect("a shape of the data"))
                })
                .collect();
            let file = match shards {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{shards:05}.safetensors", shard + 1),
            };
            map.extend(mine.iter().map(|(name, _)| ((*name).clone(), file.clone().into())));
            put(folder.path(), &file, &serialize(mine, None).expect("tensors of a few bytes"));
        }
        if shards > 1 {
            let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
            put(folder.path(), "model.safetensors.index.json", index.to_string().as_bytes());
        }
        folder
    }
}

pub(crate) fn put(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).expect("a file in a temporary folder");
}

/// The library's name of a tensor; `None` of those that its settings hold, and of experts.
fn name(architecture: &str, gguf: &str) -> Option<String> {
    if gguf.starts_with("rope_") || gguf.contains("_exps.") {
        return None;
    }
    let is_gpt2 = architecture == "gpt2";
    let Some(rest) = gguf.strip_prefix("blk.") else {
        let outside = match (gguf, is_gpt2) {
            ("token_embd.weight", false) => "model.embed_tokens.weight",
            ("output_norm.weight", false) => "model.norm.weight",
            ("output.weight", _) => "lm_head.weight",
            ("token_embd.weight", true) => "wte.weight",
            ("position_embd.weight", true) => "wpe.weight",
            ("output_norm.weight", true) => "ln_f.weight",
            ("output_norm.bias", true) => "ln_f.bias",
            other => panic!("no name for {other:?}"),
        };
        return Some(outside.to_owned());
    };
    let (block, part) = rest.split_once('.').expect("a block's number");
    let (part, kind) = part.rsplit_once('.').expect("weight or bias");
    let part = match (part, architecture) {
        ("attn_norm", "gpt2") => "ln_1",
        ("ffn_norm", "gpt2") => "ln_2",
        ("attn_qkv", "gpt2") => "attn.c_attn",
        ("attn_output", "gpt2") => "attn.c_proj",
        ("ffn_up", "gpt2") => "mlp.c_fc",
        ("ffn_down", "gpt2") => "mlp.c_proj",
        ("attn_sinks", _) => return Some(format!("model.layers.{block}.self_attn.sinks")),
        ("ffn_gate_inp", _) => "mlp.router",
        ("attn_norm", _) => "input_layernorm",
        ("ffn_norm" | "post_attention_norm", _) => "post_attention_layernorm",
        ("attn_q", _) => "self_attn.q_proj",
        ("attn_k", _) => "self_attn.k_proj",
        ("attn_v", _) => "self_attn.v_proj",
        ("attn_q_norm", _) => "self_attn.q_norm",
        ("attn_k_norm", _) => "self_attn.k_norm",
        ("attn_qkv", _) => "self_attn.qkv_proj",
        ("attn_output", _) => "self_attn.o_proj",
        ("ffn_gate", _) => "mlp.gate_proj",
        ("ffn_up", "phi3") => "mlp.gate_up_proj",
        ("ffn_up", _) => "mlp.up_proj",
        ("ffn_down", _) => "mlp.down_proj",
        other => panic!("no name for {other:?}"),
    };
    Some(if is_gpt2 {
        format!("h.{block}.{part}.{kind}")
    } else {
        format!("model.layers.{block}.{part}.{kind}")
    })
}

/// Rows of heads whose pairs lie side by side, as heads of a first and a second half.
fn halves(data: &[u8], row: usize, heads: usize) -> Vec<u8> {
    let mut made = Vec::with_capacity(data.len());
    for head in data.chunks(data.len() / heads) {
        let rows: Vec<&[u8]> = head.chunks(row).collect();
        for second in [0, 1] {
            for pair in rows.chunks(2) {
                made.extend(pair[second]);
            }
        }
    }
    made
}

fn transposed(data: &[u8], rows: usize, columns: usize, size: usize) -> Vec<u8> {
    let value = |row: usize, column: usize| &data[(row * columns + column) * size..][..size];
    (0..columns).flat_map(|column| (0..rows).flat_map(move |row| value(row, column).to_vec())).collect()
}
