//! The tokenizer against references and properties. Tests whose files are not on this machine are reported as ignored.

mod cached;
#[allow(dead_code, reason = "tensors are for the tests of the reader")]
mod draft;

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
            sentencepiece_merges_as_the_naive_algorithm,
        ),
        Trial::test("sentencepiece_text_survives_behind_a_space", || {
            survives_behind_a_space(sentencepiece().open().as_ref().map(Tokenizer::from_gguf).unwrap()?)
        }),
        Trial::test("sentencepiece_keys_decide", sentencepiece_keys_decide),
        Trial::test("a_text_that_spells_a_control_token_or_a_byte_does_not_become_it", spelt_out),
        Trial::test("tokens_of_phi3_take_the_white_space_behind_them", phi3_takes_white_space),
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
        trials.push(with_vectors(name, family, |path| survives_behind_a_space(load(path)?)));
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

/// A SentencePiece vocabulary: `<unk>`, `<s>`, `</s>`, all bytes, some characters, and pieces with their scores.
const PIECES: [(&str, f32); 24] = [
    ("\u{2581}", -20.0),
    ("a", -21.0),
    ("b", -22.0),
    ("c", -23.0),
    ("d", -24.0),
    ("é", -25.0),
    ("ab", -1.0),
    ("bc", -1.0),
    ("cd", -2.0),
    ("abc", -3.0),
    ("bcd", -0.5),
    ("aa", -4.0),
    ("aaa", -4.0),
    ("aaaa", -6.0),
    ("\u{2581}a", -5.0),
    ("\u{2581}ab", -5.0),
    ("\u{2581}\u{2581}", -7.0),
    ("da", 0.0),
    ("dab", -0.0),
    ("éa", -2.5),
    ("bé", -2.5),
    ("<s", -8.0),
    ("<", -30.0),
    (">", -31.0),
];

fn sentencepiece() -> Draft {
    let special =
        [("<unk>", 2), ("<s>", CONTROL), ("</s>", CONTROL)].map(|(text, ty)| (text.to_owned(), ty, 0.0));
    let bytes = (0..=255).map(|byte| (format!("<0x{byte:02X}>"), BYTE, 0.0));
    let pieces = PIECES.map(|(text, score)| (text.to_owned(), NORMAL, score));
    let tokens: Vec<(String, i32, f32)> = special.into_iter().chain(bytes).chain(pieces).collect();
    Draft::default()
        .text("tokenizer.ggml.model", "llama")
        .text("tokenizer.ggml.pre", "default")
        .array("tokenizer.ggml.tokens", 8, &tokens.iter().map(|(text, ..)| string(text)).collect::<Vec<_>>())
        .array(
            "tokenizer.ggml.token_type",
            5,
            &tokens.iter().map(|(_, ty, _)| ty.to_le_bytes().to_vec()).collect::<Vec<_>>(),
        )
        .array(
            "tokenizer.ggml.scores",
            6,
            &tokens.iter().map(|(.., score)| score.to_le_bytes().to_vec()).collect::<Vec<_>>(),
        )
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .u32("tokenizer.ggml.unknown_token_id", 0)
}

/// The first id of a piece.
const FIRST_PIECE: u32 = 3 + 256;

/// Merges the two neighbours whose text has the highest score, leftmost first, until no two are a piece.
fn sentencepiece_merges_as_the_naive_algorithm() -> Result<(), Failed> {
    let tokenizer = build(&sentencepiece())?;
    let piece = |text: &str| PIECES.iter().position(|(piece, _)| *piece == text);
    check("[abcdé< >x字]{0,40}", |text| {
        let normalized = format!("\u{2581}{}", text.replace(' ', "\u{2581}"));
        let mut parts: Vec<String> = normalized.chars().map(String::from).collect();
        if text.is_empty() {
            parts.clear();
        }
        loop {
            let mut best: Option<(f32, usize)> = None;
            for left in 1..parts.len() {
                let joined = format!("{}{}", parts[left - 1], parts[left]);
                if let Some(found) = piece(&joined)
                    && best.is_none_or(|(score, _)| PIECES[found].1 > score)
                {
                    best = Some((PIECES[found].1, left - 1));
                }
            }
            let Some((_, left)) = best else { break };
            let right = parts.remove(left + 1);
            parts[left] += &right;
        }
        let ids = parts.iter().flat_map(|part| match piece(part) {
            Some(piece) => vec![FIRST_PIECE + piece as u32],
            None => part.bytes().map(|byte| 3 + u32::from(byte)).collect(),
        });
        prop_assert_eq!(tokenizer.encode_with(&text, PLAIN), ids.collect::<Vec<u32>>());
        Ok(())
    })
}

