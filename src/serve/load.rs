//! Loads the model beside the server that already answers.

use std::path::PathBuf;
use std::thread;

use runtime::checkpoint::CheckpointFiles;
use runtime::worker::{LoadError, LoadOptions, Progress, Worker};
use server::ModelHash;
use tokio::sync::{oneshot, watch};

use super::settings::Settings;
use super::{ServeError, hash};
use crate::{cache, images, logging, progress};

/// A worker whose model's hash is on its way.
pub(super) struct Loaded {
    pub(super) worker: Worker,
    pub(super) model_hash: watch::Receiver<ModelHash>,
}

/// Begins to load on a thread of its own; the answer comes when it is done. Whoever drops it abandons the load, which
/// then ends with the process. `uri` is where the server answers meanwhile.
///
/// # Errors
/// The system grants no thread.
pub(super) fn begin(
    settings: &Settings,
    uri: &str,
) -> Result<impl Future<Output = Result<Loaded, ServeError>> + use<>, ServeError> {
    let options = LoadOptions {
        // Known once it is fetched.
        path: PathBuf::new(),
        quant: settings.quant,
        name: settings.model.clone(),
        device: settings.device,
        numerics: settings.numerics,
        images: images::IMAGES,
        image_cache: cache::images(),
        kv_bytes: settings.kv_bytes,
        step_tokens: settings.step_tokens,
        prefix_cache: settings.prefix_cache,
        max_batch: settings.max_batch,
        queue_depth: settings.queue_depth,
        timeout: settings.inference_timeout,
        residency_interval: settings.residency_interval,
    };
    let log = log(uri.to_owned());
    let load = move || {
        let path = cache::resolve(&options.name)?;
        // As it is before it is read: what is hashed later must still be that.
        let files = CheckpointFiles::of(&path, options.quant);
        let worker = Worker::load(LoadOptions { path, ..options }, log)?;
        let model_hash = hash::begin(files, worker.info.device == "cpu");
        Ok(Loaded { worker, model_hash })
    };
    let (tell, told) = oneshot::channel();
    // If nobody waits any more, the process is about to end.
    let thread = thread::Builder::new().name("load".to_owned()).spawn(move || drop(tell.send(load())));
    thread.map_err(ServeError::Start)?;
    Ok(async { told.await.unwrap_or(Err(ServeError::Load(LoadError::Panicked))) })
}

/// Logs the steps of a load, every tenth of the bytes among them, and shows them on a terminal.
fn log(uri: String) -> impl FnMut(Progress<'_>) + Send + 'static {
    let mut bar = progress::loading();
    let mut tenths = 0;
    move |step| {
        bar(step);
        match step {
            Progress::Opened { device } => {
                logging::identify("device", device);
                tracing::info!(event = "model_load_start", uri, "loading");
            }
            Progress::Uploaded { done, total } => {
                let reached = done * 10 / total.max(1);
                if reached > tenths {
                    tenths = reached;
                    tracing::info!(event = "model_load_progress", percent = reached * 10, bytes = done);
                }
            }
        }
    }
}
