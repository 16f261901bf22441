//! Which tokens end a completion.
//!
//! The metadata name some; most chat models end a turn with another, which only its text tells. The lists are those
//! of llama.cpp (src/llama-vocab.cpp), so that a model stops here where it stops there.

use super::TokenizerError;
use super::vocab::Texts;
use crate::gguf::Gguf;

/// Keys of ids that end.
const KEYS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// Texts of tokens that end.
const NAMES: [&str; 17] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
];

/// Code models end, too, where a file or repository would begin or padding would fill up: a key of the metadata, and
/// the texts that are looked for without it.
const FILL_IN_MIDDLE: [(&str, &[&str]); 3] = [
    ("tokenizer.ggml.fim_pad_token_id", &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    (
        "tokenizer.ggml.fim_rep_token_id",
        &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    ),
    ("tokenizer.ggml.fim_sep_token_id", &["<|file_sep|>"]),
];

/// The ids of all tokens that end a completion, sorted.
pub(super) fn find(gguf: &Gguf, texts: &Texts<'_>) -> Result<Vec<u32>, TokenizerError> {
    let mut ends: Vec<u32> = NAMES.iter().filter_map(|name| texts.id(name)).collect();
    for key in KEYS {
        ends.extend(optional(gguf, texts, key)?);
    }
    for (key, names) in FILL_IN_MIDDLE {
        let by_key = optional(gguf, texts, key)?;
        ends.extend(by_key.or_else(|| names.iter().find_map(|name| texts.id(name))));
    }
    // Where a message ends in <|end|> and a completion in one of these two, only the latter ends it.
    if let (Some(end), Some(_), Some(_)) = (texts.id("<|end|>"), texts.id("<|return|>"), texts.id("<|call|>"))
    {
        ends.retain(|&id| id != end);
    }
    ends.sort_unstable();
    ends.dedup();
    Ok(ends)
}

fn optional(gguf: &Gguf, texts: &Texts<'_>, key: &'static str) -> Result<Option<u32>, TokenizerError> {
    match gguf.get(key) {
        Some(_) => texts.id_at(gguf, key).map(Some),
        None => Ok(None),
    }
}
