use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio_stream::Stream;
use warp::http::HeaderMap;
use warp::{Buf, Reply};

use crate::State;
use crate::error::ApiError;
use crate::fields::{Fields, wrong_type};
use crate::intake::Intake;
use crate::wire::Fault;

/// As many as the longest prompt may have characters.
const IDS: usize = 32768;

/// Body of the answer: the text, under the name that llama.cpp's clients read and under that which vLLM's do.
#[derive(Serialize)]
struct DetokenizeBody {
    content: String,
    prompt: String,
}

/// `POST /detokenize`: the text of token ids.
pub(crate) async fn detokenize(
    state: Arc<State>,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<impl Reply, ApiError> {
    let intake = Intake::read(&state, &headers, body).await?;
    let answer = intake.prepare(|Intake { worker, body, .. }| {
        let ids = check(&body, worker.info.vocab_size).map_err(ApiError::Invalid)?;
        let content = worker.text.decode(&ids);
        Ok(DetokenizeBody { prompt: content.clone(), content })
    });
    Ok(warp::reply::json(&answer.await?))
}

fn check(body: &[u8], vocab: usize) -> Result<Vec<u32>, Vec<Fault>> {
    let mut fields = Fields::parse(body)?;
    fields.any_text("model");
    let ids = match fields.take("tokens") {
        None => {
            fields.fault(Fault::new("tokens", "required", "tokens is missing"));
            Vec::new()
        }
        Some(Value::Array(values)) if values.len() > IDS => {
            let message = format!("tokens has {} entries; at most {IDS} are allowed", values.len());
            fields.fault(Fault::new("tokens", format!("length(0..={IDS})"), message));
            Vec::new()
        }
        Some(Value::Array(values)) => values
            .into_iter()
            .enumerate()
            .filter_map(|(index, value)| id(&mut fields, index, value, vocab))
            .collect(),
        Some(other) => {
            fields.fault(wrong_type("tokens", "array", &other));
            Vec::new()
        }
    };
    fields.finish()?;
    Ok(ids)
}

fn id(fields: &mut Fields, index: usize, value: Value, vocab: usize) -> Option<u32> {
    let path = format!("tokens[{index}]");
    let Value::Number(number) = value else {
        fields.fault(wrong_type(&path, "integer", &value));
        return None;
    };
    let id = number.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < vocab);
    if id.is_none() {
        let constraint = format!("range(0..={})", vocab.saturating_sub(1));
        let message = format!("{path} must be a whole number below {vocab}, the size of the vocabulary");
        fields.fault(Fault { value: Some(number), ..Fault::new(path, constraint, message) });
    }
    id
}
