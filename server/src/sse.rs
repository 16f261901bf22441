use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use runtime::receipt::Receipt;
use runtime::request::Event;
use serde::Serialize;
use tokio::time::{Instant, Interval, interval_at};
use tokio_stream::Stream;
use warp::Reply;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use warp::reply::Response;

use crate::correlation::CorrelationId;
use crate::error::ApiError;
use crate::job::Job;
use crate::wire::{EndData, StartedData, TokenData};

/// The body of an answer to `/execute`: each event of a job as one server-sent event, the moment it exists, and a
/// comment whenever nothing was sent for a while.
pub(crate) struct JobStream {
    job: Job,
    correlation: CorrelationId,
    idle: Interval,
}

/// A comment, which readers skip.
pub(crate) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

impl JobStream {
    pub(crate) fn new(job: Job, correlation: CorrelationId, keep_alive: Duration) -> Self {
        let idle = interval_at(Instant::now() + keep_alive, keep_alive);
        Self { job, correlation, idle }
    }

    pub(crate) fn into_reply(self) -> impl Reply {
        reply(self)
    }

    fn frame(&self, event: &Event, receipt: Option<Receipt>) -> Bytes {
        match event {
            Event::Started => frame("started", &self.started()),
            Event::Token { index, text, .. } => frame("token", &TokenData { t: text, i: *index }),
            Event::End(completion) => frame("end", &EndData::new(completion, self.job.seed(), receipt)),
            Event::Error(cause) => frame("error", &ApiError::Job(cause.clone()).body()),
        }
    }

    fn started(&self) -> StartedData<'_> {
        StartedData {
            job_id: self.job.id(),
            model: &self.job.worker().info.name,
            started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            seed: self.job.seed(),
            correlation_id: self.correlation.as_str(),
        }
    }
}

impl Stream for JobStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Poll::Ready(event) = self.job.poll_event(context) else {
            return self.idle.poll_tick(context).map(|_| Some(Ok(KEEP_ALIVE)));
        };
        self.idle.reset();
        Poll::Ready(event.map(|(event, receipt)| Ok(self.frame(&event, receipt))))
    }
}

/// A 200 with this body, marked as nothing to cache or to buffer on the way.
pub(crate) fn reply(
    frames: impl Stream<Item = Result<Bytes, Infallible>> + Send + Sync + 'static,
) -> Response {
    let mut response = warp::reply::stream(frames).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn frame(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("the wire types have string keys and no failing parts");
    format!("event: {name}\ndata: {data}\n\n").into()
}
