//! The HTTP face of the worker: checks requests, hands them to the engine, streams its events. It never touches a
//! device and never blocks a thread that serves others.
//!
//! A request's way: `routes` -> `execute` or `openai` { `intake`, `validate`, the tokenizer } -> `job`, the engine's
//! queue; its events' way back: `sink`, on the engine's thread, -> `job`'s channel -> `sse` or `openai`.

#![forbid(unsafe_code)]

mod apply_template;
mod body;
mod cancel;
mod correlation;
mod detokenize;
mod error;
mod execute;
mod fields;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod health;
mod intake;
mod job;
mod keys;
mod log;
mod messages;
mod meter;
mod metrics;
mod openai;
mod openapi;
mod outgoing;
mod receipt;
mod routes;
mod serve;
mod shutdown;
mod sink;
mod sse;
mod text;
mod tokenize;
mod validate;
mod wire;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use runtime::ModelInfo;
use runtime::engine::{DEFAULT_MAX_TOKENS, EngineHandle};
use tokio::sync::{Notify, watch};

use keys::Keys;
use metrics::Metrics;

pub use receipt::ModelHash;
pub use serve::{ServeError, run};
pub use text::Text;

/// What a worker can do, as `/health` and the ready callback tell it.
pub const CAPABILITIES: &[&str] = &["text-gen"];

/// What the server puts requests to.
pub struct Worker {
    /// Takes jobs.
    pub engine: EngineHandle,
    /// Makes token ids of texts, and texts of token ids.
    pub text: Box<dyn Text>,
    /// The model that answers.
    pub info: ModelInfo,
    /// The hash of the model's file, once it is known; receipts wait for it.
    pub model_hash: watch::Receiver<ModelHash>,
    /// SHA-256 over the kernels' PTX.
    pub ptx_sha256: &'static str,
}

impl Worker {
    /// Tokens that the context leaves after a prompt; at least one, so that the engine refuses a prompt that leaves
    /// nothing.
    fn room_after(&self, prompt: usize) -> u32 {
        let room = self.engine.limits().tokens().saturating_sub(prompt).max(1);
        u32::try_from(room).unwrap_or(u32::MAX)
    }
}

/// What the server is told at its start. It has no `Debug`: the keys must not get into a log.
#[derive(Clone)]
pub struct Config {
    /// The user's name for the model, told while it is loaded.
    pub model: String,
    /// This process among its kind; in every log line.
    pub worker_id: String,
    /// Who sends one of these is served; if there are none, everybody is.
    pub api_keys: Vec<String>,
    /// Whether `POST /shutdown` works.
    pub allow_shutdown: bool,
    /// What a request may ask for as `max_tokens`, and what it gets at most where it does not ask.
    pub max_tokens: u32,
    /// Bytes of a request's body.
    pub body_limit: usize,
    /// Connections served at a time; further ones wait.
    pub max_connections: usize,
    /// What a request's head may take to arrive, and then its body; also how long an unused connection is kept.
    pub read_timeout: Duration,
    /// A client that has been behind with reading its answer for so long is cut off.
    pub write_timeout: Duration,
    /// A stream that was silent for so long gets a comment, so that nobody on the way takes it for dead; not
    /// zero.
    pub keep_alive: Duration,
    /// How long the end of an answer waits for the model's hash, before it comes without a receipt.
    pub receipt_timeout: Duration,
    /// What running jobs may take to finish after a shutdown was asked for.
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: String::new(),
            worker_id: String::new(),
            api_keys: Vec::new(),
            allow_shutdown: false,
            max_tokens: DEFAULT_MAX_TOKENS,
            // The longest prompt, each character escaped as a pair of surrogates, and room for the rest.
            body_limit: 12 * 32768 + 128 * 1024,
            max_connections: 512,
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(300),
            keep_alive: Duration::from_secs(15),
            receipt_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// What every handler shares.
struct State {
    /// Empty until the model is loaded.
    worker: OnceLock<Arc<Worker>>,
    config: Config,
    keys: Keys,
    metrics: Metrics,
    /// Told by `POST /shutdown`.
    shutdown: Notify,
    started: Instant,
}
