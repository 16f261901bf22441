//! What a file's tokenizer does without, and a warning says so.

#[allow(dead_code, reason = "tensors are for the tests of the reader")]
mod draft;

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use draft::{Draft, string};
use runtime::tokenizer::Tokenizer;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Collects the messages of warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").expect("room");
        }
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().expect("one thread").push(message.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The tokenizer of a file, and the warnings.
fn build(draft: &Draft) -> (Tokenizer, Vec<String>) {
    let gguf = draft.open().expect("a header");
    let warnings = Warnings::default();
    let tokenizer = tracing::subscriber::with_default(warnings.clone(), || Tokenizer::from_gguf(&gguf));
    let told = warnings.0.lock().expect("one thread").clone();
    (tokenizer.expect("a tokenizer"), told)
}

/// A byte-level vocabulary of a few characters.
fn bytes() -> Draft {
    let tokens = ["a", "1", "2", "3", "11", "111", "1111", "<s>"];
    let merges = ["1 1", "11 1", "11 11"];
    Draft::default()
        .text("tokenizer.ggml.model", "gpt2")
        .array("tokenizer.ggml.tokens", 8, &tokens.map(string))
        .array("tokenizer.ggml.merges", 8, &merges.map(string))
}

#[test]
fn a_file_that_does_not_say_how_words_are_split_has_the_default_rules() {
    let without = |name: &str| bytes().text("tokenizer.ggml.pre", name);
    for draft in [bytes(), without(""), without("default")] {
        let (tokenizer, warnings) = build(&draft);
        // By threes, where gpt-2 would keep the digits together.
        assert_eq!(tokenizer.encode("a1111"), [0, 5, 1]);
        assert_eq!(tokenizer.kind(), "gpt2/default");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("tokenizer.ggml.pre does not say how words are split"), "{warnings:?}");
    }
    let (tokenizer, warnings) = build(&without("gpt-2"));
    assert_eq!(tokenizer.encode("a1111"), [0, 6]);
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn an_id_outside_of_the_vocabulary_is_no_token() {
    let good = || bytes().text("tokenizer.ggml.pre", "gpt-2");
    for key in ["eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep", "unknown"] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        for id in [8, u32::MAX] {
            let (tokenizer, warnings) = build(&good().u32(&key, id));
            assert_eq!(tokenizer.ends(), [0u32; 0], "{key}");
            let told = format!("{key}: token {id} is outside the vocabulary of 8");
            assert!(warnings.len() == 1 && warnings[0].contains(&told), "{warnings:?}");
        }
        let (tokenizer, warnings) = build(&good().u32(&key, 7));
        assert_eq!(tokenizer.ends().len(), usize::from(!key.contains("unknown")), "{key}");
        assert_eq!(warnings, [""; 0]);
    }
}
