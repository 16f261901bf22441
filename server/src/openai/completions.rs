use serde_json::Value;

use super::parameters::{MOST_LOGPROBS, Parameters, take_model};
use super::{Asked, Prompt};
use crate::error::ApiError;
use crate::fields::{Fields, wrong_type};
use crate::wire::Fault;
use crate::{State, Worker};

/// Tokens where nobody says how many, as OpenAI has it.
const DEFAULT_TOKENS: u32 = 16;
/// Prompts of a request.
const MOST_PROMPTS: usize = 64;

/// A prompt as it was written.
enum Written {
    Text(String),
    Ids(Vec<u32>),
}

/// Checks a body of `/v1/completions`.
pub(super) fn check(body: &[u8], state: &State, worker: &Worker) -> Result<Asked, ApiError> {
    let mut fields = Fields::parse(body).map_err(ApiError::Invalid)?;
    take_model(&mut fields, worker)?;
    let prompts = prompts(&mut fields, worker.info.vocab_size);
    let mut parameters = Parameters::take(&mut fields, state, worker);
    let most = state.config.max_tokens;
    let max_tokens = parameters.take_max_tokens(&mut fields, "max_tokens");
    parameters.max_tokens = Some(max_tokens.unwrap_or(DEFAULT_TOKENS.max(parameters.min_tokens).min(most)));
    let logprobs = fields.integer("logprobs", 0..=MOST_LOGPROBS);
    parameters.logprobs = logprobs.and_then(|count| u32::try_from(count).ok());
    parameters.echo = fields.flag("echo").unwrap_or(false);
    if parameters.echo && parameters.logprobs.is_some() {
        let message = "echo with logprobs is not supported: log-probabilities are of the answer's tokens";
        fields.fault(Fault::new("echo", "unsupported", message));
    }
    fields.neutral("suffix", |value| *value == "", "it may be empty");
    fields.finish().map_err(ApiError::Invalid)?;
    let read = |written| match written {
        Written::Text(text) => Prompt { ids: worker.text.encode(&text), text },
        Written::Ids(ids) => Prompt { text: worker.text.decode(&ids), ids },
    };
    Ok(Asked { parameters, prompts: prompts.into_iter().map(read).collect() })
}

/// A text, texts, token ids, or lists of them.
fn prompts(fields: &mut Fields, vocab: usize) -> Vec<Written> {
    let values = match fields.take("prompt") {
        None => {
            fields.fault(Fault::new("prompt", "required", "prompt is missing"));
            return Vec::new();
        }
        Some(Value::Array(values)) if values.iter().any(Value::is_number) => vec![Value::Array(values)],
        Some(Value::Array(values)) => values,
        Some(value @ Value::String(_)) => vec![value],
        Some(other) => {
            fields.fault(wrong_type("prompt", "string or array", &other));
            return Vec::new();
        }
    };
    if !(1..=MOST_PROMPTS).contains(&values.len()) {
        let message = format!("prompt has {} entries; 1 to {MOST_PROMPTS} are allowed", values.len());
        fields.fault(Fault::new("prompt", format!("length(1..={MOST_PROMPTS})"), message));
        return Vec::new();
    }
    let alone = values.len() == 1;
    let mut written = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let path = if alone { "prompt".to_owned() } else { format!("prompt[{index}]") };
        match value {
            Value::String(text) if !text.is_empty() => written.push(Written::Text(text)),
            Value::Array(ids) if !ids.is_empty() => {
                written.extend(token_ids(fields, &path, ids, vocab).map(Written::Ids));
            }
            Value::String(_) | Value::Array(_) => {
                fields.fault(Fault::new(&path, "non_empty", format!("{path} must not be empty")));
            }
            other => fields.fault(wrong_type(&path, "string or array", &other)),
        }
    }
    written
}

/// Ids of the vocabulary; `None`, and a fault, if one is not.
fn token_ids(fields: &mut Fields, path: &str, values: Vec<Value>, vocab: usize) -> Option<Vec<u32>> {
    let id = |value: &Value| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < vocab)
    };
    let ids: Option<Vec<u32>> = values.iter().map(id).collect();
    if ids.is_none() {
        let at = values.iter().position(|value| id(value).is_none()).unwrap_or(0);
        let message = format!("{path}[{at}] must be a token id below {vocab}, the size of the vocabulary");
        fields.fault(Fault::new(format!("{path}[{at}]"), format!("token_id(0..{vocab})"), message));
    }
    ids
}
