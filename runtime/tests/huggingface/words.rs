//! The tokenizer and the chat template of a folder, against those of the transformers library; and what a checkpoint is.

use std::path::Path;

use runtime::checkpoint::{Checkpoint, CheckpointFiles};
use runtime::huggingface::Quant;
use runtime::receipt::Digest;
use runtime::tokenizer::Options;
use serde_json::{Value, json};

use crate::folder::put;
use crate::golden;

fn reference(name: &str) -> (Checkpoint, Value) {
    let folder = golden(name);
    let reference = std::fs::read(folder.join("reference.json")).expect("a reference");
    let checkpoint = Checkpoint::open(&folder, None).expect("a checkpoint");
    (checkpoint, serde_json::from_slice(&reference).expect("JSON"))
}

#[test]
fn texts_have_the_ids_that_the_library_gives_them() {
    // Of several tokens that end a completion, and of one.
    for (name, ends) in [("hf-llama", &[7, 271][..]), ("hf-qwen2", &[271])] {
        let (checkpoint, reference) = reference(name);
        let tokenizer = checkpoint.tokenizer().expect("a tokenizer");
        assert_eq!(tokenizer.ends(), ends, "{name}");
        let texts = reference["texts"].as_array().expect("texts");
        assert_eq!(texts.len(), 4);
        for text in texts {
            let want: Vec<u32> = serde_json::from_value(text["ids"].clone()).expect("ids");
            let text = text["text"].as_str().expect("a text");
            let options = Options { add_special: false, parse_special: true };
            assert_eq!(tokenizer.encode_with(text, options), want, "{name}: {text:?}");
        }
    }
}

#[test]
fn messages_become_the_prompt_that_the_library_makes() {
    // The template is in a file of its own, and among the tokenizer's settings.
    for (name, own_file) in [("hf-llama", true), ("hf-qwen2", false)] {
        assert_eq!(golden(name).join("chat_template.jinja").exists(), own_file);
        let (checkpoint, reference) = reference(name);
        let template = checkpoint.chat_template().expect("settings").expect("a template");
        let prompt = template.render(&reference["messages"], true).expect("a prompt");
        assert_eq!(prompt, reference["prompt"].as_str().expect("a prompt"), "{name}");
    }
    let (checkpoint, _) = reference("hf-qwen3");
    assert!(checkpoint.chat_template().expect("no settings").is_none());
}

/// A folder with the settings of a tokenizer alone.
fn template(settings: &Value) -> Result<Option<String>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    put(folder.path(), "tokenizer_config.json", settings.to_string().as_bytes());
    let template = runtime::huggingface::chat_template(folder.path()).map_err(|error| error.to_string())?;
    Ok(template.map(|template| template.render(&json!([]), false).expect("a prompt")))
}

#[test]
fn templates_stand_in_settings_in_several_ways() {
    let list = json!([{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "default"}]);
    assert_eq!(template(&json!({"chat_template": list})), Ok(Some("default".to_owned())));
    let tokens = json!({
        "chat_template": "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}",
        "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
    });
    assert_eq!(template(&tokens), Ok(Some("<s>|</s>|".to_owned())));
    assert_eq!(template(&json!({})), Ok(None));
    for (settings, parts) in [
        (json!({"chat_template": 3}), "\"chat_template\" is 3"),
        (json!({"chat_template": "x", "bos_token": []}), "\"bos_token\" is []"),
        (json!({"chat_template": [{"name": "rag", "template": "x"}]}), "\"chat_template\""),
    ] {
        let error = template(&settings).expect_err("wrong settings");
        assert!(error.contains("tokenizer_config.json") && error.contains(parts), "{error}");
    }
}

#[test]
fn a_file_is_not_quantised_and_a_path_that_is_not_there_is_told() {
    let file = golden("llama-f32.gguf");
    Checkpoint::open(&file, None).expect("a file");
    let error = Checkpoint::open(&file, Some(Quant::Q8_0)).expect_err("an error").to_string();
    assert!(error.contains("llama-f32.gguf") && error.contains("only a folder"), "{error}");
    let missing = Checkpoint::open(Path::new("no-such"), None).expect_err("an error").to_string();
    assert!(missing.contains("no-such"), "{missing}");
}

#[test]
fn a_folders_hash_is_of_its_files_by_name_and_of_what_it_is_quantised_to() {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(golden("hf-llama")).expect("a folder") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    let hash = |quant| {
        let files = CheckpointFiles::of(folder.path(), quant).expect("files");
        files.hash(None, 1).expect("a hash")
    };
    // As b3sum prints it.
    let mut lines = String::new();
    for name in [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        let content = std::fs::read(folder.path().join(name)).expect("a file");
        lines += &format!("{}  {name}\n", Digest::of(&content));
    }
    let plain = hash(None);
    assert_eq!(plain, Digest::of(lines.as_bytes()));
    assert_eq!(hash(Some(Quant::Q4_0)), Digest::of(format!("{lines}quant q4_0\n").as_bytes()));
    // What the model does not read does not count; every file that it reads does.
    put(folder.path(), "README.md", b"about it");
    assert_eq!(hash(None), plain);
    for line in lines.lines() {
        let (_, name) = line.split_once("  ").expect("a name");
        let path = folder.path().join(name);
        let content = std::fs::read(&path).expect("a file");
        // A space after JSON, and a byte of the last tensor, say nothing else to the reader.
        let mut changed = content.clone();
        match changed.last_mut() {
            Some(last) if name.ends_with("safetensors") => *last ^= 1,
            _ => changed.push(b' '),
        }
        std::fs::write(&path, &changed).expect("a file");
        assert_ne!(hash(None), plain, "{name}");
        std::fs::write(&path, &content).expect("a file");
    }
    assert_eq!(hash(None), plain);

    let file = golden("llama-f32.gguf");
    let of_file = CheckpointFiles::of(&file, None).expect("a file").hash(None, 1).expect("a hash");
    assert_eq!(of_file, Digest::of(&std::fs::read(&file).expect("a file")), "a file's is of its content");
}
