//! A Hugging Face folder, as opening a model reads it: a byte that chooses how matrices are quantised, and then the content of
//! each of [`NAMES`], with [`END`] between them. A file without content is not there.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runtime::huggingface::{self, Quant};
use runtime::model::config::ModelConfig;
use runtime::tokenizer::Tokenizer;
use worker_orcd_fuzz::{bounded, use_tokenizer};

const NAMES: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors",
];
const END: &[u8] = b"\0/\0";

/// In memory, of this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(format!("/dev/shm/worker-orcd-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, files)) = bytes.split_first() else { return };
    write(files);
    let quant = [None, Some(Quant::Q8_0), Some(Quant::Q4_0)][choice as usize % 3];
    // JSON becomes values of many times its size.
    bounded(16 * bytes.len() + (64 << 10), 128 * bytes.len() + (1 << 20), || weights(quant));
    // As much as a pattern compiles to.
    bounded(64 * bytes.len() + (64 << 20), 512 * bytes.len() + (256 << 20), || {
        match Tokenizer::from_folder(&FOLDER) {
            Ok(tokenizer) => use_tokenizer(&tokenizer),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
        if let Err(error) = huggingface::chat_template(&FOLDER) {
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    });
});

fn write(mut rest: &[u8]) {
    for name in NAMES {
        let at = rest.windows(END.len()).position(|window| window == END);
        let content = &rest[..at.unwrap_or(rest.len())];
        rest = at.map_or(&[], |at| &rest[at + END.len()..]);
        let path = FOLDER.join(name);
        if !content.is_empty() {
            fs::write(path, content).expect("memory for a file");
        } else if path.exists() {
            fs::remove_file(path).expect("no file");
        }
    }
}

fn weights(quant: Option<Quant>) {
    match huggingface::open(&FOLDER, quant) {
        Ok(gguf) => {
            if let Err(error) = ModelConfig::from_gguf(&gguf) {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
            for tensor in gguf.tensors() {
                match gguf.data(tensor) {
                    Ok(data) => assert_eq!(data.len(), tensor.bytes.len(), "{:?}", tensor.name),
                    // Such as an infinity that is to be quantised.
                    Err(error) => assert!(error.to_string().contains("tensor"), "{error}"),
                }
            }
            for file in huggingface::files(&FOLDER).expect("what was opened") {
                assert!(file.is_file() && file.parent() == Some(&FOLDER), "{}", file.display());
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}
