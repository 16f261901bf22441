//! Folders of gpt-oss: experts in MXFP4 and in BF16, the range of YaRN, and what is refused.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use half::{bf16, f16};
use runtime::gguf::{Gguf, TensorType};
use runtime::huggingface;
use runtime::numerics::Numerics;
use runtime::tokenizer::{Options, Tokenizer};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::folder::{Folder, Stored, put};
use crate::{golden, logits};

/// The settings of a fixture, in the style of OpenAI's folders.
pub(crate) fn config(gguf: &Gguf) -> Value {
    let number = |name: &str| gguf.u32(&format!("gpt-oss.{name}")).expect("a number");
    let float = |name: &str| f64::from(gguf.f32(&format!("gpt-oss.{name}")).expect("a number"));
    let layers = number("block_count");
    let kinds = ["sliding_attention", "full_attention"].into_iter().cycle().take(layers as usize);
    let mut config = json!({
        "architectures": ["GptOssForCausalLM"], "attention_bias": true, "attention_dropout": 0.0,
        "eos_token_id": 319, "experts_per_token": number("expert_used_count"), "head_dim": number("attention.key_length"),
        "hidden_act": "silu", "hidden_size": number("embedding_length"), "initial_context_length": 256,
        "initializer_range": 0.02, "intermediate_size": number("expert_feed_forward_length"),
        "layer_types": kinds.collect::<Vec<_>>(), "max_position_embeddings": number("context_length"),
        "model_type": "gpt_oss", "num_attention_heads": number("attention.head_count"),
        "num_experts_per_tok": number("expert_used_count"), "num_hidden_layers": layers,
        "num_key_value_heads": number("attention.head_count_kv"), "num_local_experts": number("expert_count"),
        "output_router_logits": false, "pad_token_id": 318,
        "rms_norm_eps": float("attention.layer_norm_rms_epsilon"),
        "rope_scaling": {
            "beta_fast": float("rope.scaling.yarn_beta_fast"), "beta_slow": float("rope.scaling.yarn_beta_slow"),
            "factor": float("rope.scaling.factor"), "rope_type": "yarn", "truncate": true,
            "original_max_position_embeddings": number("rope.scaling.original_context_length"),
        },
        "rope_theta": float("rope.freq_base"), "router_aux_loss_coef": 0.9,
        "sliding_window": number("attention.sliding_window"), "swiglu_limit": 7.0,
        "tie_word_embeddings": gguf.tensor("output.weight").is_none(),
        "transformers_version": "4.55.0.dev0", "use_cache": true, "vocab_size": 320,
    });
    if gguf.tensor("blk.0.ffn_up_exps.weight").is_some_and(|tensor| tensor.ty == TensorType::MXFP4) {
        let other =
            ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"];
        config["quantization_config"] = json!({"quant_method": "mxfp4", "modules_to_not_convert": other});
    }
    config
}

