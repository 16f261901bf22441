//! OpenAI's API: `/v1/completions`, `/v1/chat/completions` and `/v1/models`. A request becomes one job of the engine for each
//! choice; their events become chunks of a stream, or one answer.

mod answer;
mod chat;
mod choice;
mod completions;
mod dialect;
mod error;
mod harmony;
mod jobs;
mod logprobs;
mod models;
mod parameters;
mod stream;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use runtime::request::Request;
use tokio_stream::Stream;
use uuid::Uuid;
use warp::http::HeaderMap;
use warp::reply::Response;
use warp::{Buf, Reply};

use crate::correlation::CorrelationId;
use crate::error::ApiError;
use crate::intake::Intake;
use crate::log::{self, JobLog};
use crate::wire::Fault;
use crate::{State, Worker, sse};
use answer::Answer;
use choice::{Choice, Opening};
use dialect::Dialect;
use harmony::Harmony;
use jobs::Jobs;
use parameters::Parameters;
use stream::ChunkStream;

pub(crate) use error::reply as error;
pub(crate) use models::{model, models};

/// Checks a body as each of the two endpoints does.
#[cfg(feature = "fuzzing")]
pub(crate) fn check(body: &[u8], state: &State, worker: &Worker) {
    drop(completions::check(body, state, worker));
    drop(chat::check(body, state, worker));
}

/// What a body asks for.
struct Asked {
    parameters: Parameters,
    prompts: Vec<Prompt>,
}

/// One prompt.
struct Prompt {
    /// As text, for the log's hash and for `echo`.
    text: String,
    ids: Vec<u32>,
}

/// What all chunks of an answer have in common.
#[derive(Clone)]
struct Head {
    dialect: Dialect,
    id: String,
    /// Seconds since 1970.
    created: u64,
    worker: Arc<Worker>,
}

/// `POST /v1/completions`.
pub(crate) async fn completions(
    state: Arc<State>,
    headers: HeaderMap,
    correlation: CorrelationId,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<Response, Infallible> {
    complete(Dialect::Completions, state, headers, correlation, body).await
}

/// `POST /v1/chat/completions`.
pub(crate) async fn chat(
    state: Arc<State>,
    headers: HeaderMap,
    correlation: CorrelationId,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<Response, Infallible> {
    complete(Dialect::Chat, state, headers, correlation, body).await
}

async fn complete(
    dialect: Dialect,
    state: Arc<State>,
    headers: HeaderMap,
    correlation: CorrelationId,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<Response, Infallible> {
    let answer = try_complete(dialect, &state, &headers, &correlation, body).await;
    Ok(answer.unwrap_or_else(|error| {
        log::refused(&state, &correlation, &error);
        error::reply(error)
    }))
}

async fn try_complete(
    dialect: Dialect,
    state: &Arc<State>,
    headers: &HeaderMap,
    correlation: &CorrelationId,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<Response, ApiError> {
    let intake = Intake::read(state, headers, body).await?;
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let id = format!("{}-{}", dialect.prefix(), Uuid::new_v4().simple());
    let head = Head { dialect, id, created, worker: intake.worker.clone() };
    let prepare = {
        let (head, correlation) = (head.clone(), correlation.clone());
        move |intake| prepare(&head, &intake, &correlation)
    };
    let (parameters, openings, requests) = intake.prepare(prepare).await?;
    // If one is refused, those before it are dropped, which cancels them.
    let jobs = Jobs::submit(state, &head.worker, requests)?;
    let choice = |opening| Choice::new(&head, &parameters, opening);
    let choices = openings.into_iter().map(choice).collect();
    if parameters.stream {
        let stream = ChunkStream::new(head, &parameters, jobs, choices, state.config.keep_alive);
        return Ok(sse::reply(stream));
    }
    let answer = Answer::read(jobs, choices).await?;
    Ok(warp::reply::json(&answer.body(&head, parameters.n)).into_response())
}

/// The parameters, and for each choice how it begins and its request.
type Prepared = (Parameters, Vec<Opening>, Vec<(Request, JobLog)>);

/// On a thread of its own: everything up to the engine.
fn prepare(head: &Head, intake: &Intake, correlation: &CorrelationId) -> Result<Prepared, ApiError> {
    let Intake { state, worker, client, body } = intake;
    let asked = match head.dialect {
        Dialect::Completions => completions::check(body, state, worker)?,
        Dialect::Chat => chat::check(body, state, worker)?,
    };
    let Asked { parameters, prompts } = asked;
    // More could never wait together, so that trying again would be in vain.
    let (choices, most) = (prompts.len() * parameters.n as usize, worker.engine.limits().queue_depth);
    if choices > most {
        let message = format!("n for each prompt makes {choices} choices; at most {most} may wait");
        return Err(ApiError::Invalid(vec![Fault::new("n", format!("choices(1..={most})"), message)]));
    }
    let mut openings = Vec::new();
    let mut requests = Vec::new();
    for prompt in &prompts {
        let harmony = match head.dialect {
            Dialect::Chat => Harmony::of(worker.text.as_ref(), &prompt.ids),
            Dialect::Completions => None,
        };
        let echo = if parameters.echo { prompt.text.clone() } else { String::new() };
        let opening = Opening { echo, harmony };
        for choice in 0..parameters.n {
            let mut request = parameters.request(worker, prompt.ids.clone(), choice);
            request.job_id = format!("{}-{}", head.id, requests.len());
            request.correlation_id = correlation.as_str().to_owned();
            request.client = *client;
            let log = JobLog::new(state.clone(), worker.clone(), &request, &prompt.text);
            requests.push((request, log));
            openings.push(opening.clone());
        }
    }
    Ok((parameters, openings, requests))
}
