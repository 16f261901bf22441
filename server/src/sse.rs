use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use runtime::receipt::{Asked, Receipt};
use runtime::request::{Completion, Event, JobError};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, interval_at};
use tokio_stream::Stream;
use warp::Reply;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};

use crate::Worker;
use crate::correlation::CorrelationId;
use crate::error::ApiError;
use crate::receipt::receipt;
use crate::wire::{EndData, StartedData, TokenData};

/// The body of an answer to `/execute`: each event of a job as one server-sent event, the moment it exists, and a
/// comment whenever nothing was sent for a while. Dropped before the job's end, it cancels the job.
pub(crate) struct JobStream {
    worker: Arc<Worker>,
    job_id: String,
    correlation: CorrelationId,
    seed: u64,
    events: mpsc::Receiver<Event>,
    idle: Interval,
    /// What the receipt tells of the request; taken for it at the end.
    asked: Option<Asked>,
    /// The completion on its way to a receipt.
    end: Option<Receipted>,
    /// The engine is done with the job.
    ended: bool,
}

type Receipted = Pin<Box<dyn Future<Output = (Completion, Option<Receipt>)> + Send + Sync>>;

const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

impl JobStream {
    pub(crate) fn new(
        worker: Arc<Worker>,
        job_id: String,
        correlation: CorrelationId,
        asked: Asked,
        events: mpsc::Receiver<Event>,
        keep_alive: Duration,
    ) -> Self {
        let idle = interval_at(Instant::now() + keep_alive, keep_alive);
        let seed = asked.sampling.seed;
        let asked = Some(asked);
        Self { worker, job_id, correlation, seed, events, idle, asked, end: None, ended: false }
    }

    /// A 200 with this body, marked as nothing to cache or to buffer on the way.
    pub(crate) fn into_reply(self) -> impl Reply {
        let mut response = warp::reply::stream(self).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        response
    }

    /// The bytes of an event; those of the end come with its receipt.
    fn frame(&mut self, event: Event) -> Option<Bytes> {
        self.ended = matches!(event, Event::End(_) | Event::Error(_));
        Some(match event {
            Event::Started => frame("started", &self.started()),
            Event::Token { index, text, .. } => frame("token", &TokenData { t: &text, i: index }),
            Event::Error(cause) => frame("error", &ApiError::Job(cause).body()),
            Event::End(completion) => {
                let asked = self.asked.take()?;
                self.end = Some(Box::pin(receipt(self.worker.clone(), asked, completion)));
                return None;
            }
        })
    }

    /// The bytes of the end, once its receipt is there.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        let (completion, receipt) = ready!(end.as_mut().poll(context));
        self.end = None;
        Poll::Ready(Some(frame("end", &EndData::new(&completion, self.seed, receipt))))
    }

    /// The bytes of the next event; `None` after the last.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !self.ended {
            let event = ready!(self.events.poll_recv(context)).unwrap_or_else(|| {
                Event::Error(JobError::Internal("the engine stopped before the job ended".to_owned()))
            });
            if let Some(bytes) = self.frame(event) {
                return Poll::Ready(Some(bytes));
            }
        }
        self.poll_end(context)
    }

    fn started(&self) -> StartedData<'_> {
        StartedData {
            job_id: &self.job_id,
            model: &self.worker.info.name,
            started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            seed: self.seed,
            correlation_id: self.correlation.as_str(),
        }
    }
}

impl Stream for JobStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Poll::Ready(bytes) = self.poll_event(context) else {
            return self.idle.poll_tick(context).map(|_| Some(Ok(KEEP_ALIVE)));
        };
        self.idle.reset();
        Poll::Ready(bytes.map(Ok))
    }
}

impl Drop for JobStream {
    fn drop(&mut self) {
        // Once the engine let go of its end, the id may already belong to another job.
        if !self.ended && !self.events.is_closed() {
            self.worker.engine.cancel(&self.job_id);
        }
    }
}

fn frame(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("the wire types have string keys and no failing parts");
    format!("event: {name}\ndata: {data}\n\n").into()
}
