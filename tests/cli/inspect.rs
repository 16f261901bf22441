//! `inspect`: what it tells of good files, bad ones and hostile ones.

use std::fs;
use std::path::Path;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::common::data;
use crate::{expect_failure, stdout, worker};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("inspect_tells_what_is_in_a_model_and_what_runs_it", model),
        Trial::test("inspect_tells_the_same_as_json", json),
        Trial::test("inspect_tells_why_a_model_does_not_run", does_not_run),
        Trial::test("inspect_refuses_what_is_no_model_and_says_why", broken),
        Trial::test("a_hostile_file_does_not_drive_the_terminal", hostile),
        Trial::test("inspect_takes_sizes_within_reason", sizes),
        Trial::test("inspect_tells_of_a_shape_without_a_file", synthetic),
        Trial::test("inspect_tells_of_a_folder_as_it_is_quantised", quantised),
    ]
}

fn inspect(arguments: &[&str], file: &Path) -> Result<std::process::Output, Failed> {
    let cache = tempfile::tempdir()?;
    // Without a driver, so that every machine gives the same.
    let mut command = worker(cache.path());
    command.env("LD_LIBRARY_PATH", cache.path());
    Ok(command.arg("inspect").args(arguments).arg(file).output()?)
}

fn told(arguments: &[&str], file: &Path) -> Result<String, Failed> {
    let output = inspect(arguments, file)?;
    assert!(output.status.success(), "{output:?}");
    Ok(stdout(&output).to_owned())
}

fn value(arguments: &[&str], file: &Path) -> Result<Value, Failed> {
    Ok(serde_json::from_str(&told(&[arguments, &["--json"]].concat(), file)?)?)
}

fn model() -> Result<(), Failed> {
    let text = told(&["--device", "cpu"], &data("llama-q4_1.gguf"))?;
    for part in [
        "architecture   llama, run by runtime/src/model/llama.rs\n",
        "runs           yes\n",
        "tokenizer      gpt2/",
        "on the CPU in f32 numerics, for 1 sequence of 128 tokens",
        "  llama.embedding_length = 128\n",
        "  tokenizer.ggml.tokens = 320 of string: [\"",
        "it fits: cpu (",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let named = text
        .lines()
        .find(|line| line.starts_with("architecture"))
        .and_then(|line| line.split(' ').next_back());
    assert!(
        Path::new(env!("CARGO_MANIFEST_DIR")).join(named.ok_or("a source")?).is_file()
            || std::env::var_os("WORKER_ORCD_EXE").is_some()
    );
    Ok(())
}

fn json() -> Result<(), Failed> {
    let file = data("llama-q8_0.gguf");
    let report = value(&["--device", "cpu", "--context", "64", "--batch", "2"], &file)?;
    assert_eq!(report["bytes"], fs::metadata(&file)?.len());
    assert_eq!(report["problems"], serde_json::json!([]));
    assert_eq!(report["model"]["hidden"], report["metadata"]["llama.embedding_length"]);
    let tensors = report["tensors"].as_array().ok_or("tensors")?;
    let bytes: u64 = tensors.iter().filter_map(|tensor| tensor["bytes"].as_u64()).sum();
    let types = report["types"].as_object().ok_or("types")?;
    assert_eq!(types.values().filter_map(|ty| ty["bytes"].as_u64()).sum::<u64>(), bytes);
    assert_eq!(report["memory"]["bytes"]["weights"], bytes, "every tensor is loaded, once");
    assert_eq!((&report["memory"]["sequences"], &report["memory"]["context"]), (&2.into(), &64.into()));
    assert_eq!(report["device"]["found"]["fits"], true);
    assert_eq!(report["chat_template"], "none");
    Ok(())
}

/// A golden file with `old` replaced by `new`, of the same length.
fn altered(old: &[u8], new: &[u8]) -> Result<tempfile::NamedTempFile, Failed> {
    assert_eq!(old.len(), new.len());
    let mut bytes = fs::read(data("llama-f32.gguf"))?;
    let places: Vec<usize> =
        (0..bytes.len() - old.len()).filter(|&at| bytes[at..].starts_with(old)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), bytes)?;
    Ok(file)
}

fn does_not_run() -> Result<(), Failed> {
    let unknown = altered(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lemma")?;
    let report = value(&[], unknown.path())?;
    let problems = report["problems"].to_string();
    assert!(problems.contains("\\\"lemma\\\" is not supported"), "{problems}");
    assert_eq!(
        (&report["architecture"], &report["run_by"], &report["memory"]),
        (&"lemma".into(), &Value::Null, &Value::Null)
    );
    assert!(told(&[], unknown.path())?.contains("runs           no: "));

    let missing = altered(b"blk.1.ffn_up.weight", b"blk.1.ffn_UP.weight")?;
    let problems = value(&[], missing.path())?["problems"].to_string();
    assert!(problems.contains("blk.1.ffn_UP.weight"), "{problems}");
    // Without a GPU it is told what one would need, and that there is none.
    let report = value(&[], &data("llama-bf16.gguf"))?;
    assert_eq!((&report["memory"]["gpu"], &report["memory"]["numerics"]), (&true.into(), &"tc".into()));
    assert!(
        report["device"]["none"].as_str().is_some_and(|why| why.contains("driver")),
        "{}",
        report["device"]
    );
    Ok(())
}

fn broken() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("m.gguf");
    fs::write(&file, &fs::read(data("llama-f32.gguf"))?[..5000])?;
    expect_failure(&inspect(&[], &file)?, &["m.gguf", "needs a file of", "this one has 5000"]);
    fs::write(&file, b"PK\x03\x04")?;
    expect_failure(&inspect(&["--json"], &file)?, &["m.gguf: not a GGUF file"]);
    expect_failure(&inspect(&[], folder.path())?, &["config.json: is missing"]);
    expect_failure(&inspect(&[], &folder.path().join("none"))?, &["none: cannot be read: No such file"]);
    Ok(())
}

