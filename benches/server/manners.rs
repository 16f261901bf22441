//! The well-behaved side of every mode: requests whose answers are known, and what must be free when all have left.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Outcome;
use crate::client::{Answer, Client, Completion};
use crate::report::Report;
use crate::server::Server;

/// What the server may take to be idle after everybody has left.
const SETTLES: Duration = Duration::from_secs(5);

/// A request and its answer where nobody else asks.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    request: Value,
    answer: Completion,
}

impl Known {
    /// Requests that differ in how their tokens are chosen, of `max_tokens` each; asked twice on a quiet server, since a
    /// comparison with an answer that is not the same each time would say nothing.
    pub(crate) async fn ask(client: &Client, max_tokens: u32) -> Outcome<Vec<Known>> {
        let mut known = Vec::new();
        for (prompt, temperature, seed) in
            [("Once upon a time", 0.0, 1), ("The capital of France is", 1.0, 2), ("the book", 0.8, 3)]
        {
            let request = json!({"prompt": prompt, "max_tokens": max_tokens, "temperature": temperature,
                "repetition_penalty": 1.1, "seed": seed});
            let mut again = Vec::new();
            for time in 0..2 {
                again.push(client.complete(&named(&request, &format!("known-{time}")), &mut 0).await?);
            }
            if again[0] != again[1] || again[0].last.0 != "end" {
                return Err(format!("a quiet server answers {:?}, then {:?}", again[0], again[1]).into());
            }
            known.push(Known { request, answer: again.swap_remove(0) });
        }
        Ok(known)
    }

    /// Asks once more; an answer that differs is an error. The answer's time.
    pub(crate) async fn again(&self, client: &Client, job_id: &str, refused: &mut u64) -> Outcome<Duration> {
        let start = Instant::now();
        let answer = client.complete(&named(&self.request, job_id), refused).await?;
        if answer == self.answer {
            Ok(start.elapsed())
        } else {
            Err(format!("{job_id}: {answer:?}, but alone {:?}", self.answer).into())
        }
    }
}

/// The request under an id.
pub(crate) fn named(request: &Value, job_id: &str) -> Value {
    let mut request = request.clone();
    request["job_id"] = json!(job_id);
    request
}

/// A job without `max_tokens` takes all pages of a cache of one context, and lasts.
pub(crate) fn endless(job_id: &str) -> Value {
    json!({"job_id": job_id, "prompt": "Once upon a time", "temperature": 1.0, "repetition_penalty": 1.1})
}

/// Everybody has left: no job may be left, and a job that needs every page must begin.
pub(crate) async fn leaves_nothing(server: &Server, report: &mut Report) -> Outcome<()> {
    let client = Client::new(&server.address)?;
    let left = Instant::now();
    loop {
        let still = still_there(&client).await?;
        if still.is_empty() {
            break;
        }
        if left.elapsed() > SETTLES {
            report.fault(format!("{SETTLES:?} after everybody left there is still {}", still.join(", ")));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    report.number("idle_after_ms", left.elapsed().as_millis() as u64);

    let begins = async {
        let Answer::Taken(mut events) = client.execute(&endless("all-pages")).await? else {
            return Err("a job for all pages is refused".into());
        };
        match events.next().await? {
            Some((name, _)) if name == "started" => Ok(()),
            other => Err(format!("a job for all pages gets {other:?}").into()),
        }
    };
    let began: Outcome<()> = tokio::time::timeout(SETTLES, begins)
        .await
        .unwrap_or_else(|_| Err(format!("a job for all pages does not begin within {SETTLES:?}").into()));
    if let Err(error) = began {
        report.fault(error.to_string());
    }
    let log = server.log();
    for kind in ["not JSON", "error INTERNAL", "error CUDA_ERROR", "error KERNEL_LAUNCH_FAILED"] {
        if let Some(lines) = log.get(kind) {
            report.fault(format!("{lines} lines of the server's log: {kind}"));
        }
    }
    report.number("log", serde_json::to_value(log)?);
    Ok(())
}

/// What of jobs is left, in words: by `/metrics` where the server has it, else by the status of `/health`.
async fn still_there(client: &Client) -> Outcome<Vec<String>> {
    let (status, text) = client.get("/metrics").await?;
    if status == 200 {
        let left = |line: &str| {
            let jobs = ["worker_running", "worker_queue_depth"].iter().any(|name| line.starts_with(name));
            let pages = line.starts_with("worker_kv_pages{") && line.contains("\"used\"");
            (jobs || pages) && !line.ends_with(" 0")
        };
        let named = ["worker_running", "worker_queue_depth", "worker_kv_pages"];
        if let Some(name) = named.iter().find(|name| !text.contains(*name)) {
            return Err(format!("/metrics has no {name}").into());
        }
        return Ok(text.lines().filter(|line| left(line)).map(str::to_owned).collect());
    }
    let (_, text) = client.get("/health").await?;
    let health: Value = serde_json::from_str(&text)?;
    Ok(if health["status"] == "ready" { Vec::new() } else { vec![format!("status {}", health["status"])] })
}
