//! `worker-orcd trace`: token ids in, numbers out, compared with golden data if asked.

mod compare;
mod golden;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use runtime::batch::BatchLimits;
use runtime::device::DeviceError;
use runtime::gguf::{Gguf, GgufError};
use runtime::kv_cache::pages_for;
use runtime::model::{Model, ModelError, Plan};
use runtime::numerics::{Form, Numerics};
use runtime::trace::{Layer, PromptTrace, trace_prompt};
use runtime::worker::DeviceChoice;
use serde_json::{Value, json};

use crate::cli::Error;
use crate::{cache, images, sha256};

use compare::{Row, compare};
use golden::Golden;

/// Shows what a model computes for token ids, and compares it with golden data
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A GGUF file
    #[arg(long)]
    model: PathBuf,
    /// The prompt's token ids
    #[arg(long, value_delimiter = ',', required_unless_present = "golden", conflicts_with = "golden")]
    ids: Vec<u32>,
    /// Golden data: runs its prompts, prints a row each, and fails where they differ
    #[arg(long)]
    golden: Option<PathBuf>,
    /// Greedy steps after the prompt; as many as the golden data has, else 16
    #[arg(long)]
    steps: Option<usize>,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// f32 or tc; tc on a GPU and f32 on the CPU unless given
    #[arg(long)]
    numerics: Option<Numerics>,
    /// Shows the residual stream after each block
    #[arg(long)]
    layers: bool,
    /// Writes all numbers to a file
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// Greatest difference of a logit, relative to the greatest logit
    #[arg(long)]
    tolerance: Option<f64>,
}

/// What rounding to the form of the products' inputs may change, relative to the greatest logit. Weights are dequantised
/// exactly in f32 numerics, so that their type makes no difference there. In a mixture a small difference can make another
/// expert a token's last one.
fn tolerance(numerics: Numerics, gguf: &Gguf) -> f64 {
    let stored = gguf.tensors().iter().filter(|tensor| tensor.dims.len() > 1);
    let stored = stored.filter_map(|tensor| tensor.ty.stored());
    let mixture = gguf.tensors().iter().any(|tensor| tensor.dims.len() == 3);
    let of = |stored| match numerics.form(stored) {
        Form::F32 => 1e-4,
        Form::F16 => 5e-3,
        Form::Bf16 if mixture => 5e-2,
        Form::Bf16 => 2e-2,
    };
    stored.map(of).fold(1e-4, f64::max)
}

/// Why a trace failed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The model's file cannot be read.
    #[error(transparent)]
    File(#[from] GgufError),
    /// The device is not there or does not work.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        error: std::io::Error,
    },
    /// The golden data are not what they should be.
    #[error("{}: {problem}", path.display())]
    Golden {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A prompt is too long.
    #[error("a prompt of {prompt} tokens with {steps} steps exceeds the model's context of {context}")]
    Context {
        /// Tokens of the prompt.
        prompt: usize,
        /// Greedy steps.
        steps: usize,
        /// Positions of the model.
        context: usize,
    },
    /// The comparison failed.
    #[error("{failed} of {prompts} prompts differ from {}", path.display())]
    Differs {
        /// Prompts that differ.
        failed: usize,
        /// Prompts compared.
        prompts: usize,
        /// The golden data.
        path: PathBuf,
    },
}

pub(crate) fn run(args: Args) -> Result<(), Error> {
    let Traced { golden, traces, tolerance } = trace(&args)?;
    let mut out = io::stdout().lock();
    match (golden, args.golden) {
        (Some(golden), Some(path)) => {
            let tolerance = args.tolerance.unwrap_or(tolerance);
            let pairs = golden.prompts.iter().zip(&traces);
            let rows: Vec<Row> = pairs.map(|(want, got)| compare(want, got, tolerance)).collect();
            let written = write_rows(&mut out, &rows, &traces);
            // The verdict counts, whether or not anybody reads the rows.
            let failed = rows.iter().filter(|row| !row.passes()).count();
            if failed > 0 {
                return Err(TraceError::Differs { failed, prompts: rows.len(), path }.into());
            }
            written?;
        }
        _ => {
            for trace in &traces {
                write_trace(&mut out, trace, args.layers)?;
            }
        }
    }
    Ok(())
}

/// What was computed, and what it is compared with.
struct Traced {
    golden: Option<Golden>,
    traces: Vec<PromptTrace>,
    /// That of the numerics.
    tolerance: f64,
}

