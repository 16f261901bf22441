//! For the fuzz targets alone: what a body passes through before the engine hears of it.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::Notify;

use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::{Config, State, Worker, openai, validate};

/// A server's part that checks bodies.
pub struct Bodies {
    state: State,
    worker: Arc<Worker>,
}

impl Bodies {
    /// For requests to this worker.
    pub fn new(worker: Worker) -> Self {
        let (config, metrics, shutdown) = (Config::default(), Metrics::new(), Notify::new());
        let (keys, started) = (Keys::new(&[]), Instant::now());
        let state = State { worker: OnceLock::new(), config, keys, metrics, shutdown, started };
        Self { state, worker: Arc::new(worker) }
    }

    /// Checks a body as every endpoint that starts or ends a job does.
    pub fn check(&self, body: &[u8]) {
        let (vocab, most) = (self.worker.info.vocab_size, self.state.config.max_tokens);
        drop(validate::execute(body, vocab, most, |text| self.worker.text.encode(text)));
        drop(validate::cancel(body));
        openai::check(body, &self.state, &self.worker);
    }
}
