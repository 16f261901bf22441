use serde_json::{Value, json};
use warp::Reply;
use warp::reply::Response;

use crate::error::ApiError;
use crate::wire::Fault;

/// An answer in OpenAI's shape, with the status and the headers that the error has everywhere.
pub(crate) fn reply(error: ApiError) -> Response {
    let body = warp::reply::json(&body(&error)).into_response().into_body();
    let (parts, _) = error.into_response().into_parts();
    Response::from_parts(parts, body)
}

/// A fault's message with the field's name, unless it is in it.
fn named(Fault { field, message, .. }: &Fault) -> String {
    if message.starts_with(field.as_str()) { message.clone() } else { format!("{field}: {message}") }
}

/// `{"error": {"message", "type", "param", "code"}}`; all faults of a request, in our own shape, beside it.
pub(super) fn body(error: &ApiError) -> Value {
    let (message, param) = match error {
        ApiError::Invalid(faults) => {
            let messages: Vec<String> = faults.iter().map(named).collect();
            (messages.join("; "), faults.first().map(|fault| fault.field.as_str()))
        }
        ApiError::ModelNotFound { .. } => (error.to_string(), Some("model")),
        _ => (error.to_string(), None),
    };
    let kind = match error.status().as_u16() {
        401 => "authentication_error",
        429 => "rate_limit_error",
        400..=498 => "invalid_request_error",
        _ => "server_error",
    };
    let code = match error.code() {
        "UNAUTHORIZED" => "invalid_api_key".to_owned(),
        "CONTEXT_OVERFLOW" => "context_length_exceeded".to_owned(),
        "QUEUE_FULL" => "rate_limit_exceeded".to_owned(),
        code => code.to_lowercase(),
    };
    let mut body = json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
    if let ApiError::Invalid(faults) = error {
        body["errors"] = json!(faults);
    }
    body
}
