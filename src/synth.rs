//! `worker-orcd synth`: writes a model with random weights as a file.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use runtime::device::DeviceError;
use runtime::gguf::TensorType;
use runtime::model::ModelError;
use runtime::synthetic::{self, Shape, WriteError};
use runtime::worker::DeviceChoice;

use crate::cli::Error;
use crate::{cache, images, progress};

/// Writes a model with random weights as a GGUF file: for measuring and testing, it says nothing of sense
#[derive(Debug, clap::Args)]
pub struct Args {
    /// smollm2-135m, llama-3.2-1b, llama-3-8b, mistral-7b, qwen2.5-7b, qwen3-8b, phi-3.5-mini, gpt2, gpt2-xl or gpt-oss-20b
    #[arg(value_name = "SHAPE", value_parser = Shape::named)]
    shape: &'static Shape,
    #[arg(long, value_parser = synthetic::quant, help = format!("How its matrices are stored: {}", synthetic::quant_names()))]
    quant: TensorType,
    /// The file
    #[arg(long, value_name = "FILE")]
    write: PathBuf,
    /// The same seed gives the same file
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Replaces a file that is there
    #[arg(long)]
    force: bool,
    /// What draws the weights: auto, cpu or cuda:N; the bits are the same
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// There is one already.
    #[error("{} is there already; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// The path has no file's name.
    #[error("{:?} names no file", .0.display().to_string())]
    NoName(PathBuf),
    /// The device is not there or does not work.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model cannot be made.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file cannot be written.
    #[error("{}: {error}; the file takes {bytes} bytes", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
        /// Bytes of the whole file.
        bytes: usize,
    },
}

pub(crate) fn run(args: Args) -> Result<(), Error> {
    Ok(write(&args)?)
}

/// Writes under a temporary name, so that the name asked for never belongs to a part of a model.
fn write(args: &Args) -> Result<(), SynthError> {
    let Some(name) = args.write.file_name() else { return Err(SynthError::NoName(args.write.clone())) };
    if !args.force && args.write.symlink_metadata().is_ok() {
        return Err(SynthError::Exists(args.write.clone()));
    }
    let (device, _) = args.device.open(images::IMAGES, cache::images())?;
    let gguf = synthetic::model(args.shape, args.quant, args.seed)?;
    let bytes = gguf.tensors().iter().map(|tensor| tensor.bytes.end).max().unwrap_or(0);
    let mut part_name = name.to_owned();
    part_name.push(".part");
    let part = args.write.with_file_name(part_name);

    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| SynthError::Io { path, error, bytes }
    };
    let file = File::create(&part).map_err(failed(&part))?;
    let part = Part(part);
    let mut out = BufWriter::new(&file);
    let mut progress = progress::writing();
    synthetic::write(&device, &gguf, &mut out, &mut progress).map_err(|error| match error {
        WriteError::Device(error) => SynthError::Device(error),
        WriteError::Io(error) => failed(&part.0)(error),
    })?;
    // A crash after the rename must not leave a name without its bytes.
    file.sync_all().map_err(failed(&part.0))?;
    fs::rename(&part.0, &args.write).map_err(failed(&args.write))
}

/// A file in the making; goes when dropped, unless it has got another name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // Nothing to do where it has been renamed, and nothing that can be done where it cannot be removed.
        let _ = fs::remove_file(&self.0);
    }
}
