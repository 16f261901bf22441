use std::sync::Arc;

use runtime::engine::{EngineState, Status};
use warp::Reply;
use warp::http::StatusCode;

use crate::wire::{HealthBody, ReadyBody};
use crate::{CAPABILITIES, State};

/// `GET /health`: always 200, from cached state; the device is not asked.
pub(crate) async fn health(state: Arc<State>) -> impl Reply {
    let worker = state.worker.get();
    let status = worker.map(|worker| worker.engine.status());
    let info = worker.map(|worker| &worker.info);
    warp::reply::json(&HealthBody {
        status: word(status),
        resident: is_resident(status),
        model: info.map_or(&state.config.model, |info| &info.name),
        architecture: info.map(|info| info.architecture.as_str()),
        quant_kind: info.map(|info| info.quant_kind.as_str()),
        tokenizer_kind: info.map(|info| info.tokenizer_kind.as_str()),
        vocab_size: info.map(|info| info.vocab_size),
        context_length: info.map(|info| info.context_length),
        vram_bytes_used: info.map_or(0, |info| info.bytes_used),
        vram_bytes_total: info.map_or(0, |info| info.bytes_total),
        device: info.map(|info| info.device.as_str()),
        sm: info.and_then(|info| info.sm.as_deref()),
        driver_version: info.and_then(|info| info.driver_version.as_deref()),
        numerics: info.map(|info| info.numerics.as_str()),
        uptime_seconds: state.started.elapsed().as_secs(),
        capabilities: CAPABILITIES,
        protocol: "sse",
    })
}

/// `GET /ready`: 200 while jobs are taken, else 503.
pub(crate) async fn ready(state: Arc<State>) -> impl Reply {
    let status = word(state.worker.get().map(|worker| worker.engine.status()));
    let ready = matches!(status, "ready" | "busy");
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    warp::reply::with_status(warp::reply::json(&ReadyBody { ready, status }), code)
}

/// Whether the model is in its device's memory; `None` is a model that is being loaded.
pub(crate) fn is_resident(status: Option<Status>) -> bool {
    status.is_some_and(|status| {
        status.resident && !matches!(status.state, EngineState::Stopped | EngineState::Failed)
    })
}

fn word(status: Option<Status>) -> &'static str {
    let Some(status) = status else { return "starting" };
    match status.state {
        EngineState::Failed => "failed",
        _ if !status.resident => "failed",
        EngineState::Idle => "ready",
        EngineState::Busy => "busy",
        // An engine that stopped as asked is the end of a drain.
        EngineState::Draining | EngineState::Stopped => "draining",
    }
}
