//! What is wrong with a folder is told by file and by field or tensor.

use std::path::Path;

use runtime::gguf::Gguf;
use runtime::huggingface;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::folder::{Folder, put};
use crate::golden;

fn whole() -> Folder {
    fixture("llama-bf16.gguf")
}

fn fixture(name: &str) -> Folder {
    Folder::of_fixture(&Gguf::open(&golden(name)).expect("a fixture"))
}

/// That the folder is refused in words that have all the parts.
#[track_caller]
fn refused(folder: &Path, parts: &[&str]) {
    let error = huggingface::open(folder, None).expect_err("an error").to_string();
    assert!(!error.contains(char::is_control), "{error:?}");
    let path = folder.display().to_string();
    for part in parts.iter().chain([&path.as_str()]) {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
}

/// That a changed `config.json` is refused so.
#[track_caller]
fn config_refused(change: impl FnOnce(&mut Value), parts: &[&str]) {
    let mut folder = whole();
    change(&mut folder.config);
    let parts = [&["config.json"], parts].concat();
    refused(folder.write(1).path(), &parts);
}

/// That one field with another value is refused by its name.
#[track_caller]
fn field_refused(field: &str, value: Value, parts: &[&str]) {
    let parts = [&[field], parts].concat();
    config_refused(|config| config[field] = value, &parts);
}

/// A safetensors file by hand.
fn weights(head: &str, data: usize) -> Vec<u8> {
    [&(head.len() as u64).to_le_bytes(), head.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn a_whole_folder_is_not_refused() {
    huggingface::open(whole().write(1).path(), None).expect("a folder");
    huggingface::open(whole().write(3).path(), None).expect("a folder");
}

#[test]
fn files_that_are_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    refused(folder.path(), &["config.json", "is missing", "no Hugging Face model"]);
    put(folder.path(), "config.json", whole().config.to_string().as_bytes());
    refused(folder.path(), &["model.safetensors: is missing", "index"]);
    put(folder.path(), "pytorch_model.bin", b"");
    refused(folder.path(), &["pytorch_model.bin", "convert them to safetensors"]);

    let folder = whole().write(2);
    let shard = "model-00002-of-00002.safetensors";
    std::fs::remove_file(folder.path().join(shard)).expect("its second file");
    refused(folder.path(), &[shard, "is missing"]);
}

#[test]
fn settings_that_are_not_run() {
    field_refused("model_type", "mamba".into(), &["\"mamba\"", "llama, mistral, qwen2"]);
    field_refused("model_type", Value::Null, &["is missing"]);
    field_refused("architectures", json!(["LlamaForSequenceClassification"]), &["LlamaForCausalLM"]);
    field_refused("hidden_act", "gelu".into(), &["gelu", "silu"]);
    field_refused("quantization_config", json!({"quant_method": "awq"}), &["quantised already"]);
    field_refused("hidden_size", json!(0), &["1 to 1048576"]);
    field_refused("max_position_embeddings", json!((1 << 24) + 1), &["1 to 16777216"]);
    field_refused("hidden_size", json!(-64), &["-64"]);
    field_refused("hidden_size", json!(64.5), &["64.5"]);
    field_refused("hidden_size", "64".into(), &["whole number"]);
    field_refused("num_hidden_layers", json!(1u64 << 40), &["whole number"]);
    field_refused("rms_norm_eps", json!(0), &["above 0"]);
    field_refused("num_attention_heads", Value::Null, &["is missing"]);
    field_refused("head_dim", json!(257), &["heads of 257", "up to 256"]);
    field_refused("embedding_multiplier", json!(12.0), &["12.0", "not known"]);
    field_refused("use_qk_norm", json!(true), &["not known"]);
    field_refused("rope_interleaved", json!(true), &["not supported"]);
    field_refused("partial_rotary_factor", json!(0.5), &["8 of a head's 16"]);
    field_refused("layer_types", json!(["full_attention", "sliding_attention"]), &["full_attention"]);
    let scaling = |fields: Value, parts: &[&str]| field_refused("rope_scaling", fields, parts);
    scaling(json!({"type": "dynamic", "factor": 2.0}), &["rope_type", "dynamic"]);
    scaling(json!({"type": "linear"}), &["rope_scaling.factor", "is missing"]);
    scaling(
        json!({"rope_type": "yarn", "factor": 4.0, "truncate": 1}),
        &["rope_scaling.truncate", "true or false"],
    );
    scaling(json!({"rope_type": "yarn", "factor": 4.0, "mscale": 0.7}), &["mscale"]);
    scaling(json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}), &["high_freq_factor"]);
    scaling(json!({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}), &["original_max"]);
    scaling(json!({"rope_type": "default", "unheard_of": 3}), &["rope_scaling.unheard_of"]);
    scaling(json!("linear"), &["an object"]);
    let both = |config: &mut Value| {
        config["rope_parameters"] = json!({});
        config["rope_scaling"] = json!({});
    };
    config_refused(both, &["rope_scaling", "beside rope_parameters"]);
    let mut gpt2 = fixture("gpt2-f32.gguf");
    gpt2.config["activation_function"] = "re\nlu".into();
    refused(gpt2.write(1).path(), &["activation_function", "re\\nlu"]);
}

