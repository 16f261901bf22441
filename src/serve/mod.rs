//! `worker-orcd serve`: one model over HTTP.
//!
//! Everything is checked, then the server listens and answers that it is starting, then the model is loaded, then it
//! is ready and says so to whoever wants to know.

mod args;
mod callback;
mod code;
mod fault;
mod hash;
mod keys;
mod load;
mod settings;
mod signals;
mod text;

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use runtime::ModelInfo;
use runtime::engine::EngineState;
use runtime::worker::Worker;
use server::ModelHash;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot, watch};

pub use args::Args;
pub use fault::{Fault, Faults};

use crate::cli::Error;
use crate::{exit, images, logging};
use callback::Ready;
use code::Code;
use load::Loaded;
use settings::Settings;
use text::ModelText;

/// What the engine may take to free the device once it has nothing to do.
const TO_STOP: Duration = Duration::from_secs(10);

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Arguments cannot be used.
    #[error("{0}")]
    Faults(Faults),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}; choose another with --port, or 0 for a free one")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system answered.
        error: std::io::Error,
    },
    /// The model cannot be fetched.
    #[error(transparent)]
    Model(#[from] crate::cache::ResolveError),
    /// The model cannot be loaded.
    #[error(transparent)]
    Load(#[from] runtime::worker::LoadError),
    /// The system grants no threads or signals.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
    /// The listener failed.
    #[error(transparent)]
    Serve(#[from] server::ServeError),
    /// Nobody took the ready callback.
    #[error("the ready callback to {url} failed: {problem}")]
    Callback {
        /// Where it went.
        url: String,
        /// What the last attempt came to.
        problem: String,
    },
    /// The engine did not stop when all jobs were gone.
    #[error("the engine has not stopped after {} s: the device hangs", TO_STOP.as_secs())]
    Hangs,
    /// The device failed while serving.
    #[error("the engine has stopped after a fault; see the log")]
    Engine,
}

impl ServeError {
    /// Writes it to a log that machines read. On a terminal the line that ends the process says it.
    fn log(&self) {
        if !logging::is_json() {
            return;
        }
        let line =
            |code: Code, text: &str| tracing::error!(event = "error", code = code.name(), message = text);
        match self {
            Self::Faults(Faults(faults)) => faults.iter().for_each(|fault| line(fault.code, &fault.text)),
            Self::Listen { .. } => line(Code::ListenFailed, &self.to_string()),
            Self::Model(_) => line(Code::ModelLoadFailed, &self.to_string()),
            Self::Load(error) => line(Code::of_load(error), &self.to_string()),
            Self::Callback { .. } => line(Code::CallbackFailed, &self.to_string()),
            Self::Engine | Self::Hangs => line(Code::EngineFailed, &self.to_string()),
            Self::Start(_) | Self::Serve(_) => line(Code::Internal, &self.to_string()),
        }
    }
}

pub(crate) fn run(args: Args) -> Result<(), Error> {
    let outcome = Settings::check(args).map_err(ServeError::Faults).and_then(serve);
    Ok(outcome.inspect_err(ServeError::log)?)
}

fn serve(settings: Settings) -> Result<(), ServeError> {
    logging::hide_panics();
    logging::identify("worker_id", settings.worker_id.to_string());
    logging::identify("model_ref", &settings.model_name);
    logging::identify("device", settings.device.to_string());
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(ServeError::Start)?;
    let outcome = tokio.block_on(live(settings));
    // An attempt of the callback may be under way; nobody waits for it.
    tokio.shutdown_background();
    tracing::info!(event = "shutdown", "stopped");
    if let End::WhileLoading = outcome? {
        exit::at_once(0);
    }
    Ok(())
}

/// How a server ends that nothing has failed.
enum End {
    /// Its model is not loaded any more.
    Stopped,
    /// It was told to end before the model was there; a thread still loads it.
    WhileLoading,
}

/// From the first connection to the last.
async fn live(settings: Settings) -> Result<End, ServeError> {
    let address = settings.address;
    let listener = TcpListener::bind(address).await.map_err(|error| ServeError::Listen { address, error })?;
    let address = listener.local_addr().map_err(ServeError::Start)?;
    let signalled = signals::first().map_err(ServeError::Start)?;
    let given_up = Notify::new();
    let shutdown = async {
        tokio::select! {
            () = signalled => {}
            () = given_up.notified() => {}
        }
    };
    let loading = load::begin(&settings, &format!("http://{address}"))?;
    let (hand_over, taken) = oneshot::channel();
    let mut server = pin!(server::run(listener, taken, config(&settings), shutdown));

    let Loaded { worker, model_hash } = tokio::select! {
        outcome = &mut server => return Ok(outcome.map(|()| End::WhileLoading)?),
        loaded = loading => loaded?,
    };
    // A server that has just ended takes nothing more.
    let _ = hand_over.send(served(&worker, model_hash));
    let outcome = tokio::select! {
        // The server first: when the callback arrives, it must have taken the worker.
        biased;
        outcome = &mut server => outcome.map_err(ServeError::Serve),
        told = announce(&settings, &worker.info, address) => {
            if told.is_err() {
                given_up.notify_one();
            }
            let outcome = server.await;
            told.and(outcome.map_err(ServeError::Serve))
        }
    };
    if worker.engine.status().state == EngineState::Failed {
        // Its thread may hang in a driver that no longer works; the process ends without it.
        return outcome.and(Err(ServeError::Engine));
    }
    // On a thread of its own: a device that hangs must not keep the process.
    let stopped = tokio::task::spawn_blocking(|| worker.stop(Duration::ZERO));
    match tokio::time::timeout(TO_STOP, stopped).await {
        Ok(_) => outcome.map(|()| End::Stopped),
        Err(_) => outcome.and(Err(ServeError::Hangs)),
    }
}

fn config(settings: &Settings) -> server::Config {
    server::Config {
        model: settings.model_name.clone(),
        worker_id: settings.worker_id.to_string(),
        api_keys: settings.api_keys.clone(),
        allow_shutdown: settings.allow_shutdown,
        max_tokens: settings.max_tokens_out,
        write_timeout: settings.inference_timeout,
        drain_timeout: settings.drain_timeout,
        ..server::Config::default()
    }
}

fn served(worker: &Worker, model_hash: watch::Receiver<ModelHash>) -> server::Worker {
    server::Worker {
        engine: worker.engine.clone(),
        text: Box::new(ModelText::of(worker)),
        info: worker.info.clone(),
        model_hash,
        ptx_sha256: images::PTX_HASH,
    }
}

/// Says that the worker is ready, in the log and to whoever wants to be called back.
async fn announce(settings: &Settings, info: &ModelInfo, address: SocketAddr) -> Result<(), ServeError> {
    tracing::info!(event = "model_load_complete", vram_bytes = info.bytes_used, "loaded");
    tracing::info!(event = "ready", "listening on http://{address}");
    let Some(url) = &settings.callback else { return Ok(()) };
    let ready = Ready {
        worker_id: settings.worker_id.to_string(),
        model_ref: info.name.clone(),
        vram_bytes: info.bytes_used,
        uri: format!("http://{}", url.reached_at(address).await),
        memory_architecture: if info.device == "cpu" { "host" } else { "vram-only" },
        capabilities: server::CAPABILITIES,
    };
    let told = url.tell(&ready).await;
    told.map_err(|problem| ServeError::Callback { url: url.to_string(), problem })
}
