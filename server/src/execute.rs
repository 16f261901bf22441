use std::sync::Arc;

use runtime::engine::DEFAULT_MAX_TOKENS;
use runtime::request::{JobError, Request};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use warp::http::HeaderMap;
use warp::{Buf, Reply};

use crate::correlation::CorrelationId;
use crate::error::ApiError;
use crate::log::JobLog;
use crate::meter::JobMeter;
use crate::sink::JobSink;
use crate::sse::JobStream;
use crate::{State, Worker};
use crate::{body, log, validate};

/// `POST /execute`: the answer's headers leave as soon as the job is in the queue, `started` when it leaves the
/// queue, so that `started_at` means what it says, and every other event when it happens.
pub(crate) async fn execute(
    state: Arc<State>,
    headers: HeaderMap,
    correlation: CorrelationId,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<impl Reply, ApiError> {
    let stream = submit(&state, &headers, &correlation, body).await;
    stream.map(JobStream::into_reply).inspect_err(|error| {
        state.metrics.request_ended(error.code());
        log::refused(&state, &correlation, error);
    })
}

async fn submit(
    state: &Arc<State>,
    headers: &HeaderMap,
    correlation: &CorrelationId,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<JobStream, ApiError> {
    state.keys.check(headers)?;
    let body = body::read(body, state.config.body_limit, state.config.read_timeout).await?;
    let worker = state.worker.get().ok_or(ApiError::ModelLoading)?.clone();
    // Parsing, hashing and tokenizing a long prompt take milliseconds: too long for a thread that serves others.
    let prepare = {
        let (state, worker, correlation) = (state.clone(), worker.clone(), correlation.clone());
        move || prepare(state, worker, correlation, &body)
    };
    let (request, log) = tokio::task::spawn_blocking(prepare).await.map_err(|_| {
        // Not the panic's own message: it may quote the prompt.
        ApiError::Job(JobError::Internal("the request could not be prepared".to_owned()))
    })??;

    let seed = request.sampling.seed;
    let job_id = request.job_id.clone();
    // Room for all that a job can produce, so that the engine never waits for a reader.
    let capacity = request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS) as usize + 2;
    let (sender, events) = mpsc::channel(capacity);
    let meter = JobMeter::new(state.clone(), &request);
    worker.engine.submit(request, Box::new(JobSink::new(sender, log, meter)))?;
    Ok(JobStream::new(worker, job_id, correlation.clone(), seed, events, state.config.keep_alive))
}

fn prepare(
    state: Arc<State>,
    worker: Arc<Worker>,
    correlation: CorrelationId,
    body: &[u8],
) -> Result<(Request, JobLog), ApiError> {
    let encode = |text: &str| worker.text.encode(text);
    let most = state.config.max_tokens;
    let valid = validate::execute(body, worker.info.vocab_size, most, encode).map_err(ApiError::Invalid)?;
    let prompt = encode(&valid.prompt);
    // Without a number a job gets what the context leaves, here bounded like any other; at least one, so that the engine
    // refuses a prompt that leaves nothing.
    let room = worker.engine.limits().tokens().saturating_sub(prompt.len()).max(1);
    let request = Request {
        job_id: valid.job_id,
        correlation_id: correlation.as_str().to_owned(),
        prompt,
        max_tokens: Some(valid.max_tokens.unwrap_or(u32::try_from(room).unwrap_or(most).min(most))),
        sampling: valid.sampling,
        stop: valid.stop,
        ..Request::default()
    };
    let log = JobLog::new(state, worker.clone(), &request, &valid.prompt);
    Ok((request, log))
}
