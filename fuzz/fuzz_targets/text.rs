//! Text for known tokenizers, and ids for their way back.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runtime::gguf::Gguf;
use runtime::tokenizer::{Options, Tokenizer};
use worker_orcd_fuzz::bounded;

/// Files of `tests/golden` with a vocabulary that has every byte.
const FILES: [&str; 1] = ["llama-q4_0.gguf"];

static TOKENIZERS: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden"));
    let read =
        |name| Tokenizer::from_gguf(&Gguf::open(&golden.join(name)).expect("a file")).expect("a tokenizer");
    FILES.map(read).into()
});

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for tokenizer in &*TOKENIZERS {
        bounded(64 * bytes.len() + (4 << 20), 256 * bytes.len() + (64 << 20), || {
            let plain = Options { add_special: false, parse_special: false };
            let ids = tokenizer.encode_with(&text, plain);
            assert_eq!(tokenizer.decode(&ids), text.as_bytes(), "{ids:?}");
            tokenizer.decode_string(&tokenizer.encode(&text));
            let ids: Vec<u32> = bytes.as_chunks().0.iter().map(|&four| u32::from_le_bytes(four)).collect();
            tokenizer.decode_string(&ids);
            let small: Vec<u32> = bytes.iter().map(|&byte| byte as u32).collect();
            tokenizer.decode_string(&small);
        });
    }
});
