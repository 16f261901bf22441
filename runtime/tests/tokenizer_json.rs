//! Tokenizers from `tokenizer.json`, against the tokenizers library: what it made of many texts in Python, and what its crate
//! makes of any text.

#[allow(dead_code, reason = "GGUF files are for other tests")]
mod draft;

use std::sync::Arc;

use draft::golden;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use regex_automata::meta::Regex;
use runtime::tokenizer::{Detokenizer, Options, Settings, Tokenizer};
use serde_json::{Value, json};

const TRUSTED: Options = Options { add_special: false, parse_special: true };
const UNTRUSTED: Options = Options { add_special: false, parse_special: false };

/// What scripts/tokenizer-reference.py wrote.
fn reference() -> Value {
    serde_json::from_slice(&std::fs::read(golden("tokenizers.json")).unwrap()).unwrap()
}

fn from_json(document: &Value) -> Result<Tokenizer, String> {
    Tokenizer::from_json(&serde_json::to_vec(document).unwrap(), &Settings::default())
        .map_err(|error| error.to_string())
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The document of one of the recorded tokenizers.
fn document(name: &str) -> Value {
    reference()["tokenizers"][name]["tokenizer"].take()
}

#[test]
fn recorded_texts_have_the_reference_ids() {
    let reference = reference();
    let texts = reference["texts"].as_array().unwrap();
    let tokenizers = reference["tokenizers"].as_object().unwrap();
    assert!(texts.len() > 70 && tokenizers.len() >= 20);
    let mut wrong = Vec::new();
    for (name, record) in tokenizers {
        let tokenizer = from_json(&record["tokenizer"]).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (i, text) in texts.iter().enumerate() {
            let text = text.as_str().unwrap();
            let trusted = ids(&record["ids"][i]);
            let untrusted = record["untrusted"].get(i.to_string()).map_or(trusted.clone(), ids);
            let whole = [ids(&record["prefix"]), trusted.clone()].concat();
            for (options, expected) in [
                (TRUSTED, trusted),
                (UNTRUSTED, untrusted),
                (Options { add_special: true, parse_special: true }, whole),
            ] {
                let ids = tokenizer.encode_with(text, options);
                if ids != expected {
                    wrong.push(format!("{name} {text:?} {options:?}\n  {ids:?} instead of\n  {expected:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Any characters, and often those that decide where words end, or what is special.
fn any_text() -> impl Strategy<Value = String> {
    let deciding = [
        " ", "  ", "\n", "\r\n", "\t", "\u{a0}", "'s", "'", "1", "23", "²", "s", "T", "é", "e\u{301}", "字",
        "▁", "👩", "<|end|>", "<s>", "</s>", "<unk>", "<0x41>", "tool", "[MASK]", "the", "ing", ".", ",",
        "ſ",
    ];
    // Numbers newer than the tables of `regex-syntax`, the crate finds by those of the standard library.
    let known = Regex::new(r"\p{N}").unwrap();
    let number = move |c: char| known.is_match(c.encode_utf8(&mut [0; 4]).as_bytes());
    let any_char = any::<char>().prop_filter("a new number", move |&c| c.is_numeric() == number(c));
    let piece = prop_oneof![
        2 => any_char.prop_map(String::from),
        5 => prop::sample::select(deciding.map(String::from).to_vec()),
        2 => prop::char::range('!', '~').prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn check<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&strategy, test).unwrap();
}

#[test]
fn any_text_has_the_ids_of_the_crate() {
    for (name, record) in reference()["tokenizers"].as_object().unwrap() {
        let mut document = record["tokenizer"].clone();
        // The crate's tables for these are of an older Unicode.
        if name == "qwen2" || name == "metaspace" {
            document["normalizer"] = Value::Null;
        }
        let ours = from_json(&document).unwrap();
        let theirs: tokenizers::Tokenizer = serde_json::to_string(&document).unwrap().parse().unwrap();
        let mut untrusting = theirs.clone();
        untrusting.set_encode_special_tokens(true);
        check(1000, any_text(), |text| {
            let expected = theirs.encode_fast(text.as_str(), true).unwrap();
            prop_assert_eq!(ours.encode(&text), expected.get_ids(), "{} {:?}", name, text);
            let expected = untrusting.encode_fast(text.as_str(), false).unwrap();
            let ids = ours.encode_with(&text, UNTRUSTED);
            prop_assert_eq!(ids, expected.get_ids(), "{} untrusted {:?}", name, text);
            Ok(())
        });
    }
}

#[test]
fn every_character_is_punctuation_where_it_is_for_the_crate() {
    let mut document = document("split_invert");
    document["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Punctuation", "behavior": "Isolated"},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]});
    // "a" merges with any byte after it, unless a split is between.
    let vocab = document["model"]["vocab"].as_object().unwrap();
    let bytes: Vec<String> = vocab.keys().filter(|token| token.chars().count() == 1).cloned().collect();
    assert_eq!(bytes.len(), 256);
    let merged = bytes.iter().map(|byte| format!("a{byte}"));
    let tokens =
        document["added_tokens"].as_array().unwrap().iter().map(|token| token["content"].as_str().unwrap());
    let tokens: Vec<String> = tokens.map(String::from).chain(bytes.iter().cloned()).chain(merged).collect();
    document["model"]["vocab"] =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    document["model"]["merges"] = bytes.iter().map(|byte| json!(["a", byte])).collect();
    let ours = from_json(&document).unwrap();
    let theirs: tokenizers::Tokenizer = document.to_string().parse().unwrap();
    for c in '\0'..'\u{20000}' {
        let text = format!("a{c}");
        let expected = theirs.encode_fast(text.as_str(), false).unwrap();
        assert_eq!(ours.encode_with(&text, UNTRUSTED), expected.get_ids(), "{text:?}");
    }
}

#[test]
fn any_text_survives() {
    for name in ["gpt2", "llama3", "o200k", "digits", "deepseek", "gemma", "llama2"] {
        let tokenizer = Arc::new(from_json(&document(name)).unwrap());
        check(300, any_text(), |text| {
            // A space goes before every text; and U+2581 is a space for such vocabularies.
            let expected = match name {
                "llama2" if !text.is_empty() => format!(" {text}").replace('▁', " "),
                "gemma" => text.replace('▁', " "),
                _ => text.clone(),
            };
            let ids = tokenizer.encode_with(&text, UNTRUSTED);
            prop_assert_eq!(tokenizer.decode_string(&ids), &*expected, "{}", name);
            let mut stream = Detokenizer::new(tokenizer.clone());
            let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
            streamed += &stream.finish();
            prop_assert_eq!(streamed, expected);
            Ok(())
        });
    }
}

#[test]
fn a_megabyte_takes_no_time_for_ever() {
    for (name, record) in reference()["tokenizers"].as_object().unwrap() {
        let tokenizer = from_json(&record["tokenizer"]).unwrap();
        for unit in ["a", " ", "\n", "1", "th", "é", "字", "'", " a", "<|end|>", "<", "A", "Aa", "\u{301}"]
        {
            let text = unit.repeat((1 << 20) / unit.len());
            let start = std::time::Instant::now();
            let ids = tokenizer.encode(&text);
            assert!(start.elapsed().as_secs() < 60, "{name} {unit:?}");
            assert!(!ids.is_empty() || name == "split_removed" || name == "unknown");
        }
    }
}

#[test]
fn settings_decide_what_goes_around_and_what_ends() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, value: &Value| {
        std::fs::write(folder.path().join(file), serde_json::to_vec(value).unwrap()).unwrap();
    };
    let load = || Tokenizer::from_folder(folder.path());
    assert!(load().unwrap_err().to_string().contains("tokenizer.json"));
    write("tokenizer.json", &document("gpt2"));
    let alone = load().unwrap();
    let a = alone.encode("a");
    let end = alone.encode("<|end|>")[0];
    assert_eq!((a.len(), alone.ends()), (1, &[end][..]));
    let start = alone.encode("<|start|>")[0];

    write("generation_config.json", &json!({"eos_token_id": [start, end]}));
    write(
        "tokenizer_config.json",
        &json!({
            "add_bos_token": true, "add_eos_token": true, "bos_token": {"content": "<|start|>", "lstrip": false}, "eos_token": "<|end|>",
            "added_tokens_decoder": {"440": {"content": "<late>", "special": true}},
        }),
    );
    let told = load().unwrap();
    assert_eq!(told.encode("a"), [start, a[0], end]);
    assert_eq!(told.encode_with("a<late>", TRUSTED), [a[0], 440]);
    assert_eq!(told.ends(), [end.min(start), end.max(start)]);
    assert_eq!(told.decode_string(&[start, a[0], end, 440]), "a");

    for (file, value, words) in [
        ("config.json", json!({"eos_token_id": 4000}), &["eos_token_id", "4000"][..]),
        ("config.json", json!({"eos_token_id": "x"}), &["config.json", "eos_token_id"]),
        ("tokenizer_config.json", json!({"add_bos_token": true}), &["bos_token", "vocabulary"]),
        ("tokenizer_config.json", json!({"add_bos_token": 1}), &["tokenizer_config.json", "add_bos_token"]),
        ("tokenizer_config.json", json!([]), &[]),
    ] {
        let before = std::fs::read(folder.path().join(file)).ok();
        write(file, &value);
        match load() {
            Ok(_) => assert!(words.is_empty(), "{value}"),
            Err(error) => assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}"),
        }
        match before {
            Some(before) => std::fs::write(folder.path().join(file), before).unwrap(),
            None => std::fs::remove_file(folder.path().join(file)).unwrap(),
        }
    }
}

/// A document with a change.
fn changed(name: &str, pointer: &str, value: Value) -> Value {
    let mut document = document(name);
    match document.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            document.pointer_mut(parent).unwrap()[key] = value;
        }
    }
    document
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let regex = |expression: &str| json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false});
    let cases = [
        ("/model/type", json!("WordPiece"), &["model.type", "WordPiece", "BPE"][..]),
        ("/model/type", json!("Unigram"), &["model.type", "Unigram"]),
        ("/model/type", json!("WordLevel"), &["model.type", "WordLevel"]),
        ("/model/surprise", json!(1), &["surprise"]),
        ("/model/dropout", json!(0.5), &["model.dropout", "0.5"]),
        ("/model/end_of_word_suffix", json!("</w>"), &["model.end_of_word_suffix", "</w>"]),
        ("/model/continuing_subword_prefix", json!("##"), &["model.continuing_subword_prefix", "##"]),
        ("/model/unk_token", json!("nowhere"), &["model.unk_token", "nowhere"]),
        ("/model/merges/0", json!(["a", "nowhere"]), &["model.merges", "merge 0", "a nowhere"]),
        ("/model/merges/0", json!("a b c"), &["model.merges", "merge 0", "a b c"]),
        ("/model/vocab/a", json!(4_000_000_000_u32), &["model.vocab", "4000000000"]),
        ("/model/vocab/a", json!(9), &["model.vocab", "token 9"]),
        ("/model/vocab/a", json!(-1), &["-1"]),
        ("/added_tokens/0/id", json!(70), &["added_tokens", "token 70"]),
        ("/added_tokens/0/surprise", json!(true), &["surprise"]),
        ("/normalizer", json!({"type": "Lowercase"}), &["normalizer", "Lowercase"]),
        ("/normalizer", json!({"type": "NFC", "surprise": 1}), &["normalizer", "surprise"]),
        (
            "/normalizer",
            json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}),
            &["normalizer", " {2,}"],
        ),
        ("/normalizer", normalizers(vec![json!({"type": "NFC"}); 17]), &["normalizer", "more than 16 steps"]),
        ("/normalizer", normalizers(vec![replace("a", "aaa"); 6]), &["normalizer", "more than 256 times"]),
        (
            "/normalizer",
            normalizers(vec![json!({"type": "NFKC"}); 3]),
            &["normalizer", "more than 256 times"],
        ),
        ("/normalizer", json!({"type": "Prepend", "prepend": "a".repeat(256)}), &["more than 256 times"]),
        ("/pre_tokenizer", splits(17), &["pre_tokenizer", "more than 16 steps"]),
        ("/pre_tokenizer", json!({"type": "BertPreTokenizer"}), &["pre_tokenizer", "BertPreTokenizer"]),
        ("/pre_tokenizer", json!({"type": "ByteLevel", "surprise": 1}), &["pre_tokenizer", "surprise"]),
        ("/pre_tokenizer", regex(r"\d{1,3}(?=(?:\d{3})*\b)"), &["pre_tokenizer", "look-around"]),
        ("/pre_tokenizer", regex(r"a?+b"), &["pre_tokenizer", "a?+b"]),
        ("/pre_tokenizer", regex("(((a{1000}){1000}){1000})"), &["pre_tokenizer"]),
        ("/pre_tokenizer", json!(null), &["decoder"]),
        ("/pre_tokenizer", regex("[[:alpha:]]+"), &["pre_tokenizer", "[:"]),
        ("/pre_tokenizer", regex("[a-z--b]+"), &["pre_tokenizer", "--"]),
        (
            "/pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]}),
            &["pre_tokenizer", "ByteLevel"],
        ),
        (
            "/pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}]}),
            &["pre_tokenizer", "space"],
        ),
        ("/post_processor", json!({"type": "BertProcessing"}), &["post_processor", "BertProcessing"]),
        (
            "/post_processor",
            json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}], "special_tokens": {}}),
            &["post_processor", "x"],
        ),
        (
            "/post_processor",
            json!({"type": "TemplateProcessing", "single": [], "special_tokens": {}}),
            &["post_processor", "0 texts"],
        ),
        ("/post_processor", around(65), &["post_processor", "more than 64 tokens"]),
        (
            "/post_processor",
            json!({"type": "Sequence", "processors": [around(33), around(32)]}),
            &["post_processor", "more than 64 tokens"],
        ),
        ("/decoder", json!({"type": "WordPiece"}), &["decoder", "WordPiece"]),
        ("/decoder", json!({"type": "Word\n\u{1b}Piece"}), &["decoder", "Word\\n\\u{1b}Piece"]),
        ("/decoder", json!(null), &["decoder"]),
        ("/surprise", json!(1), &["surprise"]),
    ];
    for (pointer, value, words) in cases {
        let error = from_json(&changed("gpt2", pointer, value.clone()))
            .map(|_| ())
            .expect_err(&format!("{pointer} {value}: accepted"));
        assert!(
            words.iter().all(|word| error.contains(word)) && !error.contains('\n'),
            "{error}\nlacks one of {words:?}"
        );
    }
    for bytes in [&b""[..], b"{", b"[]", b"null", b"{\"model\":{\"type\":\"BPE\"}}", b"\xff"] {
        assert!(Tokenizer::from_json(bytes, &Settings::default()).is_err());
    }
    // A key that is there twice is not lost.
    let twice =
        serde_json::to_string(&document("gpt2")).unwrap().replacen("\"vocab\":{", "\"vocab\":{\"a\":0,", 1);
    let error =
        Tokenizer::from_json(twice.as_bytes(), &Settings::default()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("model.vocab"), "{error}");
}