#[test]
fn heads_that_are_wide_are_refused_before_anything_is_made_for_each_element() {
    let wide = |config: &mut Value| {
        config["hidden_size"] = json!(1 << 20);
        config["num_attention_heads"] = json!(1);
        config["head_dim"] = Value::Null;
        config["rope_scaling"] = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        });
    };
    config_refused(wide, &["num_attention_heads", "heads of 1048576", "up to 256"]);
}

#[test]
fn notes_and_what_is_off_are_not_refused() {
    let mut folder = whole();
    for (name, value) in [
        ("_attn_implementation", json!({"a": 1})),
        ("some_tool", json!("v1")),
        ("logit_scale", json!(null)),
        ("use_qk_norm", json!(false)),
        ("transformers_version", json!("4.38.0")),
        ("sliding_window", json!(null)),
    ] {
        folder.config[name] = value;
    }
    huggingface::open(folder.write(1).path(), None).expect("a folder");
}

#[test]
fn a_config_that_is_no_json_object() {
    let folder = whole().write(1);
    for (bytes, part) in [
        (&b"{\"a\": 1, \"a\": 2}"[..], "\"a\" occurs twice"),
        (b"{\"rope_scaling\": {\"b\": 1, \"b\": 2}}", "\"b\" occurs twice"),
        (b"[1]", "no object"),
        (b"{", "EOF"),
        (b"\xff", "JSON"),
        (&b"[".repeat(100_000), "recursion"),
        (&b" ".repeat(9 << 20), "more than"),
    ] {
        put(folder.path(), "config.json", bytes);
        refused(folder.path(), &["config.json", part]);
    }
}

