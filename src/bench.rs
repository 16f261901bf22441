//! `worker-orcd bench`: how fast a model runs here, and how much of the memory's bandwidth that is. `bench serve` asks a
//! running server instead.

pub mod serve;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use indicatif::DecimalBytes;
use runtime::bench::{About, Bench, BenchError, Kind, Options, Row};
use runtime::checkpoint::{Checkpoint, CheckpointError};
use runtime::device::{DeviceError, Spent};
use runtime::gguf::{Gguf, TensorType};
use runtime::huggingface::Quant;
use runtime::model::ModelError;
use runtime::numerics::Numerics;
use runtime::synthetic::{self, Shape};
use runtime::worker::DeviceChoice;
use serde_json::{Value, json};

use crate::cli::Error;
use crate::{cache, images, progress};

/// Measures prompts and generation, and the share of the memory's bandwidth that they use
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    of: Option<Of>,
    /// A GGUF file, a Hugging Face folder, or a name of the catalogue
    #[arg(long, required_unless_present = "synthetic", conflicts_with = "synthetic")]
    model: Option<String>,
    /// In place of a file, with weights drawn on the device: smollm2-135m, llama-3.2-1b, llama-3-8b, mistral-7b, qwen2.5-7b,
    /// qwen3-8b, phi-3.5-mini, gpt2, gpt2-xl or gpt-oss-20b
    #[arg(long, value_name = "SHAPE", value_parser = Shape::named, requires = "quant")]
    synthetic: Option<&'static Shape>,
    #[arg(
        long,
        value_parser = synthetic::quant,
        help = format!(
            "How such weights are stored: {}; or what those of a folder are quantised to",
            synthetic::quant_names()
        )
    )]
    quant: Option<TensorType>,
    /// Lengths of prompts; 0 for none
    #[arg(short, long, value_name = "TOKENS", value_delimiter = ',', default_value = "512")]
    prompt: Vec<usize>,
    /// Numbers of tokens to generate in each stream; 0 for none
    #[arg(short = 'n', long, value_name = "TOKENS", value_delimiter = ',', default_value = "128")]
    generate: Vec<usize>,
    /// Numbers of streams that generate at once
    #[arg(long, value_name = "STREAMS", value_delimiter = ',', default_value = "1")]
    batch: Vec<usize>,
    /// Tokens that are in each stream before
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,
    /// Measured repetitions, after one that is not
    #[arg(short, long, default_value_t = 3)]
    repetitions: usize,
    /// Tokens of a prompt computed at once; as many as `serve` takes unless given
    #[arg(long, value_name = "TOKENS")]
    step: Option<usize>,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// f32 or tc; tc on a GPU and f32 on the CPU unless given
    #[arg(long)]
    numerics: Option<Numerics>,
    /// Runs each row once more with every launch timed, and shows where the time goes
    #[arg(long)]
    profile: bool,
    /// Writes all numbers to a file too; to standard output in place of the table with -
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What else than a model can be measured.
#[derive(Debug, clap::Subcommand)]
enum Of {
    Serve(Box<serve::Args>),
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchFault {
    /// The model's file or folder cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A folder was to be quantised to something else.
    #[error("--quant: {0}")]
    Quant(String),
    /// The model cannot be made.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device is not there or does not work.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Nothing can be measured.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// A server under load.
    #[error(transparent)]
    Load(#[from] serve::LoadFault),
    /// The numbers cannot be written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
}

/// Measures, and prints rows as they come.
pub(crate) fn run(args: Args) -> Result<(), Error> {
    if let Some(Of::Serve(args)) = args.of {
        return serve::run(*args);
    }
    let (name, gguf) = model(&args)?;
    let (device, taken) = args.device.open(images::IMAGES, cache::images()).map_err(BenchFault::Device)?;
    tracing::info!(event = "startup", device = device.name(), "runs on {taken}");
    let options = Options {
        prompts: args.prompt,
        generate: args.generate,
        batches: args.batch,
        depths: args.depth,
        repetitions: args.repetitions,
        step: args.step,
        profile: args.profile,
        numerics: args.numerics,
    };
    let mut progress = progress::uploading();
    let mut bench = Bench::load(&device, &gguf, options, &mut progress).map_err(BenchFault::Bench)?;

    let table = args.json.as_deref() != Some(Path::new("-"));
    let mut out = io::stdout().lock();
    if table {
        out.write_all(heading(&name, &bench.about).as_bytes())?;
    }
    let (mut printed, copy) = (Ok(()), bench.about.copy);
    let rows = bench.run(&mut |row| {
        if table && printed.is_ok() {
            printed = line(&mut out, row, copy);
        }
    });
    let rows = rows.map_err(BenchFault::Bench)?;
    printed?;
    if let Some(path) = &args.json {
        let mut text =
            serde_json::to_string_pretty(&to_json(&name, &bench.about, &rows)).map_err(io::Error::from)?;
        text.push('\n');
        if table {
            fs::write(path, text).map_err(|error| BenchFault::Io { path: path.clone(), error })?;
        } else {
            out.write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

/// What to call the model, and the model.
fn model(args: &Args) -> Result<(String, Gguf), Error> {
    if let (Some(shape), Some(quant)) = (args.synthetic, args.quant) {
        let gguf = synthetic::model(shape, quant, 0).map_err(BenchFault::Model)?;
        return Ok((format!("synthetic {}", shape.name), gguf));
    }
    let name = args.model.clone().unwrap_or_default();
    let path = cache::resolve(&name)?;
    let quant = args.quant.map(|ty| ty.name().to_lowercase().parse::<Quant>()).transpose();
    let quant = quant.map_err(BenchFault::Quant)?;
    let checkpoint = Checkpoint::open(&path, quant).map_err(BenchFault::Checkpoint)?;
    Ok((name, checkpoint.into_gguf()))
}

fn gb(bytes: f64) -> f64 {
    bytes / 1e9
}

/// All that holds for every row.
fn heading(name: &str, about: &About) -> String {
    let About { device, description, architecture, quant, numerics, step, repetitions, .. } = about;
    let driver =
        about.driver.as_ref().map(|version| format!(", driver for CUDA {version}")).unwrap_or_default();
    let weights = DecimalBytes(about.weight_bytes);
    format!(
        "model     {name}: {architecture}, {quant}, {weights} of weights\n\
         device    {device}: {description}{driver}\n\
         numerics  {numerics}\n\
         loaded    {weights} in {:.2} s, {:.2} GB/s\n\
         memory    {} of keys and values, {} of all else\n\
         copy      {:.1} GB/s read and written\n\
         prompts   {step} tokens a step; every row the mean of {repetitions} after one more\n\n\
         {:<22}{:>22}{:>12}{:>12}{:>10}{:>10}\n",
        about.load_seconds,
        gb(about.weight_bytes as f64) / about.load_seconds,
        DecimalBytes(about.kv_bytes),
        DecimalBytes(about.other_bytes),
        gb(about.copy),
        "test",
        "tokens/s",
        "ms/step",
        "GB/step",
        "GB/s",
        "of copy",
    )
}

fn line(out: &mut impl Write, row: &Row, copy: f64) -> io::Result<()> {
    let (mean, deviation) = row.tokens_per_second();
    writeln!(
        out,
        "{:<22}{:>22}{:>12.3}{:>12.4}{:>10.1}{:>9.1}%",
        row.name(),
        format!("{mean:.2} ± {deviation:.2}"),
        1e3 * row.seconds_per_step(),
        gb(row.bytes_per_step()),
        gb(row.bytes_per_second()),
        100.0 * row.bytes_per_second() / copy,
    )?;
    let total: f64 = row.profile.iter().map(|spent| spent.time.as_secs_f64()).sum();
    for Spent { name, launches, time } in &row.profile {
        let seconds = time.as_secs_f64();
        let (share, each) = (100.0 * seconds / total, 1e6 * seconds / *launches as f64);
        writeln!(out, "  {share:5.1}% {:>10.3} ms {launches:>6} x {each:>9.2} us  {name}", 1e3 * seconds)?;
    }
    Ok(())
}

fn spent(spent: &Spent) -> Value {
    json!({ "name": spent.name, "launches": spent.launches, "seconds": spent.time.as_secs_f64() })
}

fn to_json(name: &str, about: &About, rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let (mean, deviation) = row.tokens_per_second();
        json!({
            "name": row.name(),
            "kind": if row.kind == Kind::Prompt { "prompt" } else { "generate" },
            "tokens": row.tokens,
            "batch": row.batch,
            "depth": row.depth,
            "tokens_per_second": mean,
            "tokens_per_second_deviation": deviation,
            "seconds": row.seconds,
            "steps": row.steps,
            "ms_per_step": 1e3 * row.seconds_per_step(),
            "bytes_per_step": row.bytes_per_step(),
            "gb_per_second": gb(row.bytes_per_second()),
            "share_of_copy": row.bytes_per_second() / about.copy,
            "profile": row.profile.iter().map(spent).collect::<Vec<_>>(),
        })
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ptx_sha256": images::PTX_HASH,
        "model": name,
        "architecture": about.architecture,
        "quant": about.quant,
        "device": about.device,
        "description": about.description,
        "driver": about.driver,
        "numerics": about.numerics,
        "weight_bytes": about.weight_bytes,
        "kv_bytes": about.kv_bytes,
        "other_bytes": about.other_bytes,
        "load_seconds": about.load_seconds,
        "load_gb_per_second": gb(about.weight_bytes as f64) / about.load_seconds,
        "copy_gb_per_second": gb(about.copy),
        "tokens_per_prompt_step": about.step,
        "repetitions": about.repetitions,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    })
}
