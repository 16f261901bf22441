//! Files that something happened to: each is read, or refused in one line that says where. Nothing panics.

#[allow(dead_code, reason = "other tests use the rest of it")]
mod draft;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use draft::golden;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use runtime::chat_template::{Chat, ChatTemplate};
use runtime::estimate::{Wanted, estimate};
use runtime::gguf::Gguf;
use runtime::model::config::ModelConfig;
use runtime::numerics::Numerics;
use runtime::tokenizer::{Options, Settings, Tokenizer};
use serde_json::{Value, json};

/// Files of each kind.
const CASES: u32 = 1000;

/// What happens to bytes. Places are parts of the whole.
#[derive(Debug, Clone)]
enum Damage {
    Byte {
        at: f64,
        value: u8,
    },
    /// A number of 4 or 8 bytes.
    Number {
        at: f64,
        value: u64,
        wide: bool,
    },
    Cut {
        keep: f64,
    },
    Gone {
        at: f64,
        len: usize,
    },
    /// Some bytes once more at another place, over what is there or between.
    Again {
        from: f64,
        len: usize,
        to: f64,
        over: bool,
    },
}

fn damage() -> impl Strategy<Value = Damage> {
    let extremes = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 31),
        Just(1 << 63),
        Just(i64::MAX as u64),
        Just(u64::from(u32::MAX)),
        Just(1 << 31),
        Just(1 << 40),
        any::<u64>(),
        0..100u64,
    ];
    prop_oneof![
        4 => (0.0..1.0, any::<u8>()).prop_map(|(at, value)| Damage::Byte { at, value }),
        4 => (0.0..1.0, extremes, any::<bool>()).prop_map(|(at, value, wide)| Damage::Number { at, value, wide }),
        1 => (0.0..1.0).prop_map(|keep| Damage::Cut { keep }),
        1 => (0.0..1.0, 1..64usize).prop_map(|(at, len)| Damage::Gone { at, len }),
        2 => (0.0..1.0, 1..200usize, 0.0..1.0, any::<bool>())
            .prop_map(|(from, len, to, over)| Damage::Again { from, len, to, over }),
    ]
}

impl Damage {
    fn happen(&self, bytes: &mut Vec<u8>) {
        let place = |part: f64| (part * bytes.len() as f64) as usize;
        let end = |at: usize, len: usize| (at + len).min(bytes.len());
        match *self {
            _ if bytes.is_empty() => {}
            Damage::Byte { at, value } => {
                let at = place(at);
                bytes[at] = value;
            }
            Damage::Number { at, value, wide } => {
                let at = place(at);
                let end = end(at, if wide { 8 } else { 4 });
                bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            }
            Damage::Cut { keep } => bytes.truncate(place(keep)),
            Damage::Gone { at, len } => {
                let at = place(at);
                bytes.drain(at..end(at, len));
            }
            Damage::Again { from, len, to, over } => {
                let (from, to) = (place(from), place(to));
                let copy = bytes[from..end(from, len)].to_vec();
                let end = if over { end(to, copy.len()) } else { to };
                bytes.splice(to..end, copy);
            }
        }
    }
}

/// The models of the golden data.
fn models() -> Vec<PathBuf> {
    let files = fs::read_dir(golden("")).unwrap().map(|entry| entry.unwrap().path());
    let mut models: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "gguf")).collect();
    models.sort();
    assert!(models.len() >= 7);
    models
}

/// What a file says, all of which may be wrong, up to what would be loaded.
fn read(path: &Path) -> Result<(), String> {
    let gguf = Gguf::open(path).map_err(|error| error.to_string())?;
    let len = fs::metadata(path).unwrap().len() as usize;
    let mut bytes = 0;
    for tensor in gguf.tensors() {
        bytes += gguf.read(tensor, 0..tensor.bytes.len().min(64)).map(|_| tensor.bytes.len()).unwrap();
    }
    assert!(bytes <= len, "{bytes} bytes of tensors in {len}");
    ModelConfig::from_gguf(&gguf).map_err(|error| error.to_string())?;
    let wanted = Wanted { gpu: true, numerics: Numerics::F32, max_batch: Some(2), context: 64 };
    estimate(&gguf, wanted).map_err(|error| error.to_string())?;
    let tokenizer = Tokenizer::from_gguf(&gguf).map_err(|error| error.to_string())?;
    tokenizer.decode(&tokenizer.encode("then 1 <s>"));
    Ok(())
}

