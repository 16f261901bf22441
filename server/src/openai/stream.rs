use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use runtime::receipt::Receipt;
use runtime::request::Event;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, interval_at};
use tokio_stream::Stream;

use super::choice::Choice;
use super::jobs::Jobs;
use super::parameters::Parameters;
use super::{Head, answer, error};
use crate::error::ApiError;
use crate::sse::KEEP_ALIVE;

/// The body of a streamed answer: a chunk for each event of each choice, as it comes; then the usage, if it was asked for;
/// then `[DONE]`. The first choice that fails ends the stream with an error, without `[DONE]`.
pub(super) struct ChunkStream {
    head: Head,
    jobs: Jobs,
    choices: Vec<Choice>,
    include_usage: bool,
    usage: answer::Usage,
    idle: Interval,
    ended: bool,
}

impl ChunkStream {
    pub(super) fn new(
        head: Head,
        parameters: &Parameters,
        jobs: Jobs,
        choices: Vec<Choice>,
        keep_alive: Duration,
    ) -> Self {
        let idle = interval_at(Instant::now() + keep_alive, keep_alive);
        let usage = answer::Usage::new(parameters.n);
        let include_usage = parameters.include_usage;
        Self { head, jobs, choices, include_usage, usage, idle, ended: false }
    }

    /// What an event is in the stream; an empty text where it is nothing.
    fn frames(&mut self, i: usize, event: Event, receipt: Option<Receipt>) -> String {
        let choice = match event {
            Event::Started => self.choices[i].begin(i),
            Event::Token { text, tokens, .. } => self.choices[i].text(i, text, &tokens),
            Event::End(completion) => {
                self.usage.add(i, &completion);
                Some(self.choices[i].end(i, &completion, receipt))
            }
            Event::Error(cause) => {
                self.ended = true;
                return frame(&error::body(&ApiError::Job(cause)));
            }
        };
        choice.map_or_else(String::new, |choice| frame(&self.chunk(json!([choice]), Value::Null)))
    }

    fn chunk(&self, choices: Value, usage: Value) -> Value {
        let mut chunk = self.head.fields(true);
        chunk["choices"] = choices;
        if self.include_usage {
            chunk["usage"] = usage;
        }
        chunk
    }

    fn last(&self) -> String {
        let usage = self.include_usage.then(|| frame(&self.chunk(json!([]), self.usage.body())));
        usage.unwrap_or_default() + "data: [DONE]\n\n"
    }
}

impl Stream for ChunkStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended {
            let Poll::Ready(event) = self.jobs.poll_event(context) else {
                return self.idle.poll_tick(context).map(|_| Some(Ok(KEEP_ALIVE)));
            };
            let frames = match event {
                Some((i, event, receipt)) => self.frames(i, event, receipt),
                None => {
                    self.ended = true;
                    self.last()
                }
            };
            self.idle.reset();
            if !frames.is_empty() {
                return Poll::Ready(Some(Ok(frames.into())));
            }
        }
        Poll::Ready(None)
    }
}

fn frame(data: &Value) -> String {
    format!("data: {data}\n\n")
}