/// A fixture's experts as the library has them.
pub(crate) fn add_experts(gguf: &Gguf, folder: &mut Folder) {
    let [hidden, inner, experts] = gguf.tensor("blk.0.ffn_gate_exps.weight").expect("experts").dims[..]
    else {
        panic!("experts have three dimensions")
    };
    for block in 0..gguf.u32("gpt-oss.block_count").expect("blocks") {
        let part = |name: &str| {
            let tensor = gguf.tensor(&format!("blk.{block}.ffn_{name}")).expect("a part of experts");
            (tensor.ty, gguf.data(tensor).expect("its data"))
        };
        let mut add = |name: &str, dtype, shape: &[usize], data| {
            let stored = Stored { dtype, shape: shape.to_vec(), data };
            folder.tensors.insert(format!("model.layers.{block}.mlp.experts.{name}"), stored);
        };
        let bias = by_turns(&part("gate_exps.bias").1, &part("up_exps.bias").1, 4);
        add("gate_up_proj_bias", Dtype::F32, &[experts, 2 * inner], bias);
        add("down_proj_bias", Dtype::F32, &[experts, hidden], part("down_exps.bias").1);
        let ((ty, gate), (_, up), (_, down)) =
            (part("gate_exps.weight"), part("up_exps.weight"), part("down_exps.weight"));
        let row = gate.len() / (experts * inner);
        let both = by_turns(&gate, &up, row);
        for (name, rows, columns, data) in
            [("gate_up_proj", 2 * inner, hidden, both), ("down_proj", hidden, inner, down)]
        {
            if ty == TensorType::MXFP4 {
                let scales = data.iter().step_by(17).copied().collect();
                let codes = data.chunks(17).flat_map(pairs).collect();
                add(&format!("{name}_blocks"), Dtype::U8, &[experts, rows, columns / 32, 16], codes);
                add(&format!("{name}_scales"), Dtype::U8, &[experts, rows, columns / 32], scales);
            } else {
                let value = |expert: usize, row: usize, column: usize| {
                    let at = ((expert * rows + row) * columns + column) * 4;
                    data[at..at + 4].to_vec()
                };
                let mut turned = Vec::new();
                for expert in 0..experts {
                    for column in 0..columns {
                        turned.extend((0..rows).flat_map(|row| value(expert, row, column)));
                    }
                }
                add(name, Dtype::F32, &[experts, columns, rows], turned);
            }
        }
    }
}

/// A piece of one, and a piece of the other.
fn by_turns(first: &[u8], second: &[u8], piece: usize) -> Vec<u8> {
    first.chunks(piece).zip(second.chunks(piece)).flat_map(|(a, b)| [a, b].concat()).collect()
}

/// The codes of a GGUF block, two neighbours in a byte.
fn pairs(block: &[u8]) -> Vec<u8> {
    let code = |i: usize| if i < 16 { block[1 + i] & 15 } else { block[1 + i - 16] >> 4 };
    (0..16).map(|j| code(2 * j) | code(2 * j + 1) << 4).collect()
}

/// What blocks of Q8_0 stand for, exactly.
pub(crate) fn dequantised(blocks: &[u8]) -> Vec<u8> {
    let values = blocks.chunks(34).flat_map(|block| {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        block[2..].iter().map(move |&byte| scale * f32::from(byte as i8))
    });
    values.flat_map(f32::to_le_bytes).collect()
}