#[test]
fn a_damaged_model_is_read_or_refused_by_the_field() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let told = RefCell::new(BTreeSet::new());
    for model in models() {
        let whole = fs::read(&model).unwrap();
        let gguf = Gguf::open(&model).unwrap();
        let first = gguf.tensors().iter().map(|tensor| tensor.bytes.start).min().unwrap();
        let own = format!("{}.", gguf.str("general.architecture").unwrap());
        let (good, bad) = (Cell::new(0), Cell::new(0));
        let mut runner = TestRunner::new(ProptestConfig {
            cases: CASES,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        runner
            .run(&prop::collection::vec(damage(), 1..5), |damages| {
                let mut bytes = whole[..first].to_vec();
                damages.iter().for_each(|damage| damage.happen(&mut bytes));
                // What follows a header that is cut is missing, too; else it is there.
                if !damages.iter().any(|damage| matches!(damage, Damage::Cut { .. })) {
                    bytes.extend(&whole[first..]);
                }
                file.as_file().set_len(0).unwrap();
                file.as_file().write_all_at(&bytes, 0).unwrap();
                match read(file.path()) {
                    Ok(()) => good.set(good.get() + 1),
                    Err(error) => {
                        bad.set(bad.get() + 1);
                        let subjects =
                            ["metadata", "tensor", "the header", "GGUF", "tokenizer.ggml.", "architecture"];
                        let found = subjects.iter().find(|subject| error.contains(**subject));
                        prop_assert!(found.is_some() || error.contains(&own), "{error}");
                        prop_assert!(!error.contains('\n') && error.len() < 20_000, "{error}");
                        told.borrow_mut().extend(found.copied());
                    }
                }
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{}: {error}", model.display()));
        let (good, bad) = (good.get(), bad.get());
        assert!(good > 0 && bad > CASES / 4, "{}: {good} read, {bad} refused", model.display());
    }
    let told = told.into_inner();
    assert!(
        ["metadata", "tensor", "the header", "GGUF"].iter().all(|subject| told.contains(subject)),
        "{told:?}"
    );
}

#[test]
fn a_damaged_chat_template_gives_a_prompt_or_an_error() {
    let all: Value = serde_json::from_slice(&fs::read(golden("chat-templates.json")).unwrap()).unwrap();
    let mut sources = Vec::new();
    templates(&all, &mut sources);
    assert!(sources.len() >= 3, "{} templates", sources.len());
    let messages = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "é\n"}, {"role": "user", "content": ""}]);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let cases = (0..sources.len(), prop::collection::vec(damage(), 1..4));
    let rendered = Cell::new(0);
    runner
        .run(&cases, |(which, damages)| {
            let mut source = sources[which].clone().into_bytes();
            damages.iter().for_each(|damage| damage.happen(&mut source));
            let template =
                ChatTemplate::new(&String::from_utf8_lossy(&source), vec![("bos_token", "<s>".to_owned())]);
            let chat = Chat { messages: &messages, tools: None, add_generation_prompt: true };
            match template.render_at(SystemTime::UNIX_EPOCH, chat) {
                Ok(prompt) => {
                    rendered.set(rendered.get() + 1);
                    prop_assert!(prompt.len() <= 1 << 20);
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
            Ok(())
        })
        .unwrap();
    let rendered = rendered.get();
    assert!(rendered > 0 && rendered < CASES, "{rendered} rendered");
}

/// Every text that looks like a template.
fn templates(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.contains("{%") && text.contains("messages") => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| templates(item, found)),
        Value::Object(fields) => fields.values().for_each(|item| templates(item, found)),
        _ => {}
    }
}

/// What happens to a JSON document at a place: a way from child to child, each a part of all children.
#[derive(Debug, Clone)]
enum Change {
    /// Another value.
    Other(Vec<f64>, Value),
    /// The value of another place.
    Copy(Vec<f64>, Vec<f64>),
    /// One child less.
    Gone(Vec<f64>, f64),
    /// A field has another name.
    Named(Vec<f64>, f64, &'static str),
}

fn change() -> impl Strategy<Value = Change> {
    let way = || prop::collection::vec(0.0..1.0, 0..6);
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(257),
        json!(u32::MAX),
        json!(u64::MAX),
        json!(0.5),
        json!(""),
        json!("a"),
        json!(" \n"),
        json!("\u{2581}"),
        json!("<0x41>"),
        json!("(a|b?)*[^\\s]{3,}"),
        json!("\u{e9}".repeat(3000)),
        json!([]),
        json!({}),
        json!([[["a", "b"], 1], {"a": {"type": "NFC"}}]),
    ];
    let names = ["type", "a", "", "surprise", "content", "id", "merges", "pattern"];
    prop_oneof![
        4 => (way(), prop::sample::select(values.to_vec())).prop_map(|(way, value)| Change::Other(way, value)),
        2 => (way(), way()).prop_map(|(from, to)| Change::Copy(from, to)),
        2 => (way(), 0.0..1.0).prop_map(|(way, child)| Change::Gone(way, child)),
        1 => (way(), 0.0..1.0, prop::sample::select(names.to_vec()))
            .prop_map(|(way, child, name)| Change::Named(way, child, name)),
    ]
}

