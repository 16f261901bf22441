//! `worker-orcd replay`: a receipt's request once more, here, and whether the answer is the same.

mod read;
mod verdict;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use runtime::checkpoint::{Checkpoint, CheckpointFiles};
use runtime::huggingface::Quant;
use runtime::numerics::{NUMERICS_VERSION, Numerics};
use runtime::receipt::{self, Digest, Ids, Receipt};
use runtime::request::Completion;
use runtime::worker::{DeviceChoice, Worker};
use serde_json::json;

use crate::cli::Error;
use crate::{cache, images, progress, run};

use verdict::Verdict;

/// Runs a receipt's request again, on any device, and says whether the answer is the same
///
/// The verdict is one line on standard output, and the exit code: 0 `same`, 1 `different`, 2 `cannot decide`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file with the receipt, the data of an `end` event, or a whole stream of /execute; - is standard input
    receipt: PathBuf,
    /// A GGUF file, a Hugging Face folder, or a name of the catalogue
    #[arg(long)]
    model: String,
    /// What the folder was quantised to: q8_0 or q4_0
    #[arg(long)]
    quant: Option<Quant>,
    /// The prompt's text, as it was sent to /execute
    #[arg(long, value_name = "FILE", required_unless_present = "prompt_ids", conflicts_with = "prompt_ids")]
    prompt_file: Option<PathBuf>,
    /// The prompt's token ids as a JSON list, in place of its text
    #[arg(long, value_name = "FILE")]
    prompt_ids: Option<PathBuf>,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Memory for keys and values; one whole context, up to 2048, unless given
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    kv_cache_size_mb: Option<u64>,
    /// Prints the verdict as JSON
    #[arg(long)]
    json: bool,
}

/// What keeps a receipt from being decided about, in a line.
type Reason = String;

/// Decides, and says so.
///
/// # Errors
/// Standard output is closed or full. All other failures are the verdict `cannot decide`.
pub(crate) fn run(args: Args) -> Result<ExitCode, Error> {
    let verdict = decide(&args).unwrap_or_else(Verdict::CannotDecide);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json!({"verdict": verdict.word(), "reason": verdict.reason()}))?;
    } else {
        writeln!(out, "{}: {}", verdict.word(), verdict.reason())?;
    }
    Ok(ExitCode::from(verdict.exit_code()))
}

/// The cheap checks come first: nothing is loaded for a receipt that cannot be decided about.
fn decide(args: &Args) -> Result<Verdict, Reason> {
    let receipt = read::receipt(&text(&args.receipt)?).map_err(at(&args.receipt))?;
    let numerics: Numerics = receipt.numerics.parse().map_err(|_| {
        format!("the receipt's numerics are {:?}; this program knows f32 and tc", receipt.numerics)
    })?;
    if receipt.numerics_version != NUMERICS_VERSION {
        return Err(format!(
            "the receipt's numerics_version is {}, this program's is {NUMERICS_VERSION}: the same request may have another answer",
            receipt.numerics_version
        ));
    }
    let path = cache::resolve(&args.model).map_err(|error| error.to_string())?;
    let hash = hash(&path, args.quant).map_err(at(&path))?;
    if hash != receipt.model.blake3 {
        return Err(format!(
            "{} is another model: its blake3 is {hash}, that of the receipt's {:?} is {}",
            path.display(),
            receipt.model.name,
            receipt.model.blake3
        ));
    }
    let prompt = prompt(args, &path, receipt.request.prompt)?;
    if receipt.ptx_sha256 != images::PTX_HASH {
        tracing::warn!(
            event = "replay",
            receipt = receipt.ptx_sha256,
            here = images::PTX_HASH,
            "the kernels' PTX differs; numerics_version is the same, so the answer should be"
        );
    }
    let (completion, device) = compute(args, path, numerics, &receipt, prompt)?;
    Ok(verdict::compare(&receipt, &completion, numerics, &device))
}

/// The completion again, and what kind of device computed it.
fn compute(
    args: &Args,
    path: PathBuf,
    numerics: Numerics,
    receipt: &Receipt,
    prompt: Vec<u32>,
) -> Result<(Completion, String), Reason> {
    let mut options = run::alone(path, args.model.clone(), args.device, Some(numerics));
    options.quant = args.quant;
    options.kv_bytes = args.kv_cache_size_mb.map(|megabytes| megabytes << 20);
    let worker = Worker::load(options, progress::loading()).map_err(|error| error.to_string())?;
    let device = receipt::device(&worker.info);
    let mut bar = progress::replaying();
    let (mut done, total) = (0, u64::from(receipt.output.tokens));
    let outcome = run::complete(&worker, receipt.request.again("replay", prompt), |_, tokens| {
        done += tokens as u64;
        bar(done, total.max(done));
        Ok(())
    });
    worker.stop(Duration::ZERO);
    Ok((outcome.map_err(|error| error.to_string())?, device))
}

fn hash(path: &Path, quant: Option<Quant>) -> io::Result<Digest> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    CheckpointFiles::of(path, quant)?.hash(cache::hashes().as_deref(), threads)
}

/// The prompt's ids, which must be those of the receipt.
fn prompt(args: &Args, model: &Path, want: Ids) -> Result<Vec<u32>, Reason> {
    let (file, candidates) = match (&args.prompt_file, &args.prompt_ids) {
        (Some(file), _) => {
            let text = text(file)?;
            let checkpoint = Checkpoint::open(model, args.quant).map_err(|error| error.to_string())?;
            let tokenizer = checkpoint.tokenizer().map_err(|error| error.to_string())?;
            // Editors end a file with a newline that the prompt had not.
            let shorter = text.strip_suffix('\n').map(|text| tokenizer.encode(text));
            (file, [Some(tokenizer.encode(&text)), shorter])
        }
        (None, Some(file)) => {
            let ids = serde_json::from_str(&text(file)?);
            let ids = ids.map_err(|_| format!("{}: not a JSON list of token ids", file.display()))?;
            (file, [Some(ids), None])
        }
        (None, None) => unreachable!("clap requires one of them"),
    };
    let found = candidates.into_iter().flatten().find(|ids| Ids::of(ids) == want);
    found.ok_or_else(|| {
        let file = file.display();
        format!(
            "{file} is another prompt than the receipt's of {} tokens: the hashes of their ids differ",
            want.tokens
        )
    })
}

fn text(path: &Path) -> Result<String, Reason> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    read.map_err(at(path))
}

/// Names the file in an error.
fn at<E: ToString>(path: &Path) -> impl Fn(E) -> Reason {
    move |error| format!("{}: {}", path.display(), error.to_string())
}
