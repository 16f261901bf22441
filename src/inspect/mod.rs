//! `worker-orcd inspect`: what is in a model's file, whether this program runs it, and what it would take.

mod report;
mod text;

use std::io::{self, Write};
use std::path::PathBuf;

use runtime::checkpoint::{Checkpoint, CheckpointError};
use runtime::gguf::TensorType;
use runtime::huggingface::Quant;
use runtime::model::ModelError;
use runtime::numerics::Numerics;
use runtime::synthetic::{self, Shape};
use runtime::worker::DeviceChoice;

use crate::printable;
use crate::{cache, cli};
use report::Report;

/// Tells what is in a model's file, whether and with what memory it would run, and whether it fits the GPU
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A GGUF file, a Hugging Face folder, or a name of the catalogue
    #[arg(required_unless_present = "synthetic", conflicts_with = "synthetic")]
    file: Option<PathBuf>,
    /// In place of a file: a shape that `bench --synthetic` takes
    #[arg(long, value_name = "SHAPE", value_parser = Shape::named, requires = "quant")]
    synthetic: Option<&'static Shape>,
    /// How its weights are stored: bf16, f16, q8_0, q4_k or any other type; or what those of a folder are quantised to
    #[arg(long, value_parser = synthetic::quant)]
    quant: Option<TensorType>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Tokens that each sequence has room for; the model's context, up to 8192, unless given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    context: Option<u32>,
    /// Sequences computed at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    batch: u32,
    /// f32 or tc; tc on a GPU and f32 on the CPU unless given
    #[arg(long)]
    numerics: Option<Numerics>,
    /// What it should fit: auto (the first GPU), cpu or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Why there is nothing to tell.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It is no model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It cannot be fetched.
    #[error(transparent)]
    Model(#[from] cache::ResolveError),
    /// A folder was to be quantised to something else.
    #[error("--quant: {0}")]
    Quant(String),
    /// The shape cannot be stored so.
    #[error(transparent)]
    Synthetic(#[from] ModelError),
    /// More tokens than one would compute.
    #[error("{batch} sequences of {context} tokens are more than 2^24 tokens: ask for fewer")]
    TooMany {
        /// Sequences.
        batch: u32,
        /// Tokens of each.
        context: u32,
    },
}

/// Prints the report. A model that would not run is no failure: the report says why.
pub(crate) fn run(args: Args) -> Result<(), cli::Error> {
    if let (Some(context), batch) = (args.context, args.batch)
        && u64::from(context) * u64::from(batch) > 1 << 24
    {
        return Err(InspectError::TooMany { batch, context }.into());
    }
    let model = model(&args)?;
    let report = Report::of(&model, &args);
    let text = if args.json {
        printable::json(&serde_json::to_string_pretty(&report).map_err(io::Error::from)?) + "\n"
    } else {
        // No line of the report has an end of its own.
        text::lines(&report).iter().map(|line| printable::line(line.trim_end()) + "\n").collect()
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// The model that is asked for.
fn model(args: &Args) -> Result<Checkpoint, InspectError> {
    if let (Some(shape), Some(quant)) = (args.synthetic, args.quant) {
        return Ok(synthetic::model(shape, quant, 0)?.into());
    }
    let file = args.file.clone().unwrap_or_default();
    // What is neither a path nor a name is told as a path that cannot be read.
    let named = file.to_str().filter(|name| cache::find(name).is_ok());
    let file = named.map_or_else(|| Ok(file.clone()), cache::resolve)?;
    let quant = args.quant.map(|ty| ty.name().to_lowercase().parse::<Quant>()).transpose();
    Ok(Checkpoint::open(&file, quant.map_err(InspectError::Quant)?)?)
}
