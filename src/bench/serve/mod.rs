//! `worker-orcd bench serve`: puts a running server under load, ours or another that speaks OpenAI's API.

mod args;
mod arrivals;
mod client;
mod dataset;
mod drive;
mod exchange;
mod histogram;
mod invariance;
mod measure;
mod progress;
mod random;
mod report;
mod sse;
mod wire;
mod workload;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

pub use args::Args;
use args::Endpoint;
use arrivals::Arrivals;
use client::Client;
use drive::{Driver, Pace};
use exchange::Exchanger;
use invariance::Findings;
use measure::{Errors, Figures};
use wire::Terms;
use workload::Workload;

use crate::cli::Error;

/// Why there are no figures, or why they are no success.
#[derive(Debug, thiserror::Error)]
pub enum LoadFault {
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// A line of a dataset is not understood.
    #[error("{}: line {line}: {problem}", path.display())]
    Dataset {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The variable that was to have the key is not set.
    #[error("--api-key-env: there is no environment variable {0}, or it is no text")]
    NoKey(String),
    /// A key that no header can hold.
    #[error("the API key has characters that a header cannot have")]
    BadKey,
    /// Only one concurrency can be measured at a time.
    #[error("--concurrency takes a list only with --verify-invariance")]
    OneConcurrency,
    /// The system grants no threads.
    #[error("cannot start: {0}")]
    Start(io::Error),
    /// The server does not answer a question.
    #[error("{url}: {problem}")]
    Asked {
        /// What was asked.
        url: String,
        /// What came instead of an answer.
        problem: String,
    },
    /// The server has no model.
    #[error("the server's /v1/models names no model; --model does")]
    NoModel,
    /// Requests failed.
    #[error("{failed} of {requests} requests failed, most often: {most}")]
    Failed {
        /// How many.
        failed: usize,
        /// Of how many.
        requests: usize,
        /// The kind of most of them.
        most: String,
    },
    /// Answers differ from those that the same requests got alone.
    #[error("{0} answers differ from those that the same requests got alone")]
    Different(usize),
    /// There were no answers to compare.
    #[error("nothing was compared: answers were empty, or there were none")]
    NothingCompared,
}

/// Puts a server under load, and prints what that came to.
pub(super) fn run(args: Args) -> Result<(), Error> {
    let fault = super::BenchFault::Load;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(LoadFault::Start).map_err(fault)?.block_on(async {
        let driver = Arc::new(prepare(&args).await.map_err(fault)?);
        if args.verify_invariance { verify(&args, &driver).await } else { load(&args, &driver).await }
    })
}

/// Reads all that is to be read before the first request.
async fn prepare(args: &Args) -> Result<Driver, LoadFault> {
    let workload = Workload::new(args)?;
    if !args.verify_invariance {
        args.concurrency()?;
    }
    let client = Client::new(args.url.clone(), args.key()?.as_deref())?;
    let model = match (&args.model, args.endpoint) {
        (Some(model), _) => Some(model.clone()),
        (None, Endpoint::Execute) => client.get("/health").await?["model"].as_str().map(str::to_owned),
        (None, _) => {
            let models = client.get("/v1/models").await?;
            Some(models["data"][0]["id"].as_str().ok_or(LoadFault::NoModel)?.to_owned())
        }
    };
    let terms = Terms {
        endpoint: args.endpoint,
        model,
        seeded: args.seed.is_some() || args.verify_invariance,
        ignore_eos: args.ignore_eos,
    };
    Ok(Driver {
        exchanger: Exchanger { client, terms, timeout: Duration::from_secs(args.timeout) },
        workload,
    })
}

async fn load(args: &Args, driver: &Arc<Driver>) -> Result<(), Error> {
    let requests = args.requests as usize;
    let closed = args.concurrency().map_err(super::BenchFault::Load)?;
    if args.warmup > 0 {
        // Others than those that count, so that nobody has seen these.
        let order: Vec<usize> = (requests..requests + args.warmup as usize).collect();
        let warm = driver.drive("warm-up", order, Pace::Closed(closed)).await;
        let errors = Errors::of(warm.exchanges.iter().map(|(_, exchange)| exchange));
        allowed(args, &errors, warm.exchanges.len()).map_err(super::BenchFault::Load)?;
    }
    let pace = match args.rate {
        Some(rate) => Pace::Open(Arrivals::new(rate, args.seed.unwrap_or(0))),
        None => Pace::Closed(closed),
    };
    let driven = driver.drive("load", (0..requests).collect(), pace).await;
    let figures = Figures::of(&driven);
    if prints_table(args) {
        let text = head(args, driver) + &report::to_text(&figures);
        io::stdout().write_all(text.as_bytes())?;
    }
    let mut all = about(args, driver, "load");
    all.as_object_mut().expect("an object was written").extend(report::to_json(&figures));
    write_json(args, &all)?;
    Ok(allowed(args, &figures.errors, requests).map_err(super::BenchFault::Load)?)
}

async fn verify(args: &Args, driver: &Arc<Driver>) -> Result<(), Error> {
    let mut out: Box<dyn Write + Send> =
        if prints_table(args) { Box::new(io::stdout()) } else { Box::new(io::sink()) };
    out.write_all(head(args, driver).as_bytes())?;
    let (requests, seed) = (args.requests as usize, args.seed.unwrap_or(0));
    let findings = invariance::run(driver, requests, &args.concurrencies(), seed, &mut *out).await?;
    let mut all = about(args, driver, "verify_invariance");
    let found = findings.to_json();
    all.as_object_mut()
        .expect("an object was written")
        .extend(found.as_object().cloned().unwrap_or_default());
    write_json(args, &all)?;
    Ok(verdict(args, &findings).map_err(super::BenchFault::Load)?)
}

/// Whether every answer is the same as alone, and there were answers.
fn verdict(args: &Args, findings: &Findings) -> Result<(), LoadFault> {
    if findings.different() > 0 {
        return Err(LoadFault::Different(findings.different()));
    }
    for (errors, requests) in findings.errors() {
        allowed(args, errors, requests)?;
    }
    if findings.is_empty() { Err(LoadFault::NothingCompared) } else { Ok(()) }
}

/// Whether a run with these failures is a success.
fn allowed(args: &Args, errors: &Errors, requests: usize) -> Result<(), LoadFault> {
    let Some(most) = errors.most().filter(|_| !args.allow_errors) else { return Ok(()) };
    Err(LoadFault::Failed { failed: errors.count(), requests, most: most.to_owned() })
}

fn prints_table(args: &Args) -> bool {
    args.json.as_deref() != Some(Path::new("-"))
}

/// What was asked of whom.
fn head(args: &Args, driver: &Driver) -> String {
    let model = driver.exchanger.terms.model.as_deref().unwrap_or("of an unknown name");
    let lengths = match &args.dataset {
        Some(path) => format!("prompts of {}", path.display()),
        None => format!("prompts of {} + {} words", args.shared_prefix, args.input_len),
    };
    format!(
        "server      {}{}, model {model}\nworkload    {lengths}, {} tokens to generate, seed {}\n",
        args.url,
        args.endpoint.path(),
        args.output_len,
        args.seed.unwrap_or(0),
    )
}

/// The same as JSON.
fn about(args: &Args, driver: &Driver, mode: &str) -> Value {
    let range = |range: args::Range| json!([range.least, range.most]);
    json!({
        "format": report::FORMAT,
        "version": env!("CARGO_PKG_VERSION"),
        "mode": mode,
        "url": args.url.to_string(),
        "endpoint": args.endpoint.path(),
        "model": driver.exchanger.terms.model,
        "workload": {
            "requests": args.requests,
            "concurrency": match (args.rate, args.verify_invariance) {
                (Some(_), _) => Value::Null,
                (None, true) => json!(args.concurrencies()),
                (None, false) => json!(args.concurrency().ok()),
            },
            "rate": args.rate,
            "input_words": args.dataset.is_none().then(|| range(args.input_len)),
            "shared_prefix_words": args.shared_prefix,
            "output_tokens": range(args.output_len),
            "dataset": args.dataset,
            "seed": args.seed.unwrap_or(0),
            "temperature": args.temperature,
            "ignore_eos": args.ignore_eos,
            "cancel_share": args.cancel_share,
            "warmup": args.warmup,
        },
    })
}

fn write_json(args: &Args, all: &Value) -> Result<(), Error> {
    let Some(path) = &args.json else { return Ok(()) };
    let text = format!("{all:#}\n");
    if prints_table(args) {
        let fault = |error| super::BenchFault::Load(LoadFault::Io { path: path.clone(), error });
        fs::write(path, text).map_err(fault)?;
    } else {
        io::stdout().write_all(text.as_bytes())?;
    }
    Ok(())
}