/// Such a vocabulary has one sign for a space and for U+2581, and a space goes before every text.
fn survives_behind_a_space(tokenizer: Tokenizer) -> Result<(), Failed> {
    let tokenizer = Arc::new(tokenizer);
    check(any_text(), |text| {
        let text = text.replace('\u{2581}', "");
        let expected = if text.is_empty() { String::new() } else { format!(" {text}") };
        let ids = tokenizer.encode_with(&text, PLAIN);
        prop_assert_eq!(tokenizer.decode_string(&ids), &*expected);
        let mut stream = Detokenizer::new(tokenizer.clone());
        let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
        streamed += &stream.finish();
        prop_assert_eq!(streamed, expected);
        Ok(())
    })?;
    for unit in ["a", " ", "é", "字", "ab", " a", "<"] {
        let text = unit.repeat((1 << 20) / unit.len());
        let ids = tokenizer.encode_with(&text, PLAIN);
        assert_eq!(tokenizer.decode_string(&ids), format!(" {text}"), "{unit:?}");
    }
    Ok(())
}

fn sentencepiece_keys_decide() -> Result<(), Failed> {
    let [space, a, space_a] = [0, 1, 14].map(|piece| FIRST_PIECE + piece);
    let flag = |key: &str, value| sentencepiece().key(&format!("tokenizer.ggml.{key}"), 7, [value]);
    let tokenizer = build(&sentencepiece())?;
    assert_eq!(tokenizer.kind(), "llama");
    assert_eq!(tokenizer.encode("a"), [1, space_a]);
    assert_eq!(tokenizer.encode(""), [1]);
    // A space goes before the text behind a special token, too.
    assert_eq!(tokenizer.encode("a<s>a"), [1, space_a, 1, space_a]);
    assert_eq!(tokenizer.encode("\n"), [1, space, 3 + 10]);
    assert_eq!(build(&flag("add_space_prefix", 0))?.encode("a<s>a a"), [1, a, 1, a, space_a]);
    assert_eq!(build(&flag("add_bos_token", 0))?.encode("a"), [space_a]);
    assert_eq!(build(&flag("add_eos_token", 1))?.encode("a"), [1, space_a, 2]);
    assert_eq!(build(&flag("remove_extra_whitespaces", 0))?.encode("a"), [1, space_a]);
    assert!(tokenizer.is_end(2) && !tokenizer.is_end(1));
    assert_eq!(tokenizer.decode_string(&[1, space_a, 3 + 0xc3, 3 + 0xa9, 0, 2]), " aé");
    assert_eq!(tokenizer.piece(3 + 0xc3), Some(&[0xc3][..]));
    Ok(())
}

fn spelt_out() -> Result<(), Failed> {
    // "<s" and ">" are pieces, and would join to "<s>", whose score is the highest.
    let tokenizer = build(&sentencepiece())?;
    let [space, less_s, less, greater] = [0, 21, 22, 23].map(|piece| FIRST_PIECE + piece);
    let byte = |byte: u8| 3 + u32::from(byte);
    assert_eq!(tokenizer.encode_with("<s>", PLAIN), [space, less_s, greater]);
    assert_eq!(tokenizer.encode_with("<s>", Options { parse_special: true, ..PLAIN }), [1]);
    let spelt: Vec<u32> = "0x61".bytes().map(byte).collect();
    assert_eq!(tokenizer.encode("<0x61>"), [&[1, space, less][..], &spelt, &[greater]].concat());
    // Nor do the merges of byte-level vocabularies.
    let tokens = [("s", NORMAL), ("t", NORMAL), ("st", CONTROL)];
    let tokenizer = build(&vocabulary("gpt-2", &tokens, &["s t"]))?;
    assert_eq!(tokenizer.encode_with("st", PLAIN), [0, 1]);
    assert_eq!(tokenizer.encode("st"), [2]);
    Ok(())
}

fn phi3_takes_white_space() -> Result<(), Failed> {
    let [space_a, b] = [14, 2].map(|piece| FIRST_PIECE + piece);
    let named = |key: &str, name: &str| build(&sentencepiece().text(key, name));
    for phi3 in [named("general.architecture", "phi3")?, named("general.name", "Phi-3 mini")?] {
        assert_eq!(phi3.encode("</s> \n\u{a0} a"), [1, 2, space_a]);
        assert_eq!(phi3.encode("a</s>  "), [1, space_a, 2]);
        // But not these.
        assert_eq!(phi3.encode("<s> b").len(), 4);
    }
    let other = named("general.architecture", "llama")?;
    assert_eq!(other.encode("</s> b"), [1, 2, FIRST_PIECE + 16, b]);
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
            sentencepiece().key("tokenizer.ggml.remove_extra_whitespaces", 7, [1]),
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
