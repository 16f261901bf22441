//! One request, from its beginning to the end of its stream.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use serde_json::Value;

use super::client::{Client, ClientFault, root};
use super::sse::Events;
use super::wire::{Answer, Terms, Trouble, told};

/// How long the rest of a body is waited for after its last event, so that its connection can be used again.
const TO_CLOSE: Duration = Duration::from_secs(1);
/// What is kept of a server's words, in characters.
const WORDS: usize = 200;

/// What became of a request.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) answer: Answer,
    /// From the beginning to the first text.
    pub(super) first: Option<Duration>,
    /// Between one event with text and the next.
    pub(super) gaps: Vec<Duration>,
    /// From the beginning to the end.
    pub(super) took: Duration,
    pub(super) end: End,
}

/// How an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    /// This side dropped the stream, as it was to.
    Cancelled,
    Failed(Failure),
}

/// Why it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// Failures of a kind are counted together.
    pub(super) kind: String,
    /// What this one said.
    pub(super) words: String,
}

impl Failure {
    fn new(kind: impl Into<String>, words: &str) -> Failure {
        let words = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS).collect();
        Failure { kind: kind.into(), words }
    }
}

impl From<ClientFault> for Failure {
    fn from(fault: ClientFault) -> Failure {
        let kind = if matches!(fault, ClientFault::Connect(_)) { "no connection" } else { "connection lost" };
        Failure::new(kind, &fault.to_string())
    }
}

/// How requests are made.
#[derive(Clone)]
pub(super) struct Exchanger {
    pub(super) client: Client,
    pub(super) terms: Terms,
    pub(super) timeout: Duration,
}

impl Exchanger {
    /// Sends a request that was due at `start`, and reads its stream; `on_text` hears of each event with text.
    pub(super) async fn run(
        &self,
        body: &Value,
        cancel_after: Option<u32>,
        start: Instant,
        on_text: impl Fn(),
    ) -> Exchange {
        let mut exchange = Exchange {
            answer: Answer::default(),
            first: None,
            gaps: Vec::new(),
            took: Duration::ZERO,
            end: End::Complete,
        };
        let read = self.read(body, cancel_after, start, on_text, &mut exchange);
        let read = tokio::time::timeout(self.timeout, read).await;
        let timeout = || Failure::new("timeout", &format!("not over after {} s", self.timeout.as_secs()));
        let unread = match read.unwrap_or_else(|_| Err(timeout())) {
            Ok(unread) => unread,
            Err(failure) => {
                exchange.end = End::Failed(failure);
                None
            }
        };
        exchange.took = start.elapsed();
        if let Some(body) = unread {
            // Not measured. A body whose end has been seen leaves a connection that can be used again.
            let _ = tokio::time::timeout(TO_CLOSE, body.collect()).await;
        }
        exchange
    }

    /// The body, where something may be left to read.
    async fn read(
        &self,
        body: &Value,
        cancel_after: Option<u32>,
        start: Instant,
        on_text: impl Fn(),
        exchange: &mut Exchange,
    ) -> Result<Option<Incoming>, Failure> {
        let response = self.client.post(self.terms.endpoint.path(), body).await?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("text/event-stream") {
            return Err(Failure::new("not understood", "the answer is no event stream"));
        }
        let mut body = response.into_body();
        let cancelled = |chunks: u64| cancel_after.is_some_and(|after| chunks >= u64::from(after));
        if cancelled(0) {
            exchange.end = End::Cancelled;
            return Ok(None);
        }
        let mut events = Events::default();
        let mut last = None;
        while let Some(frame) = body.frame().await {
            let now = Instant::now();
            let frame = frame.map_err(|error| Failure::new("connection lost", &root(&error)))?;
            let Some(bytes) = frame.data_ref() else { continue };
            let mut outcome = Ok(());
            let parsed = events.take(bytes, |event| {
                match exchange.answer.take(self.terms.endpoint, &event) {
                    Ok(false) => {}
                    Ok(true) => {
                        on_text();
                        match last.replace(now) {
                            None => exchange.first = Some(now - start),
                            Some(before) => exchange.gaps.push(now - before),
                        }
                    }
                    Err(trouble) => outcome = Err(trouble),
                }
                outcome.is_ok() && !exchange.answer.over && !cancelled(exchange.answer.chunks)
            });
            outcome.map_err(|trouble| match trouble {
                Trouble::Told(code, words) => Failure::new(format!("error event {code}").trim(), &words),
                Trouble::NotUnderstood(what) => Failure::new("not understood", what),
            })?;
            parsed.map_err(|fault| Failure::new("not understood", &fault.to_string()))?;
            if exchange.answer.over {
                return Ok(Some(body));
            }
            if cancelled(exchange.answer.chunks) {
                exchange.end = End::Cancelled;
                return Ok(None);
            }
        }
        if exchange.answer.is_whole() {
            Ok(None)
        } else {
            Err(Failure::new("connection lost", "the stream ended before the completion"))
        }
    }
}

/// An answer that is no success.
async fn refused(response: Response<Incoming>) -> Failure {
    let status = response.status().as_u16();
    let body = match Client::body(response).await {
        Ok(body) => body,
        Err(fault) => return Failure::new(format!("status {status}"), &fault.to_string()),
    };
    let error = serde_json::from_slice(&body).map(|body: Value| told(&body));
    match error {
        Ok(Trouble::Told(code, words)) => Failure::new(format!("status {status} {code}").trim(), &words),
        _ => Failure::new(format!("status {status}"), ""),
    }
}
