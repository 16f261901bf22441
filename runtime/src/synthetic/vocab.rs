//! The smallest tokenizer that takes and gives every text: a token for each byte, a beginning, an end, and tokens that
//! mean nothing up to the vocabulary's size.

use super::Shape;
use crate::gguf::Writer;
use crate::tokenizer::byte_alphabet;

/// Kinds of tokens, by the numbers of the format.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

pub(super) fn describe(header: &mut Writer, shape: &Shape) {
    let mut tokens: Vec<String> = (0..=255).map(|byte| byte_alphabet::character(byte).to_string()).collect();
    let mut kinds = vec![NORMAL; tokens.len()];
    let (beginning, end) = (tokens.len(), tokens.len() + 1);
    tokens.extend(["<s>".to_owned(), "</s>".to_owned()]);
    kinds.extend([CONTROL; 2]);
    tokens.extend((tokens.len()..shape.vocab).map(|id| format!("<unused{id}>")));
    kinds.resize(tokens.len(), UNUSED);

    header.text("tokenizer.ggml.model", "gpt2");
    header.text("tokenizer.ggml.pre", shape.pre);
    header.texts("tokenizer.ggml.tokens", &tokens);
    header.i32s("tokenizer.ggml.token_type", &kinds);
    header.texts::<&str>("tokenizer.ggml.merges", &[]);
    header.u32("tokenizer.ggml.bos_token_id", beginning as u32);
    header.u32("tokenizer.ggml.eos_token_id", end as u32);
}
