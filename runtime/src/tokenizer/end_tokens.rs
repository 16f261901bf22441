//! Which tokens end a completion.
//!
//! A file names some; most chat models end a turn with another, which only its text tells. The lists are those of
//! llama.cpp (src/llama-vocab.cpp), so that a model stops here where it stops there.

use super::TokenizerError;
use super::vocab::Texts;

/// Keys of ids that end.
const KEYS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// Texts of tokens that end.
const NAMES: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
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
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
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

/// The ids of all tokens that end a completion, sorted; `id_at`: the one that a file has under a key, if it has the key.
pub(super) fn find(
    texts: &Texts<'_>,
    mut id_at: impl FnMut(&'static str) -> Result<Option<u32>, TokenizerError>,
) -> Result<Vec<u32>, TokenizerError> {
    let mut ends: Vec<u32> = NAMES.iter().filter_map(|name| texts.id(name)).collect();
    for key in KEYS {
        ends.extend(id_at(key)?);
    }
    for (key, names) in FILL_IN_MIDDLE {
        ends.extend(id_at(key)?.or_else(|| names.iter().find_map(|name| texts.id(name))));
    }
    // Where a message ends in <|end|> and a completion in one of the others, only the latter end it.
    let has = |name| texts.id(name).is_some();
    if (has("<|return|>") || has("<|flush|>")) && (has("<|call|>") || has("<|calls|>")) {
        ends.retain(|&id| Some(id) != texts.id("<|end|>"));
    }
    // Among tokens for tags, this is one of them.
    if has("<|tool_response>") {
        ends.retain(|&id| Some(id) != texts.id("</s>"));
    }
    ends.sort_unstable();
    ends.dedup();
    Ok(ends)
}