#[test]
fn a_setting_that_is_there_twice_is_refused_by_name() {
    for (file, twice) in [
        ("tokenizer_config.json", r#"{"add_bos_token": true, "x": 1, "add_bos_token": false}"#),
        ("tokenizer_config.json", r#"{"bos_token": {"content": "a", "content": "b"}}"#),
        ("generation_config.json", r#"{"eos_token_id": 1, "eos_token_id": 2}"#),
        ("config.json", r#"{"eos_token_id": 1, "eos_token_id": 2}"#),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(file), twice).unwrap();
        let error = Settings::read(folder.path()).map(|_| ()).expect_err(twice).to_string();
        assert!(error.contains(file) && error.contains("occurs twice"), "{error}");
    }
}

#[test]
fn parts_may_be_as_large_as_the_bounds_say() {
    let spaces = normalizers([vec![replace("a", "bbbb"); 4], vec![replace("a", "b"); 12]].concat());
    for (pointer, value) in [
        ("/normalizer", spaces),
        ("/pre_tokenizer", splits(16)),
        ("/post_processor", around(64)),
        ("/post_processor", json!({"type": "Sequence", "processors": [around(32), around(32)]})),
    ] {
        let tokenizer = from_json(&changed("gpt2", pointer, value)).expect(pointer);
        let added = if pointer == "/post_processor" { 64 } else { 0 };
        let plain = Options { add_special: false, parse_special: false };
        assert_eq!(tokenizer.encode("abc").len(), tokenizer.encode_with("abc", plain).len() + added);
    }
}

fn normalizers(each: Vec<Value>) -> Value {
    json!({"type": "Sequence", "normalizers": each})
}

fn replace(from: &str, to: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": from}, "content": to})
}

/// So many splits, and then the alphabet of bytes.
fn splits(count: usize) -> Value {
    let mut steps = vec![json!({"type": "Digits", "individual_digits": false}); count];
    steps.push(json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}));
    json!({"type": "Sequence", "pretokenizers": steps})
}

/// A template with so many tokens before the text.
fn around(count: usize) -> Value {
    let mut single = vec![json!({"SpecialToken": {"id": "a", "type_id": 0}}); count];
    single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
    json!({"type": "TemplateProcessing", "single": single, "special_tokens": {"a": {"id": "a", "ids": [0], "tokens": ["a"]}}})
}

#[test]
fn settings_that_are_no_object_are_refused() {
    for file in ["tokenizer_config.json", "generation_config.json", "config.json"] {
        for bytes in ["[1]", "null", "\"a\"", "7"] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(file), bytes).unwrap();
            let error = Settings::read(folder.path()).map(|_| ()).expect_err(bytes).to_string();
            assert_eq!(error, format!("{file}: it is no object"));
        }
    }
}

#[test]
fn files_as_they_were_once_written_mean_the_same() {
    let new = document("llama2");
    let mut old = new.clone();
    for merge in old["model"]["merges"].as_array_mut().unwrap() {
        *merge = json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
    }
    old["model"].as_object_mut().unwrap().remove("type");
    let (new, old) = (from_json(&new).unwrap(), from_json(&old).unwrap());
    check(200, any_text(), |text| {
        prop_assert_eq!(new.encode(&text), old.encode(&text));
        Ok(())
    });
}
