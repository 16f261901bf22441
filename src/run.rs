//! `worker-orcd run`: one completion to standard output.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use runtime::huggingface::Quant;
use runtime::numerics::Numerics;
use runtime::request::{Completion, Disconnected, Event, JobError, Request, Sampling, SubmitError};
use runtime::worker::{DeviceChoice, LoadError, LoadOptions, Worker};

use crate::cli::Error;
use crate::{cache, images, progress};

/// Streams the completion of a prompt to standard output, and nothing else
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A GGUF file, a Hugging Face folder, or a name of the catalogue
    #[arg(long)]
    model: String,
    /// Quantises the matrices of a folder: q8_0 or q4_0
    #[arg(long)]
    quant: Option<Quant>,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// f32 or tc; tc on a GPU and f32 on the CPU unless given
    #[arg(long)]
    numerics: Option<Numerics>,
    /// Tokens to generate at most
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_tokens: u32,
    /// 0 takes the most likely token each time
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    temperature: f32,
    /// Seeds the draw; the same seed gives the same text
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The text to go on from
    prompt: String,
}

/// Why a completion failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The model cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The engine does not take the prompt.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The completion ended early.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The engine ended without a word.
    #[error("the engine stopped in the middle of the completion")]
    Stopped,
}

fn temperature(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=2.0).contains(&value) => Ok(value),
        _ => Err("a temperature is a number from 0.0 to 2.0".to_owned()),
    }
}

pub(crate) fn run(args: Args) -> Result<(), Error> {
    let path = cache::resolve(&args.model)?;
    let options = LoadOptions { quant: args.quant, ..alone(path, args.model, args.device, args.numerics) };
    let worker = Worker::load(options, progress::loading()).map_err(RunError::Load)?;
    let request = Request {
        job_id: "run".to_owned(),
        correlation_id: "run".to_owned(),
        prompt: worker.tokenizer.encode(&args.prompt),
        max_tokens: Some(args.max_tokens.min(room(&worker, &args.prompt))),
        sampling: Sampling { temperature: args.temperature, seed: args.seed, ..Sampling::GREEDY },
        ..Request::default()
    };
    let mut out = io::stdout().lock();
    let outcome = complete(&worker, request, |text, _| {
        out.write_all(text.as_bytes())?;
        out.flush()
    });
    worker.stop(Duration::ZERO);
    let completion = outcome?;
    writeln!(out)?;
    let seconds = completion.decode_time.as_secs_f64();
    if completion.tokens_out > 1 && seconds > 0.0 {
        let speed = (completion.tokens_out - 1) as f64 / seconds;
        tracing::info!(event = "execute_end", tokens_out = completion.tokens_out, "{speed:.1} tokens/s");
    }
    Ok(())
}

/// Tokens that the context leaves for the completion; at least one, so that a prompt over the context is refused by the
/// engine, which says why.
fn room(worker: &Worker, prompt: &str) -> u32 {
    worker.engine.limits().tokens().saturating_sub(worker.tokenizer.encode(prompt).len()).max(1) as u32
}

/// How a model is loaded for one request that nobody shares it with.
pub(crate) fn alone(
    path: PathBuf,
    name: String,
    device: DeviceChoice,
    numerics: Option<Numerics>,
) -> LoadOptions {
    LoadOptions {
        path,
        quant: None,
        name,
        device,
        numerics,
        images: images::IMAGES,
        image_cache: cache::images(),
        kv_bytes: None,
        step_tokens: None,
        prefix_cache: false,
        max_batch: Some(1),
        queue_depth: 1,
        timeout: Duration::MAX,
        residency_interval: Duration::from_secs(60),
    }
}

/// Runs the request; `told` hears its text as it comes, and of how many tokens.
pub(crate) fn complete(
    worker: &Worker,
    request: Request,
    mut told: impl FnMut(&str, usize) -> io::Result<()>,
) -> Result<Completion, Error> {
    let (sink, events) = mpsc::channel();
    let send = move |event| sink.send(event).map_err(|_| Disconnected);
    worker.engine.submit(request, Box::new(send)).map_err(RunError::Submit)?;
    for event in events {
        match event {
            Event::Started => {}
            Event::Token { text, tokens, .. } => told(&text, tokens.len())?,
            Event::End(completion) => return Ok(completion),
            Event::Error(error) => return Err(RunError::Job(error).into()),
        }
    }
    Err(RunError::Stopped.into())
}
