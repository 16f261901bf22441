use serde_json::{Value, json};

use super::parameters::{MOST_LOGPROBS, Parameters, is_empty, take_model};
use super::{Asked, Prompt};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::messages::Messages;
use crate::wire::Fault;
use crate::{State, Worker, apply_template};

/// Checks a body of `/v1/chat/completions`, and writes its messages as a prompt.
pub(super) fn check(body: &[u8], state: &State, worker: &Worker) -> Result<Asked, ApiError> {
    let mut fields = Fields::parse(body).map_err(ApiError::Invalid)?;
    take_model(&mut fields, worker)?;
    // The body's limit bounds them, and then the context.
    let messages = take_messages(&mut fields, state.config.body_limit);
    let mut parameters = Parameters::take(&mut fields, state, worker);
    let [new, old] =
        ["max_completion_tokens", "max_tokens"].map(|name| parameters.take_max_tokens(&mut fields, name));
    if let (Some(new), Some(old)) = (new, old)
        && new != old
    {
        let message = "max_tokens is the older name of max_completion_tokens; they are not the same here";
        fields.fault(Fault::new("max_tokens", "equals(max_completion_tokens)", message));
    }
    parameters.max_tokens = new.or(old);
    let logprobs = fields.flag("logprobs").unwrap_or(false);
    let top = fields.integer("top_logprobs", 0..=MOST_LOGPROBS).and_then(|top| u32::try_from(top).ok());
    if top.is_some() && !logprobs {
        let message = "top_logprobs need logprobs to be true";
        fields.fault(Fault::new("top_logprobs", "needs(logprobs)", message));
    }
    parameters.logprobs = logprobs.then_some(top.unwrap_or(0));
    without_effect(&mut fields);
    fields.finish().map_err(ApiError::Invalid)?;
    let text = apply_template::prompt(worker.text.as_ref(), messages.chat())?;
    let ids = worker.text.encode_chat(&text);
    Ok(Asked { parameters, prompts: vec![Prompt { text, ids }] })
}

/// The chat, without tools if none is to be called. Whether one is called is the model's choice: nothing here could make it.
fn take_messages(fields: &mut Fields, most: usize) -> Messages {
    let messages = Messages::take(fields, most);
    match fields.take("tool_choice") {
        None => messages,
        Some(choice) if choice == "auto" => messages,
        Some(choice) if choice == "none" => messages.without_tools(),
        Some(_) => {
            let message = "tool_choice is not supported; it may be none or auto";
            fields.fault(Fault::new("tool_choice", "unsupported", message));
            messages
        }
    }
}

/// See [`super::parameters`]: what only chats have of that kind.
fn without_effect(fields: &mut Fields) {
    fields.neutral("store", |value| *value == false, "it may be false");
    fields.neutral("metadata", Value::is_object, "labels are taken, without effect");
    fields.neutral("functions", is_empty, "it may be empty");
    fields.neutral("function_call", |value| *value == "none" || *value == "auto", "it may be none or auto");
    fields.neutral("parallel_tool_calls", Value::is_boolean, "true or false, without effect");
    fields.neutral("response_format", |value| *value == json!({"type": "text"}), "its type may be text");
    fields.neutral("modalities", |value| *value == json!(["text"]), "it may be [\"text\"]");
    fields.neutral(
        "service_tier",
        |value| *value == "auto" || *value == "default",
        "it may be auto or default",
    );
}
