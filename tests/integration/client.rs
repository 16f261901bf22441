//! A client of the server: requests, and event streams read as they come.

use std::io::{BufRead, BufReader};
use std::time::Instant;

use libtest_mimic::Failed;
use serde_json::Value;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body, BodyReader};

use crate::common::PATIENCE;
use crate::server::Server;

/// An answer that was read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// The events of a job as they come. Dropped before the end, it closes the connection.
pub(crate) struct Events {
    pub(crate) headers: HeaderMap,
    body: BufReader<BodyReader<'static>>,
}

/// An event's name and data.
pub(crate) type Event = (String, Value);

/// A job's whole stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Completion {
    /// The token events' texts.
    pub(crate) pieces: Vec<String>,
    /// Name of the last event, and its data.
    pub(crate) last: Event,
}

impl Completion {
    /// The text as a whole.
    pub(crate) fn text(&self) -> String {
        self.pieces.concat()
    }

    /// A field of the last event's data.
    pub(crate) fn last(&self, field: &str) -> &Value {
        &self.last.1[field]
    }
}

impl Server {
    /// A connection of its own for each request, so that none waits for another.
    pub(crate) fn agent() -> Agent {
        let config = Agent::config_builder().http_status_as_error(false).proxy(None);
        config.timeout_global(Some(PATIENCE)).max_idle_connections(0).build().into()
    }

    fn send(&self, path: &str, body: &Value) -> Result<Response<Body>, Failed> {
        Ok(Self::agent().post(format!("{}{path}", self.url)).send(body.to_string())?)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Answer, Failed> {
        Answer::read(self.send(path, body)?)
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer, Failed> {
        Answer::read(Self::agent().get(format!("{}{path}", self.url)).call()?)
    }

    /// Waits until the last job's end is behind the worker, which must be well.
    pub(crate) fn idle(&self) -> Result<(), Failed> {
        let start = Instant::now();
        loop {
            let health = self.get("/health")?.body;
            assert_eq!(health["resident"], true, "{health}");
            match health["status"].as_str() {
                Some("ready") => return Ok(()),
                Some("busy") if start.elapsed() < PATIENCE => {}
                _ => return Err(format!("after {:?}: {health}", start.elapsed()).into()),
            }
        }
    }

    /// Starts a job that must be taken.
    pub(crate) fn execute(&self, request: &Value) -> Result<Events, Failed> {
        let response = self.send("/execute", request)?;
        if response.status() != 200 {
            let Answer { status, body } = Answer::read(response)?;
            return Err(format!("{status}: {body}").into());
        }
        let headers = response.headers().clone();
        Ok(Events { headers, body: BufReader::new(response.into_body().into_reader()) })
    }

    /// The whole of a job.
    pub(crate) fn complete(&self, request: &Value) -> Result<Completion, Failed> {
        let mut events = self.execute(request)?;
        events.expect("started")?;
        events.rest()
    }
}

impl Answer {
    fn read(mut response: Response<Body>) -> Result<Answer, Failed> {
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string()?;
        let body = serde_json::from_str(&text).map_err(|error| format!("{status} {text:?}: {error}"))?;
        Ok(Answer { status, body })
    }
}

impl Events {
    /// The next event, `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, Failed> {
        let mut name = None;
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line)? == 0 {
                return if name.is_none() { Ok(None) } else { Err("the stream ends within an event".into()) };
            }
            if let Some(text) = line.strip_prefix("event: ") {
                name = Some(text.trim_end().to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Ok(Some((name.ok_or("data without a name")?, serde_json::from_str(data)?)));
            }
        }
    }

    /// The next event, which must be of this name; its data.
    pub(crate) fn expect(&mut self, name: &str) -> Result<Value, Failed> {
        match self.next()? {
            Some((found, data)) if found == name => Ok(data),
            other => Err(format!("{name} was expected, not {other:?}").into()),
        }
    }

    /// All that is left: token events in their order, then one `end` or `error`, then nothing.
    pub(crate) fn rest(&mut self) -> Result<Completion, Failed> {
        let mut pieces = Vec::new();
        let mut first = None;
        let last = loop {
            let (name, data) = self.next()?.ok_or("the stream ends without an end")?;
            if name != "token" {
                break (name, data);
            }
            let index = data["i"].as_u64().ok_or("no index")?;
            let first = *first.get_or_insert(index);
            assert_eq!(index, first + pieces.len() as u64, "tokens count up");
            pieces.push(data["t"].as_str().ok_or("no text")?.to_owned());
        };
        assert!(last.0 == "end" || last.0 == "error", "{last:?}");
        assert_eq!(self.next()?, None, "nothing follows the end");
        Ok(Completion { pieces, last })
    }
}
