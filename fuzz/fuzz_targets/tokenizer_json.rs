//! A `tokenizer.json`: built or refused, and then used.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::tokenizer::{Settings, Tokenizer};
use worker_orcd_fuzz::{bounded, use_tokenizer};

fuzz_target!(|bytes: &[u8]| {
    let mut settings = Settings::default();
    settings.bos_token = Some("<s>".to_owned());
    settings.eos_token = Some("</s>".to_owned());
    // Patterns compile to automata of a bounded size, whatever the file.
    bounded(64 * bytes.len() + (64 << 20), 512 * bytes.len() + (256 << 20), || {
        match Tokenizer::from_json(bytes, &settings) {
            Ok(tokenizer) => use_tokenizer(&tokenizer),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    });
});