#[test]
fn tensors_that_do_not_suit_the_config() {
    let up = "model.layers.1.mlp.up_proj.weight";
    let mut folder = whole();
    folder.tensors.remove(up);
    refused(folder.write(1).path(), &[up, "is missing"]);

    let mut folder = whole();
    let down = folder.tensors["model.layers.1.mlp.down_proj.weight"].clone();
    folder.tensors.insert(up.to_owned(), down);
    refused(folder.write(1).path(), &["model.safetensors", up, "[64, 160]", "[160, 64]"]);

    let mut folder = whole();
    let extra = folder.tensors[up].clone();
    folder.tensors.insert("model.layers.2.mlp.up_proj.weight".to_owned(), extra.clone());
    refused(folder.write(1).path(), &["model.layers.2.mlp.up_proj.weight", "left out"]);

    // Angles, and an output that is the embedding, change nothing.
    let mut folder = whole();
    folder.tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), extra.clone());
    folder.tensors.insert("lm_head.weight".to_owned(), extra);
    huggingface::open(folder.write(1).path(), None).expect("a folder");

    let mut folder = whole();
    folder.config["vocab_size"] = json!(321);
    refused(folder.write(1).path(), &["model.embed_tokens.weight", "[320, 64]", "[321, 64]"]);

    let mut folder = whole();
    folder.config["attention_bias"] = json!(true);
    refused(folder.write(1).path(), &["model.layers.0.self_attn.q_proj.bias", "is missing"]);

    let mut folder = whole();
    folder.config["tie_word_embeddings"] = json!(false);
    refused(folder.write(1).path(), &["lm_head.weight", "is missing"]);

    for dtype in [Dtype::I16, Dtype::U16] {
        let mut folder = whole();
        folder.tensors.get_mut(up).expect("it").dtype = dtype;
        refused(folder.write(1).path(), &[up, &format!("{dtype:?}"), "BF16"]);
    }
    let mut folder = whole();
    let stored = folder.tensors.get_mut(up).expect("it");
    stored.dtype = Dtype::F8_E4M3;
    stored.data.truncate(stored.data.len() / 2);
    refused(folder.write(1).path(), &[up, "F8_E4M3"]);
}

#[test]
fn weights_that_are_there_twice() {
    let folder = whole().write(2);
    let single = folder.path().join("model.safetensors");
    std::fs::copy(folder.path().join("model-00001-of-00002.safetensors"), &single).expect("a file");
    let name = "model.safetensors.index.json: \"weight_map\"";
    refused(folder.path(), &[name, "names model-00001-of-00002.safetensors", "model.safetensors is there"]);

    // An index of the one file says nothing else than the file.
    let folder = whole().write(1);
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map": {"model.norm.weight": "model.safetensors"}}"#)
        .expect("an index");
    huggingface::open(folder.path(), None).expect("a folder");
}

#[test]
fn an_index_that_is_wrong() {
    let folder = whole().write(2);
    let index = folder.path().join("model.safetensors.index.json");
    let whole: Value = serde_json::from_slice(&std::fs::read(&index).expect("an index")).expect("JSON");
    let norm = "model.norm.weight";
    let change = |change: &dyn Fn(&mut Value), parts: &[&str]| {
        let mut changed = whole.clone();
        change(&mut changed);
        std::fs::write(&index, changed.to_string()).expect("an index");
        refused(folder.path(), parts);
    };
    let name = "model.safetensors.index.json";
    change(
        &|index| index["weight_map"]["x"] = "model-00001-of-00002.safetensors".into(),
        &[name, "\"x\"", "is not in"],
    );
    change(
        &|index| drop(index["weight_map"].as_object_mut().unwrap().remove(norm)),
        &[name, norm, "not in the index"],
    );
    for outside in
        ["../model.safetensors", "/etc/passwd", "a\\b.safetensors", "", "c.bin", "a\nb.safetensors"]
    {
        change(&|index| index["weight_map"][norm] = outside.into(), &[name, norm, "of this folder"]);
    }
    change(&|index| index["weight_map"][norm] = json!(3), &[name, norm]);
    change(
        &|index| index["weight_map"][norm] = "other.safetensors".into(),
        &["other.safetensors", "is missing"],
    );
    change(&|index| index["weight_map"] = json!([]), &[name, "weight_map"]);
    change(&|index| index["weight_map"] = Value::Null, &[name, "weight_map", "is missing"]);
}

