//! `worker-orcd serve`: one model over HTTP.

use std::net::IpAddr;
use std::time::Duration;

use runtime::numerics::Numerics;
use runtime::worker::{DeviceChoice, LoadOptions, Worker};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Error;
use crate::{cache, images, progress};

/// Serves completions of one model over HTTP until SIGTERM or SIGINT
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A GGUF file, or a name of the catalogue
    #[arg(long)]
    model: String,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// f32 or tc; tc on a GPU and f32 on the CPU unless given
    #[arg(long)]
    numerics: Option<Numerics>,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port to listen on; 0 takes a free one, which the `ready` log line tells
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Memory for keys and values; one whole context, up to 2048, unless given
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    kv_cache_size_mb: Option<u64>,
    /// Sequences computed at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    max_batch: u16,
    /// Jobs that may wait
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    queue_depth: u16,
    /// How long a job may run
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    inference_timeout_sec: u64,
    /// How long running jobs may go on after a signal
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    drain_timeout_sec: u64,
}

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {host}:{port}: {error}; choose another with --port, or 0 for a free one")]
    Listen {
        /// The address.
        host: IpAddr,
        /// The port.
        port: u16,
        /// What the system answered.
        error: std::io::Error,
    },
    /// The model cannot be loaded.
    #[error(transparent)]
    Load(#[from] runtime::worker::LoadError),
    /// The system grants no threads or signals.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
    /// The listener failed.
    #[error(transparent)]
    Serve(#[from] server::ServeError),
    /// The device failed while serving.
    #[error("the engine has stopped after a fault; see the log")]
    Engine,
}

pub(crate) fn run(args: Args) -> Result<(), Error> {
    let path = cache::resolve(&args.model)?;
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(ServeError::Start)?;
    // The port comes before the model: whoever mistyped it should not wait for the load.
    let listener = tokio.block_on(listen(args.host, args.port))?;
    let address = listener.local_addr().map_err(ServeError::Start)?;

    let drain = Duration::from_secs(args.drain_timeout_sec);
    let options = LoadOptions {
        path,
        name: args.model.clone(),
        device: args.device,
        numerics: args.numerics,
        images: images::IMAGES,
        image_cache: cache::images(),
        kv_bytes: args.kv_cache_size_mb.map(|megabytes| megabytes << 20),
        max_batch: args.max_batch.into(),
        queue_depth: args.queue_depth.into(),
        timeout: Duration::from_secs(args.inference_timeout_sec),
        residency_interval: Duration::from_secs(60),
    };
    tracing::info!(event = "model_load_start", model_ref = args.model, "loading");
    let worker = Worker::load(options, progress::loading()).map_err(ServeError::Load)?;
    tracing::info!(event = "model_load_complete", vram_bytes = worker.info.bytes_used, "loaded");

    let tokenizer = worker.tokenizer.clone();
    let served = server::Worker {
        engine: worker.engine.clone(),
        encode: Box::new(move |text| tokenizer.encode(text)),
        info: worker.info.clone(),
    };
    let config =
        server::Config { model: args.model.clone(), drain_timeout: drain, ..server::Config::default() };
    let signals = tokio.block_on(async { shutdown_signal() }).map_err(ServeError::Start)?;
    tracing::info!(
        event = "ready",
        model_ref = args.model,
        device = worker.info.device,
        "listening on http://{address}"
    );
    let (load, loaded) = tokio::sync::oneshot::channel();
    let _ = load.send(served);
    let outcome = tokio.block_on(server::run(listener, loaded, config, signals));

    let failed = worker.engine.status().state == runtime::engine::EngineState::Failed;
    worker.stop(Duration::ZERO);
    tracing::info!(event = "shutdown", "stopped");
    outcome.map_err(ServeError::Serve)?;
    if failed { Err(ServeError::Engine.into()) } else { Ok(()) }
}

async fn listen(host: IpAddr, port: u16) -> Result<TcpListener, ServeError> {
    TcpListener::bind((host, port)).await.map_err(|error| ServeError::Listen { host, port, error })
}

/// Completes at the first SIGTERM or SIGINT.
fn shutdown_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
