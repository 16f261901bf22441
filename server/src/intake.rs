use std::sync::Arc;

use runtime::request::JobError;
use tokio_stream::Stream;
use warp::Buf;
use warp::http::HeaderMap;

use crate::error::ApiError;
use crate::{State, Worker, body};

/// A request for completions as it arrived from somebody who may ask.
pub(crate) struct Intake {
    pub(crate) state: Arc<State>,
    pub(crate) worker: Arc<Worker>,
    /// Whose key it has; see [`Request::client`](runtime::request::Request::client).
    pub(crate) client: u32,
    pub(crate) body: Vec<u8>,
}

impl Intake {
    /// Checks the key, reads the body, and finds the worker.
    pub(crate) async fn read(
        state: &Arc<State>,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    ) -> Result<Self, ApiError> {
        let client = state.keys.check(headers)?;
        let body = body::read(body, state.config.body_limit, state.config.read_timeout).await?;
        let worker = state.worker.get().ok_or(ApiError::ModelLoading)?.clone();
        Ok(Self { state: state.clone(), worker, client, body })
    }

    /// Makes of it what goes to the engine, on a thread of its own: parsing, hashing and tokenizing a long prompt take
    /// milliseconds, too long for a thread that serves others.
    pub(crate) async fn prepare<T: Send + 'static>(
        self,
        prepare: impl FnOnce(Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        tokio::task::spawn_blocking(|| prepare(self)).await.map_err(|_| {
            // Not the panic's own message: it may quote the prompt.
            ApiError::Job(JobError::Internal("the request could not be prepared".to_owned()))
        })?
    }
}
