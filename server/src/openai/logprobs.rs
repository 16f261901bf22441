use runtime::request::Chosen;
use serde_json::{Map, Value, json};

use super::dialect::Dialect;
use crate::Text;

/// The log-probabilities of tokens that follow `offset` characters of a choice's text.
pub(super) fn logprobs(dialect: Dialect, text: &dyn Text, tokens: &[Chosen], offset: usize) -> Value {
    match dialect {
        Dialect::Chat => {
            let content: Vec<Value> = tokens.iter().map(|token| of_chat(text, token)).collect();
            json!({"content": content, "refusal": null})
        }
        Dialect::Completions => of_completion(text, tokens, offset),
    }
}

fn of_chat(text: &dyn Text, token: &Chosen) -> Value {
    let told = |id: u32, logprob: f32| {
        let bytes = text.bytes(id);
        json!({"token": String::from_utf8_lossy(&bytes), "logprob": number(logprob), "bytes": bytes})
    };
    let mut told_token = told(token.id, token.logprob.unwrap_or(0.0));
    let top: Vec<Value> = token.top.iter().map(|&(id, logprob)| told(id, logprob)).collect();
    told_token["top_logprobs"] = top.into();
    told_token
}

fn of_completion(text: &dyn Text, tokens: &[Chosen], mut offset: usize) -> Value {
    let mut offsets = Vec::with_capacity(tokens.len());
    for token in tokens {
        // A control token adds nothing to the text.
        let bytes = if text.decode(&[token.id]).is_empty() { Vec::new() } else { text.bytes(token.id) };
        let is_inside = bytes.first().is_some_and(|&byte| goes_on(byte));
        offsets.push(offset - usize::from(is_inside && offset > 0));
        offset += bytes.iter().filter(|&&byte| !goes_on(byte)).count();
    }
    let top = |token: &Chosen| {
        let mut top: Map<String, Value> =
            token.top.iter().map(|&(id, logprob)| (name(text, id), number(logprob).into())).collect();
        // The chosen one is always among them, as OpenAI has it.
        if let Some(logprob) = token.logprob {
            top.entry(name(text, token.id)).or_insert(number(logprob).into());
        }
        top
    };
    json!({
        "tokens": tokens.iter().map(|token| name(text, token.id)).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.logprob.map(number)).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

/// JSON has no infinity; this is what OpenAI has for a token that cannot be.
fn number(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}

/// Whether a byte of UTF-8 goes on with a character that began before.
fn goes_on(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// A token's text; what is no text alone, by its bytes.
fn name(text: &dyn Text, id: u32) -> String {
    String::from_utf8(text.bytes(id)).unwrap_or_else(|error| {
        let hex = error.as_bytes().iter().map(|byte| format!("\\x{byte:02x}"));
        format!("bytes:{}", hex.collect::<String>())
    })
}