fn folder(name: &str) -> Folder {
    Folder::of_fixture(&Gguf::open(&golden(&format!("{name}.gguf"))).expect("a fixture"))
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn the_range_of_yarn_is_rounded_unless_the_folder_says_otherwise() {
    let bytes = std::fs::read(golden("gpt-oss-yarn-untruncated.json")).expect("the reference");
    let reference: Value = serde_json::from_slice(&bytes).expect("JSON");
    for name in ["gpt-oss-f32", "gpt-oss-mxfp4"] {
        let ids: Vec<u32> = serde_json::from_value(reference[name]["ids"].clone()).expect("ids");
        let bytes =
            BASE64_STANDARD.decode(reference[name]["logits_b64"].as_str().expect("logits")).expect("base64");
        let want: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let error = |folder: &Folder| {
            let folder = folder.write(1);
            let made = huggingface::open(folder.path(), None).expect("a folder");
            let got = logits(&made, Numerics::F32, &ids).expect("logits");
            let greatest = want.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            want.iter().zip(&got).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / greatest
        };
        let mut folder = folder(name);
        assert!(error(&folder) > 1e-2, "{name}: the rounded range has other logits");
        folder.config["rope_scaling"]["truncate"] = false.into();
        assert!(error(&folder) < 2e-6, "{name}: {:e}", error(&folder));
        // As newer versions of the library write it.
        let mut parameters = folder.config["rope_scaling"].take();
        parameters["rope_theta"] = folder.config["rope_theta"].take();
        folder.config["rope_parameters"] = parameters;
        assert!(error(&folder) < 2e-6, "{name}: {:e}", error(&folder));
    }
}

#[test]
fn experts_in_bf16_are_those_in_f32_of_the_same_values() {
    let mut narrow = folder("gpt-oss-f32");
    let mut wide = narrow.clone();
    for (name, stored) in &mut narrow.tensors {
        let values = stored.data.as_chunks().0.iter().map(|&bytes| bf16::from_f32(f32::from_le_bytes(bytes)));
        let values: Vec<bf16> = values.collect();
        stored.dtype = Dtype::BF16;
        stored.data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let wide = wide.tensors.get_mut(name).expect("the same tensors");
        wide.data = values.iter().flat_map(|value| value.to_f32().to_le_bytes()).collect();
    }
    let (narrow, wide) = (narrow.write(2), wide.write(1));
    let open = |folder: &tempfile::TempDir| huggingface::open(folder.path(), None).expect("a folder");
    let (narrow, wide) = (open(&narrow), open(&wide));
    let ty = |name: &str| narrow.tensor(name).expect("a tensor").ty;
    assert_eq!(ty("blk.1.ffn_gate_exps.weight"), TensorType::BF16);
    assert_eq!(ty("blk.1.ffn_down_exps.weight"), TensorType::BF16);
    // As in GGUF files.
    for exact in ["ffn_gate_inp.weight", "ffn_up_exps.bias", "attn_sinks.weight", "attn_q.bias"] {
        assert_eq!(ty(&format!("blk.1.{exact}")), TensorType::F32, "{exact}");
    }
    let ids: Vec<u32> = (0..40).map(|i| (i * i + 5) % 320).collect();
    let want = logits(&wide, Numerics::F32, &ids).expect("logits");
    assert_eq!(bits(&logits(&narrow, Numerics::F32, &ids).expect("logits")), bits(&want));
    logits(&narrow, Numerics::Tc, &ids).expect("logits in bf16");
}

/// Six experts between 32 and 96 elements, whose values tell where they were.
fn oblong(packed: bool) -> Folder {
    let mut folder = folder("gpt-oss-f32");
    folder.config["intermediate_size"] = 96.into();
    folder.tensors.retain(|name, _| !name.contains(".experts."));
    let numbers = |count: usize| (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let bytes = |count: usize| (0..count).map(|i| (i * 167 + i / 256 * 5) as u8).collect();
    if packed {
        folder.config["quantization_config"] = json!({"quant_method": "mxfp4"});
    }
    for block in 0..2 {
        let mut add = |name: &str, dtype, shape: &[usize]| {
            let count = shape.iter().product();
            let data = if dtype == Dtype::U8 { bytes(count) } else { numbers(count) };
            let stored = Stored { dtype, shape: shape.to_vec(), data };
            folder.tensors.insert(format!("model.layers.{block}.mlp.experts.{name}"), stored);
        };
        add("gate_up_proj_bias", Dtype::F32, &[6, 192]);
        add("down_proj_bias", Dtype::F32, &[6, 32]);
        if packed {
            add("gate_up_proj_blocks", Dtype::U8, &[6, 192, 1, 16]);
            add("gate_up_proj_scales", Dtype::U8, &[6, 192, 1]);
            add("down_proj_blocks", Dtype::U8, &[6, 32, 3, 16]);
            add("down_proj_scales", Dtype::U8, &[6, 32, 3]);
        } else {
            add("gate_up_proj", Dtype::F32, &[6, 32, 192]);
            add("down_proj", Dtype::F32, &[6, 96, 32]);
        }
    }
    folder
}

#[test]
fn experts_of_any_shape_come_to_their_places() {
    let numbers = |made: &Gguf, name: &str| -> Vec<usize> {
        let data = made.data(made.tensor(name).expect("a tensor")).expect("its data");
        data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes) as usize).collect()
    };
    // (expert, row, column) of all values of experts with so many rows and columns.
    let places = |rows: usize, columns: usize| {
        let rows = (0..6).flat_map(move |expert| (0..rows).map(move |row| (expert, row)));
        rows.flat_map(move |(expert, row)| (0..columns).map(move |column| (expert, row, column)))
    };
    let plain = oblong(false).write(1);
    let plain = huggingface::open(plain.path(), None).expect("a folder");
    let packed = oblong(true);
    let bytes = |name: &str| packed.tensors[&format!("model.layers.1.mlp.experts.{name}")].data.clone();
    let packed_folder = packed.write(3);
    let made = huggingface::open(packed_folder.path(), None).expect("a folder");
    for (part, side) in [("gate", 0), ("up", 1)] {
        let weights = numbers(&plain, &format!("blk.1.ffn_{part}_exps.weight"));
        let want = places(96, 32).map(|(expert, row, column)| (expert * 32 + column) * 192 + 2 * row + side);
        assert!(weights.into_iter().eq(want), "{part}");
        for made in [&plain, &made] {
            let biases = numbers(made, &format!("blk.1.ffn_{part}_exps.bias"));
            let want = places(96, 1).map(|(expert, row, _)| expert * 192 + 2 * row + side);
            assert!(biases.into_iter().eq(want), "{part}");
        }
        let blocks =
            made.data(made.tensor(&format!("blk.1.ffn_{part}_exps.weight")).expect("it")).expect("data");
        let (codes, scales) = (bytes("gate_up_proj_blocks"), bytes("gate_up_proj_scales"));
        let sources = places(96, 1).map(|(expert, row, _)| expert * 192 + 2 * row + side);
        check_blocks(&blocks, sources, &codes, &scales);
    }
    let weights = numbers(&plain, "blk.1.ffn_down_exps.weight");
    let want = places(32, 96).map(|(expert, row, column)| (expert * 96 + column) * 32 + row);
    assert!(weights.into_iter().eq(want), "down");
    let blocks = made.data(made.tensor("blk.1.ffn_down_exps.weight").expect("it")).expect("data");
    check_blocks(&blocks, 0..6 * 32 * 3, &bytes("down_proj_blocks"), &bytes("down_proj_scales"));
}

