//! The tokenizer that a GGUF file describes: built or refused, and then used.

#![no_main]

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;
use runtime::gguf::Gguf;
use runtime::tokenizer::Tokenizer;
use worker_orcd_fuzz::{InMemory, bounded, use_tokenizer};

thread_local! {
    static FILE: LazyCell<InMemory> = LazyCell::new(InMemory::new);
}

fuzz_target!(|bytes: &[u8]| {
    let path = FILE.with(|file| file.of(bytes));
    let Ok(gguf) = Gguf::open(&path) else { return };
    // Patterns compile to automata of a bounded size, whatever the file.
    bounded(64 * bytes.len() + (4 << 20), 512 * bytes.len() + (64 << 20), || {
        match Tokenizer::from_gguf(&gguf) {
            Ok(tokenizer) => use_tokenizer(&tokenizer),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    });
});
