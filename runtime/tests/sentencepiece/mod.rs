//! A SentencePiece vocabulary, and what its tokenizer does.

use std::sync::Arc;

use libtest_mimic::Failed;
use proptest::prelude::*;
use runtime::tokenizer::{Detokenizer, Options, Tokenizer};

use super::draft::{Draft, string};
use super::{BYTE, CONTROL, NORMAL, PLAIN, any_text, build, check};

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

pub(crate) fn vocabulary() -> Draft {
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
pub(crate) fn merges_as_the_naive_algorithm() -> Result<(), Failed> {
    let tokenizer = build(&vocabulary())?;
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
pub(crate) fn survives_behind_a_space(tokenizer: Tokenizer) -> Result<(), Failed> {
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

pub(crate) fn keys_decide() -> Result<(), Failed> {
    let [space, a, space_a] = [0, 1, 14].map(|piece| FIRST_PIECE + piece);
    let flag = |key: &str, value| vocabulary().key(&format!("tokenizer.ggml.{key}"), 7, [value]);
    let tokenizer = build(&vocabulary())?;
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

pub(crate) fn spelt_out() -> Result<(), Failed> {
    // "<s" and ">" are pieces, and would join to "<s>", whose score is the highest.
    let tokenizer = build(&vocabulary())?;
    let [space, less_s, less, greater] = [0, 21, 22, 23].map(|piece| FIRST_PIECE + piece);
    let byte = |byte: u8| 3 + u32::from(byte);
    assert_eq!(tokenizer.encode_with("<s>", PLAIN), [space, less_s, greater]);
    assert_eq!(tokenizer.encode_with("<s>", Options { parse_special: true, ..PLAIN }), [1]);
    let spelt: Vec<u32> = "0x61".bytes().map(byte).collect();
    assert_eq!(tokenizer.encode("<0x61>"), [&[1, space, less][..], &spelt, &[greater]].concat());
    // Nor do the merges of byte-level vocabularies.
    let tokens = [("s", NORMAL), ("t", NORMAL), ("st", CONTROL)];
    let tokenizer = build(&super::vocabulary("gpt-2", &tokens, &["s t"]))?;
    assert_eq!(tokenizer.encode_with("st", PLAIN), [0, 1]);
    assert_eq!(tokenizer.encode("st"), [2]);
    Ok(())
}

pub(crate) fn phi3_takes_white_space() -> Result<(), Failed> {
    let [space_a, b] = [14, 2].map(|piece| FIRST_PIECE + piece);
    let named = |key: &str, name: &str| build(&vocabulary().text(key, name));
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
