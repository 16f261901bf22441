//! The tokenizer against references and properties. Tests whose files are not on this machine are reported as ignored.

mod cached;
#[allow(dead_code, reason = "tensors are for the tests of the reader")]
mod draft;
mod sentencepiece;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cached::{cached, trial};
use draft::{Draft, golden, string};
use libtest_mimic::{Arguments, Failed, Trial};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use runtime::gguf::Gguf;
use runtime::tokenizer::{Detokenizer, Options, Tokenizer, TokenizerError};
use serde_json::Value;

/// The vocabularies of the vectors that are supported: all but bert-bge, which is WordPiece.
const FAMILIES: [&str; 14] = [
    "gpt-2",
    "llama-bpe",
    "qwen2",
    "qwen35",
    "refact",
    "starcoder",
    "command-r",
    "mpt",
    "falcon",
    "deepseek-llm",
    "deepseek-coder",
    "llama-spm",
    "phi-3",
    "gemma-4",
];

const PLAIN: Options = Options { add_special: false, parse_special: false };

fn main() {
    let mut trials = vec![
        Trial::test("merging_equals_the_naive_algorithm", merging_equals_the_naive_algorithm),
        Trial::test("any_text_survives_encoding_and_decoding", || round_trip(&fixture())),
        Trial::test("streamed_pieces_join_to_the_whole_text", || streaming(fixture())),
        Trial::test(
            "a_million_letters_without_a_space_are_encoded",
            a_million_letters_without_a_space_are_encoded,
        ),
        Trial::test(
            "control_tokens_are_recognised_only_where_asked",
            control_tokens_are_recognised_only_where_asked,
        ),
        Trial::test("bos_and_eos_are_added_as_the_metadata_say", bos_and_eos_are_added_as_the_metadata_say),
        Trial::test("the_longest_special_token_wins", the_longest_special_token_wins),
        Trial::test("a_whole_word_in_the_vocabulary_needs_no_merges_in_llama_bpe", whole_words),
        Trial::test("a_pair_listed_twice_keeps_its_first_rank", a_pair_listed_twice_keeps_its_first_rank),
        Trial::test("end_tokens_come_from_ids_and_texts", end_tokens_come_from_ids_and_texts),
        Trial::test("bytes_that_cannot_become_a_character_are_replaced_at_once", invalid_bytes),
        Trial::test(
            "sentencepiece_merges_as_the_naive_algorithm",
            sentencepiece::merges_as_the_naive_algorithm,
        ),
        Trial::test("sentencepiece_text_survives_behind_a_space", || {
            sentencepiece::survives_behind_a_space(
                sentencepiece::vocabulary().open().as_ref().map(Tokenizer::from_gguf).unwrap()?,
            )
        }),
        Trial::test("sentencepiece_keys_decide", sentencepiece::keys_decide),
        Trial::test(
            "a_text_that_spells_a_control_token_or_a_byte_does_not_become_it",
            sentencepiece::spelt_out,
        ),
        Trial::test("tokens_of_phi3_take_the_white_space_behind_them", sentencepiece::phi3_takes_white_space),
        Trial::test("damaged_metadata_are_refused_by_name", damaged_metadata_are_refused_by_name),
    ];
    let smollm2 = cached("WORKER_ORCD_SMOLLM2", "models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let with_smollm2 =
        |name: &str, test: fn(&Path) -> Result<(), Failed>| trial(name, "model", smollm2.clone(), test);
    trials.extend([
        with_smollm2("smollm2_prompts_have_the_reference_ids", smollm2_prompts_have_the_reference_ids),
        with_smollm2("smollm2_any_text_survives", |path| round_trip(&load(path)?)),
        with_smollm2("smollm2_streamed_pieces_join_to_the_whole_text", |path| streaming(load(path)?)),
    ]);

    let vectors = cached("WORKER_ORCD_TOKENIZER_VECTORS", "tokenizer-vectors");
    let with_vectors = |name: String, family: &str, test: fn(&Path) -> Result<(), Failed>| {
        let model = vectors.as_ref().map(|folder| folder.join(format!("ggml-vocab-{family}.gguf")));
        trial(&name, "vectors", model.filter(|path| path.exists()), test)
    };
    for family in FAMILIES {
        let name = format!("vectors_of_{family}_have_the_reference_ids");
        trials.push(with_vectors(name, family, vectors_have_the_reference_ids));
    }
    for family in ["llama-spm", "phi-3"] {
        let name = format!("{family}_any_text_survives_behind_a_space");
        trials.push(with_vectors(name, family, |path| sentencepiece::survives_behind_a_space(load(path)?)));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn load(path: &Path) -> Result<Tokenizer, Failed> {
    Ok(Tokenizer::from_gguf(&Gguf::open(path)?)?)
}

/// The 320 tokens of the tiny models: all bytes, a few merges, no control token that text could spell by chance.
fn fixture() -> Tokenizer {
    load(&golden("llama-f32.gguf")).unwrap_or_else(|error| panic!("{error:?}"))
}

fn check<S: Strategy>(
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> Result<(), Failed> {
    let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&strategy, test).map_err(|error| error.to_string().into())
}

/// Any characters, and often those that decide where words end, or a control token's name.
fn any_text() -> impl Strategy<Value = String> {
    let deciding =
        [" ", "\n", "\r", "\t", "\u{a0}", "'", "1", "²", "s", "T", "é", "字", "👩", "<|im_start|>", "<s>"];
    let piece = prop_oneof![
        3 => any::<char>().prop_map(String::from),
        2 => prop::sample::select(deciding.map(String::from).to_vec()),
        2 => prop::char::range('!', '~').prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

fn round_trip(tokenizer: &Tokenizer) -> Result<(), Failed> {
    // Some vocabularies lack the tokens of a few rare bytes; those are left out.
    let pieces = (0..tokenizer.vocab_size() as u32).filter_map(|id| tokenizer.piece(id));
    let present: Vec<u8> = pieces.filter(|piece| piece.len() == 1).map(|piece| piece[0]).collect();
    assert!(present.len() > 230);
    check(any_text(), |text| {
        let expected: Vec<u8> = text.bytes().filter(|byte| present.contains(byte)).collect();
        prop_assert_eq!(&tokenizer.decode(&tokenizer.encode_with(&text, PLAIN)), &expected);
        // With control tokens recognised, their names are what is left out of the decoded text.
        let pieces: Vec<&[u8]> =
            tokenizer.encode(&text).into_iter().filter_map(|id| tokenizer.piece(id)).collect();
        prop_assert_eq!(pieces.concat(), expected);
        Ok(())
    })
}

fn streaming(tokenizer: Tokenizer) -> Result<(), Failed> {
    let tokenizer = Arc::new(tokenizer);
    let ids = prop::collection::vec(0..tokenizer.vocab_size() as u32 + 2, 0..60);
    check(ids, |ids| {
        let mut stream = Detokenizer::new(tokenizer.clone());
        let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
        text += &stream.finish();
        prop_assert_eq!(text, tokenizer.decode_string(&ids));
        Ok(())
    })
}

/// Merges the pair of the lowest rank, leftmost first, until none is left.
fn merging_equals_the_naive_algorithm() -> Result<(), Failed> {
    let gguf = Gguf::open(&golden("llama-f32.gguf"))?;
    let tokens: Vec<&str> = gguf.strings("tokenizer.ggml.tokens")?.collect();
    let merges: Vec<&str> = gguf.strings("tokenizer.ggml.merges")?.collect();
    let tokenizer = Tokenizer::from_gguf(&gguf)?;
    check("[aehinorst]{1,40}", |word| {
        let mut parts: Vec<String> = word.chars().map(String::from).collect();
        while let Some((_, left)) = (1..parts.len())
            .filter_map(|i| {
                Some((merges.iter().position(|m| **m == format!("{} {}", parts[i - 1], parts[i]))?, i - 1))
            })
            .min()
        {
            let right = parts.remove(left + 1);
            parts[left] += &right;
        }
        let ids: Vec<u32> =
            parts.iter().map(|part| tokens.iter().position(|token| token == part).unwrap() as u32).collect();
        prop_assert_eq!(tokenizer.encode(&word), ids);
        Ok(())
    })
}

/// A quadratic algorithm would take hours.
fn a_million_letters_without_a_space_are_encoded() -> Result<(), Failed> {
    let tokenizer = fixture();
    let text: String = "thereinanother".chars().cycle().take(1_000_000).collect();
    assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text.into_bytes());
    let space = " ".repeat(1_000_000);
    assert_eq!(tokenizer.decode(&tokenizer.encode(&space)), space.into_bytes());
    Ok(())
}

/// A vocabulary of tokens with their types, and merges, under a pre-tokenizer.
fn vocabulary(pre: &str, tokens: &[(&str, i32)], merges: &[&str]) -> Draft {
    let texts: Vec<Vec<u8>> = tokens.iter().map(|(text, _)| string(text)).collect();
    let types: Vec<Vec<u8>> = tokens.iter().map(|(_, ty)| ty.to_le_bytes().to_vec()).collect();
    let merges: Vec<Vec<u8>> = merges.iter().map(|merge| string(merge)).collect();
    Draft::default()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .array("tokenizer.ggml.tokens", 8, &texts)
        .array("tokenizer.ggml.token_type", 5, &types)
        .array("tokenizer.ggml.merges", 8, &merges)
}

fn build(draft: &Draft) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_gguf(&draft.open().unwrap_or_else(|error| panic!("{error}")))
}

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

fn control_tokens_are_recognised_only_where_asked() -> Result<(), Failed> {
    let tokens = [("a", NORMAL), ("<", NORMAL), (">", NORMAL), ("<a>", CONTROL), ("aa", USER_DEFINED)];
    let tokenizer = build(&vocabulary("gpt-2", &tokens, &[]))?;
    assert_eq!(tokenizer.encode("a<a>aa"), [0, 3, 4]);
    assert_eq!(tokenizer.encode_with("a<a>aa", PLAIN), [0, 1, 0, 2, 4]);
    assert_eq!(tokenizer.decode_string(&[0, 3, 4, 99]), "aaa");
    assert_eq!((tokenizer.piece(3), tokenizer.piece(99)), (Some(&b"<a>"[..]), None));
    Ok(())
}

fn bos_and_eos_are_added_as_the_metadata_say() -> Result<(), Failed> {
    let tokens = [("a", NORMAL), ("<s>", CONTROL), ("</s>", CONTROL)];
    let ids = |pre| {
        let draft = vocabulary(pre, &tokens, &[]).u32("tokenizer.ggml.bos_token_id", 1);
        draft.u32("tokenizer.ggml.eos_token_id", 2)
    };
    let add = |draft: Draft, which: &str, value| {
        draft.key(&format!("tokenizer.ggml.add_{which}_token"), 7, [value])
    };
    assert_eq!(build(&ids("gpt-2"))?.encode("a"), [0]);
    assert_eq!(build(&add(ids("gpt-2"), "bos", 1))?.encode("a"), [1, 0]);
    assert_eq!(build(&add(add(ids("gpt-2"), "bos", 1), "eos", 1))?.encode("a"), [1, 0, 2]);
    assert_eq!(build(&add(ids("gpt-2"), "bos", 1))?.encode_with("a", PLAIN), [0]);
    // Files of this family may leave the key out and mean it.
    assert_eq!(build(&ids("llama-bpe"))?.encode("a"), [1, 0]);
    assert_eq!(build(&add(ids("llama-bpe"), "bos", 0))?.encode("a"), [0]);
    Ok(())
}

fn the_longest_special_token_wins() -> Result<(), Failed> {
    let tokens = [
        ("x", NORMAL),
        ("  ", USER_DEFINED),
        ("    ", USER_DEFINED),
        ("<|a|>", CONTROL),
        ("<|a|>>", CONTROL),
    ];
    let tokenizer = build(&vocabulary("gpt-2", &tokens, &[]))?;
    assert_eq!(tokenizer.encode("x      x<|a|>><|a|>"), [0, 2, 1, 0, 4, 3]);
    Ok(())
}

fn whole_words() -> Result<(), Failed> {
    let tokens = [("a", NORMAL), ("b", NORMAL), ("c", NORMAL), ("bc", NORMAL), ("abc", NORMAL)];
    let bos = |pre| vocabulary(pre, &tokens, &["b c"]).u32("tokenizer.ggml.bos_token_id", 0);
    assert_eq!(build(&bos("llama-bpe"))?.encode_with("abc", PLAIN), [4]);
    assert_eq!(build(&bos("gpt-2"))?.encode_with("abc", PLAIN), [0, 3]);
    Ok(())
}

fn a_pair_listed_twice_keeps_its_first_rank() -> Result<(), Failed> {
    let tokens = [("a", NORMAL), ("b", NORMAL), ("c", NORMAL), ("ab", NORMAL), ("bc", NORMAL)];
    let tokenizer = build(&vocabulary("gpt-2", &tokens, &["b c", "a b", "b c"]))?;
    assert_eq!(tokenizer.encode("abc"), [0, 4]);
    Ok(())
}

fn end_tokens_come_from_ids_and_texts() -> Result<(), Failed> {
    let tokens = [
        ("a", NORMAL),
        ("stop", CONTROL),
        ("<|im_end|>", NORMAL),
        ("<|im_start|>", CONTROL),
        ("<reponame>", CONTROL),
    ];
    let draft = vocabulary("qwen2", &tokens, &[]).u32("tokenizer.ggml.eos_token_id", 1);
    let tokenizer = build(&draft)?;
    assert_eq!([0, 1, 2, 3, 4, 5].map(|id| tokenizer.is_end(id)), [false, true, true, false, true, false]);
    // What ends a completion is no text of it, whatever type the file gives it.
    assert_eq!(tokenizer.decode_string(&[0, 2]), "a");
    Ok(())
}

fn invalid_bytes() -> Result<(), Failed> {
    let tokenizer = Arc::new(fixture());
    let byte = |byte: u8| (0..256).find(|&id| tokenizer.piece(id) == Some(&[byte])).ok_or("no such byte");
    let mut stream = Detokenizer::new(tokenizer.clone());
    let mut pieces = Vec::new();
    for next in [0xf0, 0x9f, 0x91, 0xa9, 0xe2, 0x82, b'x', 0xff, 0xc3] {
        pieces.push(stream.push(byte(next)?));
    }
    assert_eq!(pieces, ["", "", "", "👩", "", "", "\u{fffd}x", "\u{fffd}", ""]);
    assert_eq!(stream.finish(), "\u{fffd}");
    Ok(())
}

fn damaged_metadata_are_refused_by_name() -> Result<(), Failed> {
    let tokens = [("a", NORMAL), ("b", NORMAL)];
    let good = || vocabulary("gpt-2", &tokens, &[]);
    let texts = tokens.map(|(text, _)| string(text));
    let unscored = || {
        let draft = Draft::default().text("tokenizer.ggml.model", "llama");
        draft.array("tokenizer.ggml.tokens", 8, &texts).u32("tokenizer.ggml.bos_token_id", 0)
    };
    let cases = [
        (Draft::default(), &["tokenizer.ggml.model"][..]),
        (Draft::default().text("tokenizer.ggml.model", "bert"), &["tokenizer.ggml.model", "\"bert\""]),
        (Draft::default().text("tokenizer.ggml.model", "t5"), &["tokenizer.ggml.model", "\"t5\""]),
        (vocabulary("poro-chat", &tokens, &[]), &["tokenizer.ggml.pre", "\"poro-chat\"", "qwen2"]),
        (
            vocabulary("gpt-2", &[("a", NORMAL), ("a", NORMAL)], &[]),
            &["tokenizer.ggml.tokens", "0 and 1", "\"a\""],
        ),
        (vocabulary("gpt-2", &[("a", 7)], &[]), &["tokenizer.ggml.token_type", "type 7 of token 0"]),
        (vocabulary("gpt-2", &tokens, &["ab"]), &["tokenizer.ggml.merges", "merge 0", "\"ab\"", "pair"]),
        (
            vocabulary("gpt-2", &tokens, &["a b"]),
            &["tokenizer.ggml.merges", "\"a b\"", "not in the vocabulary"],
        ),
        (
            good().u32("tokenizer.ggml.bos_token_id", 2).key("tokenizer.ggml.add_bos_token", 7, [1]),
            &["tokenizer.ggml.bos_token_id", "token 2", "vocabulary of 2"],
        ),
        (
            sentencepiece::vocabulary().key("tokenizer.ggml.remove_extra_whitespaces", 7, [1]),
            &["remove_extra_whitespaces"],
        ),
        (unscored(), &["tokenizer.ggml.scores"]),
        (
            unscored().array("tokenizer.ggml.scores", 6, &[vec![0; 4]]),
            &["tokenizer.ggml.scores", "1 scores for 2 tokens"],
        ),
        (
            unscored().array("tokenizer.ggml.scores", 6, &[vec![0; 4], f32::NAN.to_le_bytes().to_vec()]),
            &["tokenizer.ggml.scores", "token 1"],
        ),
        (
            unscored().array("tokenizer.ggml.scores", 6, &[vec![0; 4], vec![0; 4]]),
            &["tokenizer.ggml.unknown_token_id", "bytes"],
        ),
        (good().key("tokenizer.ggml.add_bos_token", 7, [1]), &["tokenizer.ggml.bos_token_id"]),
        (good().text("tokenizer.ggml.eos_token_id", "1"), &["tokenizer.ggml.eos_token_id", "string"]),
    ];
    for (draft, words) in cases {
        let error = build(&draft).map(|_| ()).expect_err(&format!("{words:?}: accepted")).to_string();
        assert!(
            words.iter().all(|word| error.contains(word)) && !error.contains('\n'),
            "{error}\nlacks one of {words:?}"
        );
    }
    Ok(())
}

/// Greedy completions were computed elsewhere, from ids that were encoded elsewhere.
fn smollm2_prompts_have_the_reference_ids(path: &Path) -> Result<(), Failed> {
    let tokenizer = load(path)?;
    assert_eq!((tokenizer.kind(), tokenizer.vocab_size()), ("gpt2/smollm", 49152));
    assert_eq!([0, 1, 2, 3].map(|id| tokenizer.is_end(id)), [true, false, true, false]);
    let golden: Value = serde_json::from_slice(&std::fs::read(golden("smollm2-135m.json"))?)?;
    let prompts = golden["prompts"].as_array().ok_or("no prompts")?;
    assert_eq!(prompts.len(), 4);
    for prompt in prompts {
        let ids = |field: &str| serde_json::from_value::<Vec<u32>>(prompt[field].clone());
        let text = prompt["text"].as_str().ok_or("no text")?;
        assert_eq!(tokenizer.encode(text), ids("ids")?, "{text:?}");
        // The reference writes control tokens out.
        let pieces =
            ids("greedy")?.into_iter().filter_map(|id| tokenizer.piece(id)).collect::<Vec<_>>().concat();
        assert_eq!(Some(str::from_utf8(&pieces)?), prompt["greedy_text"].as_str());
    }
    Ok(())
}

/// llama.cpp's own test vectors: texts in `.inp`, ids of one text a line in `.out`.
fn vectors_have_the_reference_ids(model: &Path) -> Result<(), Failed> {
    let tokenizer = load(model)?;
    let beside = |extension: &str| -> Result<String, Failed> {
        Ok(std::fs::read_to_string(PathBuf::from(format!("{}.{extension}", model.display())))?)
    };
    let (inputs, outputs) = (beside("inp")?, beside("out")?);
    const SEPARATOR: &str = "\n__ggml_vocab_test__\n";
    let texts: Vec<&str> = inputs.strip_suffix(SEPARATOR).unwrap_or(&inputs).split(SEPARATOR).collect();
    let lines: Vec<&str> = outputs.lines().collect();
    assert!(texts.len() > 30 && texts.len() == lines.len(), "{} texts, {} lines", texts.len(), lines.len());
    let mut wrong = String::new();
    for (text, line) in texts.iter().zip(lines) {
        let expected: Vec<u32> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let ids = tokenizer.encode_with(text, PLAIN);
        if ids != expected {
            writeln!(wrong, "{text:?}\n  {ids:?} instead of\n  {expected:?}")?;
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.into()) }
}
