use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio_stream::Stream;
use warp::http::HeaderMap;
use warp::{Buf, Reply};

use crate::error::ApiError;
use crate::fields::Fields;
use crate::intake::Intake;
use crate::validate::PROMPT_CHARS;
use crate::wire::Fault;
use crate::{State, Text, messages};

/// Body of the answer.
#[derive(Serialize)]
struct ApplyTemplateBody {
    prompt: String,
}

/// `POST /apply-template`: a chat's prompt, as the model's chat template writes it.
pub(crate) async fn apply_template(
    state: Arc<State>,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<impl Reply, ApiError> {
    let intake = Intake::read(&state, &headers, body).await?;
    let answer = intake.prepare(|Intake { worker, body, .. }| {
        let (messages, add_generation_prompt) = check(&body).map_err(ApiError::Invalid)?;
        Ok(ApplyTemplateBody { prompt: prompt(worker.text.as_ref(), &messages, add_generation_prompt)? })
    });
    Ok(warp::reply::json(&answer.await?))
}

/// The prompt of these messages; a template's refusal is a fault of the messages.
pub(crate) fn prompt(
    text: &dyn Text,
    messages: &Value,
    add_generation_prompt: bool,
) -> Result<String, ApiError> {
    let prompt = text.apply_chat_template(messages, add_generation_prompt);
    prompt.map_err(|why| ApiError::Invalid(vec![Fault::new("messages", "chat_template", why)]))
}

fn check(body: &[u8]) -> Result<(Value, bool), Vec<Fault>> {
    let mut fields = Fields::parse(body)?;
    fields.any_text("model");
    let messages = messages::take(&mut fields, PROMPT_CHARS);
    let add_generation_prompt = fields.flag("add_generation_prompt").unwrap_or(true);
    fields.finish()?;
    Ok((messages, add_generation_prompt))
}
