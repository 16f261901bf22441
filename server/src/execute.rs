use std::sync::Arc;

use runtime::request::Request;
use tokio_stream::Stream;
use warp::http::HeaderMap;
use warp::{Buf, Reply};

use crate::State;
use crate::correlation::CorrelationId;
use crate::error::ApiError;
use crate::intake::Intake;
use crate::job::Job;
use crate::log::JobLog;
use crate::sse::JobStream;
use crate::{log, validate};

/// `POST /execute`: the answer's headers leave as soon as the job is in the queue, `started` when it leaves the
/// queue, so that `started_at` means what it says, and every other event when it happens.
pub(crate) async fn execute(
    state: Arc<State>,
    headers: HeaderMap,
    correlation: CorrelationId,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<impl Reply, ApiError> {
    let stream = submit(&state, &headers, &correlation, body).await;
    stream.map(JobStream::into_reply).inspect_err(|error| log::refused(&state, &correlation, error))
}

async fn submit(
    state: &Arc<State>,
    headers: &HeaderMap,
    correlation: &CorrelationId,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<JobStream, ApiError> {
    let intake = Intake::read(state, headers, body).await?;
    let worker = intake.worker.clone();
    let its_correlation = correlation.clone();
    let (request, log) = intake.prepare(move |intake| prepare(&intake, &its_correlation)).await?;
    let job = Job::submit(state, &worker, request, log)?;
    Ok(JobStream::new(job, correlation.clone(), state.config.keep_alive))
}

fn prepare(intake: &Intake, correlation: &CorrelationId) -> Result<(Request, JobLog), ApiError> {
    let Intake { state, worker, client, body } = intake;
    let encode = |text: &str| worker.text.encode(text);
    let most = state.config.max_tokens.min(validate::MAX_TOKENS);
    let valid = validate::execute(body, worker.info.vocab_size, most, encode).map_err(ApiError::Invalid)?;
    let prompt = encode(&valid.prompt);
    let max_tokens = valid.max_tokens.unwrap_or_else(|| worker.room_after(prompt.len()).min(most));
    let request = Request {
        job_id: valid.job_id,
        correlation_id: correlation.as_str().to_owned(),
        prompt,
        client: *client,
        max_tokens: Some(max_tokens),
        sampling: valid.sampling,
        stop: valid.stop,
        ..Request::default()
    };
    let log = JobLog::new(state.clone(), worker.clone(), &request, &valid.prompt);
    Ok((request, log))
}