/// The value at a place, or the last one on the way there.
fn place<'a>(value: &'a mut Value, way: &[f64]) -> &'a mut Value {
    let Some((part, rest)) = way.split_first() else { return value };
    let at = (part * children(value) as f64) as usize;
    if at == children(value) {
        return value;
    }
    match value {
        Value::Array(items) => place(&mut items[at], rest),
        Value::Object(fields) => place(fields.values_mut().nth(at).unwrap(), rest),
        leaf => leaf,
    }
}

fn children(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

impl Change {
    fn happen(&self, document: &mut Value) {
        let key = |fields: &serde_json::Map<String, Value>, child: f64| {
            fields.keys().nth((child * fields.len() as f64) as usize).cloned()
        };
        match self {
            Self::Other(way, value) => *place(document, way) = value.clone(),
            Self::Copy(from, to) => {
                let copy = place(document, from).clone();
                *place(document, to) = copy;
            }
            Self::Gone(way, child) => match place(document, way) {
                Value::Array(items) if !items.is_empty() => {
                    items.remove((child * items.len() as f64) as usize);
                }
                Value::Object(fields) => {
                    key(fields, *child).and_then(|key| fields.remove(&key));
                }
                _ => {}
            },
            Self::Named(way, child, name) => {
                if let Value::Object(fields) = place(document, way)
                    && let Some(value) = key(fields, *child).and_then(|key| fields.remove(&key))
                {
                    fields.insert((*name).to_owned(), value);
                }
            }
        }
    }
}

/// A tokenizer.json that may be wrong anywhere: built and used, or refused by the field.
fn tokenize(bytes: &[u8]) -> Result<(), String> {
    let tokenizer = Tokenizer::from_json(bytes, &Settings::default()).map_err(|error| error.to_string())?;
    for parse_special in [false, true] {
        let options = Options { add_special: true, parse_special };
        let ids = tokenizer.encode_with("then 1 <s>\u{e9}  \n<|end|>\u{2581}<0x41>", options);
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "{ids:?}");
        tokenizer.decode_string(&ids);
    }
    assert!(tokenizer.ends().iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    Ok(())
}

#[test]
fn a_damaged_tokenizer_json_is_built_or_refused_by_the_field() {
    let all: Value = serde_json::from_slice(&fs::read(golden("tokenizers.json")).unwrap()).unwrap();
    let documents: Vec<Value> =
        all["tokenizers"].as_object().unwrap().values().map(|record| record["tokenizer"].clone()).collect();
    assert!(documents.len() >= 20);
    const FIELDS: [&str; 7] = [
        "tokenizer.json",
        "model.",
        "added_tokens",
        "normalizer",
        "pre_tokenizer",
        "post_processor",
        "decoder",
    ];
    let (good, bad, told) = (Cell::new(0), Cell::new(0), RefCell::new(BTreeSet::<&str>::new()));
    let check = |bytes: &[u8]| {
        let Err(error) = tokenize(bytes) else {
            good.set(good.get() + 1);
            return Ok(());
        };
        bad.set(bad.get() + 1);
        let found = FIELDS.iter().filter(|field| error.contains(**field));
        told.borrow_mut().extend(found.clone());
        prop_assert!(found.count() > 0, "{error}");
        prop_assert!(!error.contains('\n') && error.len() < 20_000, "{error}");
        Ok(())
    };
    let runner = || {
        TestRunner::new(ProptestConfig {
            cases: CASES,
            failure_persistence: None,
            ..ProptestConfig::default()
        })
    };
    let which = 0..documents.len();
    runner()
        .run(&(which.clone(), prop::collection::vec(change(), 1..4)), |(which, changes)| {
            let mut document = documents[which].clone();
            changes.iter().for_each(|change| change.happen(&mut document));
            check(&serde_json::to_vec(&document).unwrap())
        })
        .unwrap();
    assert!(good.get() > CASES / 20 && bad.get() > CASES / 4, "{good:?} built, {bad:?} refused");
    runner()
        .run(&(which, prop::collection::vec(damage(), 1..4)), |(which, damages)| {
            let mut bytes = serde_json::to_vec(&documents[which]).unwrap();
            damages.iter().for_each(|damage| damage.happen(&mut bytes));
            check(&bytes)
        })
        .unwrap();
    let told = told.into_inner();
    assert!(FIELDS.iter().all(|field| told.contains(field)), "{told:?}");
}