fn hostile() -> Result<(), Failed> {
    // Clears the screen, sets its title, turns the writing's direction, returns the carriage.
    let evil = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\r\n";
    let old = "blk.0.attn_output.weight";
    assert!(evil.len() < old.len());
    let name = format!("{evil}{}", "x".repeat(old.len() - evil.len()));
    let file = altered(old.as_bytes(), name.as_bytes())?;
    let harmless = |c: char| !c.is_control() && c != '\u{202e}' || c == '\n';
    let text = told(&[], file.path())?;
    assert!(text.chars().all(harmless), "{text:?}");
    assert!(
        text.lines().any(|line| line.contains(r"\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\r\nx")),
        "{text}"
    );
    let json = told(&["--json"], file.path())?;
    assert!(json.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{json:?}");
    let report: Value = serde_json::from_str(&json)?;
    assert!(
        report["tensors"]
            .as_array()
            .is_some_and(|tensors| tensors.iter().any(|tensor| tensor["name"] == *name))
    );
    // An error that quotes it.
    let mut bytes = fs::read(file.path())?;
    bytes.truncate(8000);
    fs::write(file.path(), bytes)?;
    let output = inspect(&[], file.path())?;
    expect_failure(&output, &["needs a file of"]);
    assert!(crate::stderr(&output).chars().all(harmless), "{output:?}");
    Ok(())
}

fn sizes() -> Result<(), Failed> {
    let file = data("llama-f32.gguf");
    for (arguments, part) in [
        (&["--context", "0"][..], "--context"),
        (&["--context", "2000000"], "--context"),
        (&["--batch", "257"], "--batch"),
        (&["--context", "1048576", "--batch", "17"], "2^24"),
    ] {
        expect_failure(&inspect(arguments, &file)?, &[part]);
    }
    // No more than the model's own.
    assert_eq!(value(&["--context", "1000000"], &file)?["memory"]["context"], 128);
    Ok(())
}

/// The folder as `serve --quant` would have it.
fn quantised() -> Result<(), Failed> {
    let report = value(&["--quant", "q8_0"], &data("hf-qwen2"))?;
    let bytes = |ty: &str| report["types"][ty]["bytes"].as_u64().unwrap_or(0);
    assert!(
        bytes("Q8_0") > bytes("F32") && report["memory"]["bytes"]["weights"] == bytes("Q8_0") + bytes("F32")
    );
    let output = inspect(&["--quant", "q8_0"], &data("llama-f32.gguf"))?;
    expect_failure(&output, &["llama-f32.gguf", "only a folder is quantised"]);
    Ok(())
}

fn synthetic() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let inspect = |arguments: &[&str]| worker(folder.path()).arg("inspect").args(arguments).output();
    let shape = ["--synthetic", "qwen2.5-7b", "--quant", "q4_k", "--context", "16384"];
    let output = inspect(&[&shape[..], &["--device", "cpu", "--numerics", "tc", "--json"]].concat())?;
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((&report["path"], &report["problems"]), (&"qwen2.5-7b q4_k".into(), &serde_json::json!([])));
    // 144 bytes for 256 values; the rest are norms and biases.
    let weights = report["memory"]["bytes"]["weights"].as_u64().ok_or("weights")?;
    assert!(weights > 7_615_000_000 / 256 * 144 && weights < report["bytes"].as_u64().ok_or("bytes")?);
    // Two times 28 layers of 4 heads of 128 values of 2 bytes.
    let token = 2 * 28 * 4 * 128 * 2;
    assert_eq!(report["memory"]["kv_bytes_per_token"], token);
    assert!(report["memory"]["bytes"]["kv_cache"].as_u64() >= Some(16384 * token));
    for (arguments, part) in [
        (&["--synthetic", "qwen2.5-7b"][..], "--quant"),
        (&["--quant", "q4_k", "m.gguf"], "--quant: "),
        (&["--synthetic", "qwen2.5-7b", "--quant", "q4_k", "m.gguf"], "cannot be used with"),
        (&["--synthetic", "qwen", "--quant", "q4_k"], "there are smollm2-135m, "),
        (&["--synthetic", "gpt2-xl", "--quant", "q4_k"], "rows of 1600 values are not whole blocks"),
        (&[], "<FILE>"),
    ] {
        expect_failure(&inspect(arguments)?, &[part]);
    }
    Ok(())
}