/// Computes the prompts of the golden data, if there are any, or the one of the command line.
fn trace(args: &Args) -> Result<Traced, TraceError> {
    let golden = args.golden.as_deref().map(Golden::read).transpose()?;
    let gguf = Gguf::open(&args.model)?;
    let sha256 =
        sha256::of_file(&args.model).map_err(|error| TraceError::Io { path: args.model.clone(), error })?;
    if let (Some(golden), Some(path)) = (&golden, &args.golden)
        && golden.sha256 != sha256
    {
        let problem = format!("is of another model: sha256 {}, not {sha256}", golden.sha256);
        return Err(TraceError::Golden { path: path.clone(), problem });
    }
    let prompts: Vec<(Vec<u32>, usize)> = match &golden {
        Some(golden) => {
            golden.prompts.iter().map(|p| (p.ids.clone(), args.steps.unwrap_or(p.greedy.len()))).collect()
        }
        None => vec![(args.ids.clone(), args.steps.unwrap_or(16))],
    };

    let config = runtime::model::config::ModelConfig::from_gguf(&gguf)?;
    for (ids, steps) in &prompts {
        if ids.len().saturating_add(*steps) > config.context {
            let (prompt, steps, context) = (ids.len(), *steps, config.context);
            return Err(TraceError::Context { prompt, steps, context });
        }
    }
    let longest = prompts.iter().map(|(ids, _)| ids.len()).max().unwrap_or(1);
    let positions = prompts.iter().map(|(ids, steps)| ids.len() + steps).max().unwrap_or(1);
    let (device, taken) = args.device.open(images::IMAGES, cache::images())?;
    let numerics = args.numerics.unwrap_or(Numerics::default_of(&device));
    tracing::info!(event = "startup", numerics = numerics.name(), "runs on {taken}");
    let context = golden.as_ref().and_then(|golden| golden.options.ctx).unwrap_or(0).max(positions);
    let limits = BatchLimits { tokens: longest, sequences: 1, context };
    let plan = Plan { numerics, limits, pages: pages_for(positions) };
    let mut model = Model::load(&device, &gguf, plan, &mut |_, _| ())?;

    let layers = args.layers || golden.is_some();
    let mut traces = Vec::new();
    for (ids, steps) in &prompts {
        traces.push(trace_prompt(&device, &mut model, ids, *steps, layers)?);
    }
    if let Some(out) = &args.json {
        let text = to_json(&args.model, &sha256, &config.architecture, &traces).to_string();
        fs::write(out, text).map_err(|error| TraceError::Io { path: out.clone(), error })?;
    }
    Ok(Traced { golden, traces, tolerance: tolerance(numerics, &gguf) })
}

/// A row for each prompt.
fn write_rows(out: &mut impl Write, rows: &[Row], traces: &[PromptTrace]) -> io::Result<()> {
    writeln!(out, "prompt  tokens  greedy  relative L2  greatest  first layer that differs  logits")?;
    for (i, (row, trace)) in rows.iter().zip(traces).enumerate() {
        writeln!(
            out,
            "{i:>6}  {:>6}  {:>6}  {:>11.2e}  {:>8.2e}  {:<24}  {}  {}",
            trace.ids.len(),
            if row.greedy { "same" } else { "DIFFER" },
            row.relative_l2,
            row.greatest,
            row.first_layer.as_deref().unwrap_or("none"),
            &bits_hash(&trace.final_logits)[..16],
            if row.passes() { "ok" } else { "FAILED" },
        )?;
    }
    Ok(())
}

fn write_trace(out: &mut impl Write, trace: &PromptTrace, layers: bool) -> io::Result<()> {
    if layers {
        for layer in &trace.layers {
            let Layer { name, l2_all, l2_last, first8_last, .. } = layer;
            writeln!(out, "{name:<12} l2 {l2_all:<14} last {l2_last:<14} {first8_last:?}")?;
        }
    }
    for (i, step) in trace.steps.iter().enumerate() {
        writeln!(
            out,
            "step {i:<4} id {:<7} logprob {:<10.6} margin {:.6}",
            step.id, step.logprob, step.margin
        )?;
    }
    writeln!(out, "logits {}", bits_hash(&trace.final_logits))
}

/// SHA-256 of the bits, little-endian: equal for equal answers only.
fn bits_hash(values: &[f32]) -> String {
    sha256::of_bytes(&le_bytes(values))
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The fields of the golden data, and a hash of the logits' bits.
fn to_json(model: &Path, sha256: &str, architecture: &str, traces: &[PromptTrace]) -> Value {
    let prompts: Vec<Value> = traces
        .iter()
        .map(|trace| {
            let of_steps = |f: &dyn Fn(&runtime::trace::Step) -> Value| -> Vec<Value> {
                trace.steps.iter().map(f).collect()
            };
            let layers: Vec<Value> = trace
                .layers
                .iter()
                .map(|layer| {
                    json!({
                        "name": layer.name,
                        "l2_all": layer.l2_all,
                        "l2_last": layer.l2_last,
                        "first8_pos0": layer.first8_pos0,
                        "first8_last": layer.first8_last,
                    })
                })
                .collect();
            json!({
                "ids": trace.ids,
                "greedy": of_steps(&|step| json!(step.id)),
                "logprobs": of_steps(&|step| json!(step.logprob)),
                "margins": of_steps(&|step| json!(step.margin)),
                "top5": of_steps(&|step| json!(step.top5)),
                "final_logits_b64": BASE64_STANDARD.encode(le_bytes(&trace.final_logits)),
                "final_logits_sha256": bits_hash(&trace.final_logits),
                "layers": layers,
            })
        })
        .collect();
    let file = model.file_name().map(|name| name.to_string_lossy());
    json!({ "file": file, "sha256": sha256, "arch": architecture, "prompts": prompts })
}