#[test]
fn weights_that_are_damaged() {
    let folder = whole().write(1);
    let file = folder.path().join("model.safetensors");
    let good = std::fs::read(&file).expect("weights");
    let wrong = |bytes: &[u8], parts: &[&str]| {
        std::fs::write(&file, bytes).expect("weights");
        refused(folder.path(), &[&["model.safetensors"], parts].concat());
    };
    wrong(b"", &["0 bytes"]);
    wrong(b"version https://git-lfs.github.com/spec/v1\n", &["Git LFS"]);
    wrong(&good[..good.len() - 1], &["outside"]);
    wrong(&[&good[..], &[0]].concat(), &["end at byte"]);
    wrong(&good[..100], &["cut short"]);
    wrong(&[&u64::MAX.to_le_bytes(), &good[8..]].concat(), &["its head should have"]);
    wrong(&[&(1u64 << 62).to_le_bytes(), &good[8..]].concat(), &["its head should have"]);
    let entry = |name: &str, dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let one = |dtype: &str, shape: &str, from, to| format!("{{{}}}", entry("a", dtype, shape, from, to));
    wrong(&weights(&one("F32", "[2]", 0, 16), 16), &["\"a\"", "16 bytes", "F32 of shape [2]"]);
    wrong(&weights(&one("F32", "[4]", 16, 32), 16), &["\"a\"", "outside"]);
    wrong(&weights(&one("F32", "[4]", 16, 0), 16), &["\"a\""]);
    wrong(&weights(&one("F99", "[4]", 0, 16), 16), &["\"a\"", "F99"]);
    wrong(&weights(&one("F\\n99", "[4]", 0, 16), 16), &["\"a\"", "F\\n99"]);
    wrong(&weights(&one("F32", "[-4]", 0, 16), 16), &["\"a\""]);
    wrong(&weights(&one("F32", "[4294967296,4294967296,4]", 0, 16), 16), &["\"a\"", "4294967296"]);
    wrong(&weights(&one("F32", "[18446744073709551615]", 0, 16), 16), &["\"a\""]);
    wrong(&weights(&one("F32", "[18446744073709551616]", 0, 16), 16), &["\"a\""]);
    let two = |a: String, b: String| weights(&format!("{{{a},{b}}}"), 16);
    wrong(&two(entry("a", "F32", "[2]", 0, 8), entry("a", "F32", "[2]", 8, 16)), &["\"a\"", "twice"]);
    wrong(
        &two(entry("a", "F32", "[3]", 0, 12), entry("b", "F32", "[2]", 8, 16)),
        &["\"b\"", "overlaps \"a\""],
    );
    wrong(&two(entry("a", "F32", "[1]", 0, 4), entry("b", "F32", "[2]", 8, 16)), &["offset"]);
    wrong(&weights("[]", 0), &["JSON"]);
    wrong(&weights(r#"{"a":3}"#, 0), &["\"a\""]);
    wrong(&weights(&"[".repeat(1000), 0), &["JSON"]);
}

#[test]
fn a_file_that_becomes_shorter_is_an_error_of_the_read() {
    let folder = whole().write(1);
    let file = folder.path().join("model.safetensors");
    let made = huggingface::open(folder.path(), None).expect("a folder");
    std::fs::File::options().write(true).open(&file).expect("it").set_len(5000).expect("shorter");
    let mut failed = 0;
    for tensor in made.tensors() {
        if let Err(error) = made.data(tensor) {
            let error = error.to_string();
            assert!(error.contains("model.safetensors") && error.contains("model."), "{error}");
            assert!(error.contains("become shorter"), "{error}");
            failed += 1;
        }
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn a_value_that_cannot_be_quantised_is_told_by_its_tensor() {
    let mut folder = whole();
    let name = "model.layers.1.self_attn.k_proj.weight";
    folder.tensors.get_mut(name).expect("it").data[20..22].copy_from_slice(&0x7fc0u16.to_le_bytes());
    let folder = folder.write(1);
    let made = huggingface::open(folder.path(), Some(huggingface::Quant::Q8_0)).expect("a folder");
    let tensor = made.tensor("blk.1.attn_k.weight").expect("it");
    let error = made.data(tensor).expect_err("an error").to_string();
    assert!(error.contains(name) && error.contains("NaN"), "{error}");
    crate::logits(&made, runtime::numerics::Numerics::F32, &[1]).expect_err("it is not loaded");
}
