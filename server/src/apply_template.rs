use std::sync::Arc;

use runtime::chat_template::Chat;
use serde::Serialize;
use tokio_stream::Stream;
use warp::http::HeaderMap;
use warp::{Buf, Reply};

use crate::error::ApiError;
use crate::fields::Fields;
use crate::intake::Intake;
use crate::messages::Messages;
use crate::validate::PROMPT_CHARS;
use crate::wire::Fault;
use crate::{State, Text};

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
        let messages = check(&body).map_err(ApiError::Invalid)?;
        Ok(ApplyTemplateBody { prompt: prompt(worker.text.as_ref(), messages.chat())? })
    });
    Ok(warp::reply::json(&answer.await?))
}

/// The prompt of a chat; a template's refusal is a fault of the messages.
pub(crate) fn prompt(text: &dyn Text, chat: Chat<'_>) -> Result<String, ApiError> {
    let prompt = text.apply_chat_template(chat);
    prompt.map_err(|why| ApiError::Invalid(vec![Fault::new("messages", "chat_template", why)]))
}

fn check(body: &[u8]) -> Result<Messages, Vec<Fault>> {
    let mut fields = Fields::parse(body)?;
    fields.any_text("model");
    let messages = Messages::take(&mut fields, PROMPT_CHARS);
    fields.finish()?;
    Ok(messages)
}
