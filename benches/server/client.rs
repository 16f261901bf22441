//! A well-behaved client: whole requests, and streams that it reads to their end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::Outcome;

/// What any exchange may take, a whole stream included: a job that is left over shows as this time passing.
const PATIENCE: Duration = Duration::from_secs(300);

/// A connection of its own for each request, so that closing one ends one job.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
}

/// The answer to `/execute`.
pub(crate) enum Answer {
    Taken(Events),
    /// The status and the code.
    Refused(u16, String),
}

/// The events of a job as they come. Dropped before the end, it closes the connection.
pub(crate) struct Events {
    response: reqwest::Response,
    /// What has come of the event that is next.
    text: String,
}

/// An event's name and data.
pub(crate) type Event = (String, Value);

/// A job's whole stream, without what is time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Completion {
    /// The token events' data, as they came.
    tokens: Vec<Value>,
    /// The last event: its name and those of its fields that the request alone decides.
    pub(crate) last: Event,
}

impl Client {
    pub(crate) fn new(address: &str) -> Outcome<Client> {
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(PATIENCE);
        Ok(Client { http: http.build()?, url: format!("http://{address}") })
    }

    /// Status and body.
    pub(crate) async fn get(&self, path: &str) -> Outcome<(u16, String)> {
        let response = self.http.get(format!("{}{path}", self.url)).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    async fn post(&self, path: &str, body: &Value) -> Outcome<reqwest::Response> {
        let request =
            self.http.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        Ok(request.body(body.to_string()).send().await?)
    }

    pub(crate) async fn execute(&self, request: &Value) -> Outcome<Answer> {
        let response = self.post("/execute", request).await?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(Answer::Taken(Events { response, text: String::new() }));
        }
        let body: Value = serde_json::from_str(&response.text().await?)?;
        Ok(Answer::Refused(status, body["code"].as_str().unwrap_or("INVALID_REQUEST").to_owned()))
    }

    pub(crate) async fn cancel(&self, job_id: &str) -> Outcome<()> {
        let status = self.post("/cancel", &json!({"job_id": job_id})).await?.status();
        if status == 202 { Ok(()) } else { Err(format!("/cancel answered {status}").into()) }
    }

    /// The stream of a job. A full queue is no refusal: it comes again, as it was told to; `refused` counts how often.
    pub(crate) async fn begin(&self, request: &Value, refused: &mut u64) -> Outcome<Events> {
        loop {
            match self.execute(request).await? {
                Answer::Taken(events) => return Ok(events),
                Answer::Refused(429, _) => *refused += 1,
                Answer::Refused(status, code) => {
                    return Err(format!("/execute answered {status} {code}").into());
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The whole of a job.
    pub(crate) async fn complete(&self, request: &Value, refused: &mut u64) -> Outcome<Completion> {
        self.begin(request, refused).await?.rest().await
    }
}

impl Events {
    /// The next event, `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Outcome<Option<Event>> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let parsed = parse(event)?;
                self.text = rest.to_owned();
                match parsed {
                    Some(event) => return Ok(Some(event)),
                    // A comment, which keeps the connection alive.
                    None => continue,
                }
            }
            match self.response.chunk().await? {
                Some(bytes) => self.text += std::str::from_utf8(&bytes)?,
                None if self.text.is_empty() => return Ok(None),
                None => return Err("the stream ends within an event".into()),
            }
        }
    }

    /// All that is left, in the order that the contract gives.
    pub(crate) async fn rest(mut self) -> Outcome<Completion> {
        let mut tokens = Vec::new();
        loop {
            let (name, data) = self.next().await?.ok_or("the stream ends without an end")?;
            match name.as_str() {
                "started" if tokens.is_empty() => {}
                "token" => tokens.push(data),
                "end" | "error" => {
                    if let Some(event) = self.next().await? {
                        return Err(format!("{event:?} follows the end").into());
                    }
                    let kept = ["tokens_in", "tokens_out", "stop_reason", "seed", "code"];
                    let last = kept.iter().map(|&field| (field.to_owned(), data[field].clone())).collect();
                    return Ok(Completion { tokens, last: (name, Value::Object(last)) });
                }
                _ => return Err(format!("an event {name} out of order").into()),
            }
        }
    }
}

/// An event of its lines; `None` for a comment.
fn parse(lines: &str) -> Outcome<Option<Event>> {
    let field = |name: &str| lines.lines().find_map(|line| line.strip_prefix(name));
    match (field("event: "), field("data: ")) {
        (Some(name), Some(data)) => Ok(Some((name.to_owned(), serde_json::from_str(data)?))),
        _ if lines.starts_with(':') => Ok(None),
        _ => Err(format!("no event: {lines:?}").into()),
    }
}
