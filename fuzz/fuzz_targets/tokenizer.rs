//! The tokenizer that a GGUF file describes: built or refused, and then used.

#![no_main]

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;
use runtime::gguf::Gguf;
use runtime::tokenizer::{Options, Tokenizer};
use worker_orcd_fuzz::{InMemory, bounded};

thread_local! {
    static FILE: LazyCell<InMemory> = LazyCell::new(InMemory::new);
}

/// Words, numbers, spaces, letters of several bytes, marks, and what looks like special tokens.
const TEXT: &str = "Then 1234 x\u{e9}\u{301}  <s></s><|im_start|>\r\n\t'll \u{1f469}\u{200d}\u{1f680} \u{4e2d}\u{6587}\0";

fuzz_target!(|bytes: &[u8]| {
    let path = FILE.with(|file| file.of(bytes));
    let Ok(gguf) = Gguf::open(&path) else { return };
    // Patterns compile to automata of a bounded size, whatever the file.
    bounded(64 * bytes.len() + (4 << 20), 512 * bytes.len() + (64 << 20), || match Tokenizer::from_gguf(&gguf) {
        Ok(tokenizer) => use_it(&tokenizer),
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    });
});

fn use_it(tokenizer: &Tokenizer) {
    let vocab = tokenizer.vocab_size() as u32;
    for options in [(true, true), (false, true), (true, false), (false, false)] {
        let options = Options { add_special: options.0, parse_special: options.1 };
        let ids = tokenizer.encode_with(TEXT, options);
        assert!(ids.iter().all(|&id| id < vocab), "{ids:?} of {vocab}");
        tokenizer.decode_string(&ids);
    }
    let all: Vec<u32> = (0..vocab.min(1000)).chain([vocab, u32::MAX]).collect();
    tokenizer.decode(&all);
    for id in all {
        assert_eq!(tokenizer.piece(id).is_some(), id < vocab);
        tokenizer.is_end(id);
    }
    assert!(tokenizer.ends().iter().all(|&id| id < vocab));
}
