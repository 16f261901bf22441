//! A Hugging Face folder: `config.json`, a zero byte, and then `model.safetensors`. The first byte chooses how its matrices
//! are quantised.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runtime::huggingface::{self, Quant};
use worker_orcd_fuzz::bounded;

/// In memory, of this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(format!("/dev/shm/worker-orcd-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let at = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
    let weights = rest.get(at + 1..).unwrap_or_default();
    fs::write(FOLDER.join("config.json"), &rest[..at]).expect("memory for a file");
    fs::write(FOLDER.join("model.safetensors"), weights).expect("memory for a file");
    let quant = [None, Some(Quant::Q8_0), Some(Quant::Q4_0)][choice as usize % 3];
    // JSON becomes values of many times its size.
    bounded(16 * bytes.len() + (64 << 10), 128 * bytes.len() + (1 << 20), || match huggingface::open(&FOLDER, quant) {
        Ok(gguf) => {
            for tensor in gguf.tensors() {
                match gguf.data(tensor) {
                    Ok(data) => assert_eq!(data.len(), tensor.bytes.len(), "{:?}", tensor.name),
                    // Such as an infinity that is to be quantised.
                    Err(error) => assert!(error.to_string().contains("tensor"), "{error}"),
                }
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    });
});
