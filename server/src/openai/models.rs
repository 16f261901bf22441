use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use warp::Reply;
use warp::http::HeaderMap;
use warp::reply::Response;

use super::error;
use crate::error::ApiError;
use crate::{State, Worker};

/// `GET /v1/models`: the one model there is.
pub(crate) async fn models(state: Arc<State>, headers: HeaderMap) -> Response {
    let list =
        worker(&state, &headers).map(|worker| json!({"object": "list", "data": [described(&state, worker)]}));
    reply(list)
}

/// `GET /v1/models/{name}`, the name percent-encoded or not.
pub(crate) async fn model(state: Arc<State>, headers: HeaderMap, name: &str) -> Response {
    let found = worker(&state, &headers).and_then(|worker| {
        let served = &worker.info.name;
        if decoded(name) == *served {
            return Ok(described(&state, worker));
        }
        Err(ApiError::ModelNotFound { served: served.clone() })
    });
    reply(found)
}

fn worker<'a>(state: &'a State, headers: &HeaderMap) -> Result<&'a Worker, ApiError> {
    state.keys.check(headers)?;
    Ok(state.worker.get().ok_or(ApiError::ModelLoading)?)
}

fn reply(body: Result<Value, ApiError>) -> Response {
    body.map_or_else(error::reply, |body| warp::reply::json(&body).into_response())
}

fn described(state: &State, worker: &Worker) -> Value {
    let started = SystemTime::now().checked_sub(state.started.elapsed());
    let since = started.and_then(|started| started.duration_since(UNIX_EPOCH).ok());
    json!({
        "id": worker.info.name,
        "object": "model",
        "created": since.map_or(0, |since| since.as_secs()),
        "owned_by": "worker-orcd",
        "max_model_len": worker.info.context_length,
    })
}

fn decoded(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| bytes[i] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