/// That blocks are those of the sources, one after the other.
fn check_blocks(blocks: &[u8], sources: impl IntoIterator<Item = usize>, codes: &[u8], scales: &[u8]) {
    let sources: Vec<usize> = sources.into_iter().collect();
    assert_eq!(blocks.len(), 17 * sources.len());
    for (block, source) in blocks.chunks(17).zip(sources) {
        assert_eq!(block[0], scales[source], "the scale of {source}");
        for i in 0..32 {
            let want = codes[16 * source + i / 2] >> (i % 2 * 4) & 15;
            assert_eq!(block[1 + i % 16] >> (i / 16 * 4) & 15, want, "value {i} of {source}");
        }
    }
}

/// That the folder is refused in words that have all the parts.
#[track_caller]
fn refused(folder: &Folder, parts: &[&str]) {
    let folder = folder.write(1);
    let error = huggingface::open(folder.path(), None).expect_err("an error").to_string();
    for part in parts {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn settings_that_are_not_run() {
    let field = |name: &str, value: Value, parts: &[&str]| {
        let mut folder = folder("gpt-oss-mxfp4");
        folder.config[name] = value;
        refused(&folder, &[&["config.json", name], parts].concat());
    };
    field("architectures", json!(["GptOssForSequenceClassification"]), &["GptOssForCausalLM"]);
    field("hidden_size", json!(72), &["72", "MXFP4 have 32"]);
    field("intermediate_size", json!(80), &["80", "MXFP4 have 32"]);
    field("num_local_experts", Value::Null, &["is missing"]);
    field("num_local_experts", json!(0), &["1 to"]);
    field("num_local_experts", json!(3), &["\"num_experts_per_tok\" is 4", "num_local_experts is 3"]);
    field("num_experts", json!(9), &["9", "num_local_experts is 8"]);
    field("experts_per_token", json!(2), &["2", "num_experts_per_tok is 4"]);
    field("swiglu_limit", json!(10.0), &["10.0", "7.0 is"]);
    field("swiglu_alpha", json!(1.0), &["1.702 is"]);
    field("attention_bias", json!(false), &["true is"]);
    field("head_dim", Value::Null, &["is missing"]);
    field("sliding_window", Value::Null, &["is missing"]);
    field("rope_scaling", Value::Null, &["is missing"]);
    let layers = |kinds: &[&str], parts: &[&str]| field("layer_types", json!(kinds), parts);
    layers(&["full_attention"; 3], &["\"full_attention\" for layer 0", "\"sliding_attention\" is"]);
    layers(&["sliding_attention"; 3], &["layer 1"]);
    layers(&["sliding_attention", "full_attention"], &["2 layers of 3"]);
    field("layer_types", json!("full_attention"), &["no list"]);
    let quantised = |fields: Value, parts: &[&str]| field("quantization_config", fields, parts);
    quantised(json!({"quant_method": "fp8"}), &["quantization_config.quant_method", "fp8", "mxfp4"]);
    quantised(json!({}), &["quantization_config.quant_method", "is missing"]);
    quantised(json!({"quant_method": "mxfp4", "group_size": 16}), &["quantization_config.group_size", "16"]);
}

#[test]
fn what_may_be_said_in_several_ways() {
    let mut folder = folder("gpt-oss-mxfp4");
    let config = folder.config.as_object_mut().expect("fields");
    for name in
        ["layer_types", "experts_per_token", "attention_bias", "initial_context_length", "swiglu_limit"]
    {
        config.remove(name);
    }
    config.insert("swiglu_limit".to_owned(), json!(7));
    let experts = config.remove("num_local_experts").expect("a number");
    config.insert("num_experts".to_owned(), experts);
    huggingface::open(folder.write(1).path(), None).expect("a folder");
}

#[test]
fn experts_that_do_not_suit_the_settings() {
    let experts = "model.layers.1.mlp.experts";
    let name = |part: &str| format!("{experts}.{part}");
    for part in ["gate_up_proj_blocks", "gate_up_proj_scales", "gate_up_proj_bias", "down_proj_scales"] {
        let mut folder = folder("gpt-oss-mxfp4");
        folder.tensors.remove(&name(part));
        refused(&folder, &[&name(part), "is missing"]);
    }
    let mut packed = folder("gpt-oss-mxfp4");
    packed.config["quantization_config"].take();
    refused(&packed, &["model.layers.0.mlp.experts.gate_up_proj\"", "is missing"]);
    let mut plain = folder("gpt-oss-f32");
    plain.config["quantization_config"] = json!({"quant_method": "mxfp4"});
    refused(&plain, &["model.layers.0.mlp.experts.gate_up_proj_blocks\"", "is missing"]);

    let change = |fixture: &str, part: &str, change: &dyn Fn(&mut Stored), parts: &[&str]| {
        let mut folder = folder(fixture);
        change(folder.tensors.get_mut(&name(part)).expect("a tensor"));
        refused(&folder, &[&["model.safetensors", &name(part)], parts].concat());
    };
    let halved = |stored: &mut Stored| {
        stored.shape[1] /= 2;
        stored.data.truncate(stored.data.len() / 2);
    };
    change("gpt-oss-mxfp4", "gate_up_proj_blocks", &halved, &["[8, 64, 2, 16]", "[8, 128, 2, 16]"]);
    change("gpt-oss-mxfp4", "gate_up_proj_scales", &halved, &["[8, 64, 2]", "[8, 128, 2]"]);
    change("gpt-oss-mxfp4", "down_proj_blocks", &halved, &["[8, 32, 2, 16]", "[8, 64, 2, 16]"]);
    change("gpt-oss-mxfp4", "gate_up_proj_bias", &halved, &["[8, 64]", "[8, 128]"]);
    change("gpt-oss-f32", "gate_up_proj", &halved, &["[6, 16, 64]", "[6, 32, 64]"]);
    change("gpt-oss-f32", "down_proj", &halved, &["[6, 16, 32]", "[6, 32, 32]"]);
    change("gpt-oss-mxfp4", "down_proj_scales", &|stored| stored.dtype = Dtype::I8, &["I8", "U8"]);
    change("gpt-oss-mxfp4", "down_proj_blocks", &|stored| stored.dtype = Dtype::F8_E4M3, &["F8_E4M3", "U8"]);

    // Of no layer.
    let mut folder = folder("gpt-oss-mxfp4");
    let extra = folder.tensors[&name("down_proj_scales")].clone();
    folder.tensors.insert("model.layers.3.mlp.experts.down_proj_scales".to_owned(), extra);
    refused(&folder, &["model.layers.3.mlp.experts.down_proj_scales", "left out"]);
}

#[test]
fn scales_that_become_shorter_are_told_by_their_own_file() {
    let folder = folder("gpt-oss-mxfp4").write(2);
    let made = huggingface::open(folder.path(), None).expect("a folder");
    // Tensors alternate between the files: blocks are in one, scales in the other.
    let of = |path: &str| {
        let bytes = std::fs::read(folder.path().join(path)).expect("weights");
        String::from_utf8_lossy(&bytes).contains("layers.0.mlp.experts.down_proj_scales")
    };
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let shard = shards.into_iter().find(|shard| of(shard)).expect("scales");
    let file = std::fs::File::options().write(true).open(folder.path().join(shard)).expect("a file");
    file.set_len(3000).expect("shorter");
    let down = made.tensor("blk.0.ffn_down_exps.weight").expect("experts");
    let error = made.data(down).expect_err("an error").to_string();
    for part in [shard, "model.layers.0.mlp.experts.down_proj_scales", "become shorter"] {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
}

#[test]
fn a_completion_ends_in_return_or_call_and_a_message_in_end() {
    // As o200k_harmony is written, with few tokens.
    let letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZĠĊ".chars();
    let mut tokens: Vec<String> = letters.map(String::from).collect();
    tokens.extend(["us", "er"].map(str::to_owned));
    let id = |i: usize| tokens.len() + i;
    let special = ["<|endoftext|>", "<|return|>", "<|start|>", "<|end|>", "<|message|>", "<|call|>"];
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(i, text)| {
            json!({"id": id(i), "content": text, "special": true, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false})
        })
        .collect();
    let words = concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    );
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": false}, byte_level,
        ]},
        "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
                  "vocab": tokens.iter().enumerate().map(|(i, text)| (text.clone(), i.into())).collect::<serde_json::Map<_, _>>(),
                  "merges": [["u", "s"], ["e", "r"]]},
    });
    let folder = tempfile::tempdir().expect("a folder");
    put(folder.path(), "tokenizer.json", tokenizer.to_string().as_bytes());
    put(folder.path(), "config.json", json!({"eos_token_id": id(1)}).to_string().as_bytes());
    let several = json!({"eos_token_id": [id(1), id(0), id(5)]});
    put(folder.path(), "generation_config.json", several.to_string().as_bytes());
    let tokenizer = Tokenizer::from_folder(folder.path()).expect("a tokenizer");
    assert_eq!(tokenizer.ends(), [id(0) as u32, id(1) as u32, id(5) as u32]);
    let options = Options { add_special: true, parse_special: true };
    let ids = tokenizer.encode_with("<|start|>user<|message|>Hi<|end|>", options);
    let letter =
        |letter: char| tokens.iter().position(|token| *token == letter.to_string()).expect("a letter");
    let want = [id(2), id(0) - 2, id(0) - 1, id(4), letter('H'), letter('i'), id(3)];
    assert_eq!(ids, want.map(|id| id as u32));
}
