use std::sync::Arc;

use runtime::engine::EngineState;
use warp::Reply;
use warp::http::StatusCode;

use crate::State;
use crate::wire::{HealthBody, ReadyBody};

/// `GET /health`: always 200, from cached state; the device is not asked.
pub(crate) async fn health(state: Arc<State>) -> impl Reply {
    let info = &state.worker.info;
    let engine = state.worker.engine.status().state;
    warp::reply::json(&HealthBody {
        status: word(engine),
        resident: !matches!(engine, EngineState::Stopped | EngineState::Failed),
        model: &info.name,
        architecture: &info.architecture,
        quant_kind: &info.quant_kind,
        tokenizer_kind: &info.tokenizer_kind,
        vocab_size: info.vocab_size,
        context_length: info.context_length,
        vram_bytes_used: info.bytes_used,
        vram_bytes_total: info.bytes_total,
        device: &info.device,
        numerics: &info.numerics,
        uptime_seconds: state.started.elapsed().as_secs(),
        capabilities: &["text-gen"],
        protocol: "sse",
    })
}

/// `GET /ready`: 200 while jobs are taken, else 503.
pub(crate) async fn ready(state: Arc<State>) -> impl Reply {
    let engine = state.worker.engine.status().state;
    let ready = matches!(engine, EngineState::Idle | EngineState::Busy);
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    warp::reply::with_status(warp::reply::json(&ReadyBody { ready, status: word(engine) }), code)
}

fn word(engine: EngineState) -> &'static str {
    match engine {
        EngineState::Idle => "ready",
        EngineState::Busy => "busy",
        // An engine that stopped as asked is the end of a drain.
        EngineState::Draining | EngineState::Stopped => "draining",
        EngineState::Failed => "failed",
    }
}
