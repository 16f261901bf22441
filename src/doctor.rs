//! `worker-orcd doctor`: what this machine has of all that the worker can use, and how to get the rest.

use std::fmt::Write as _;
use std::io::Write as _;

use cuda_builder::Compiler;
use cust::CudaFlags;
use cust::device::{Device, DeviceAttribute};
use cust::error::CudaResult;
use serde::Serialize;

use crate::cache::{Cache, Cached};
use crate::catalogue::{CATALOGUE, Entry};
use crate::cli;

mod numerics;

/// Tells what this machine has of driver, GPUs, cuBLAS, kernel compiler and models, and how to get the rest.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Also run random tensor-core steps, and say which known chip's arithmetic the CPU device and cuda:0 have
    #[arg(long)]
    numerics: bool,
}

/// Prints the findings. What is missing is no failure: the CPU device needs none of it.
pub(crate) fn run(args: Args) -> Result<(), cli::Error> {
    let mut findings = examine();
    if args.numerics {
        findings.extend(numerics::examine().into_iter().map(|(part, found)| Finding::new(part, found)));
    }
    let text = if args.json {
        serde_json::to_string_pretty(&findings).map_err(std::io::Error::from)? + "\n"
    } else {
        table(&findings)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// One thing looked for.
#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked for: `cpu`, `driver`, `gpu 0`, `cublas`, `kernel compiler`, `model NAME`, `numerics DEVICE`.
    part: String,
    /// Whether it is there and can be used.
    ok: bool,
    /// What was found; where nothing was, what to do about it.
    found: String,
}

impl Finding {
    fn new(part: impl Into<String>, found: Result<String, String>) -> Finding {
        let ok = found.is_ok();
        Finding { part: part.into(), ok, found: found.unwrap_or_else(|reason| reason) }
    }
}

fn examine() -> Vec<Finding> {
    let mut findings = vec![Finding::new("cpu", Ok(cpu()))];
    findings.extend(cuda());
    findings.push(Finding::new("cublas", cublas()));
    findings.push(Finding::new("kernel compiler", kernel_compiler()));
    findings.extend(models());
    findings
}

/// Cores, and the instructions that the host kernels have a faster version for.
fn cpu() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores, {}", instructions())
}

#[cfg(target_arch = "x86_64")]
fn instructions() -> String {
    let features = [
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("F16C", is_x86_feature_detected!("f16c")),
    ];
    let missing: Vec<&str> = features.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        "AVX2, FMA and F16C are used".to_owned()
    } else {
        format!("no {}: the slow baseline is used", missing.join(", no "))
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> String {
    "the baseline instructions are used".to_owned()
}

/// The driver, and each of its devices.
fn cuda() -> Vec<Finding> {
    let driver = match cuda_loader::driver() {
        Ok(driver) => driver,
        Err(error) => return vec![Finding::new("driver", Err(error.to_string()))],
    };
    let found = format!("{}, CUDA {}", driver.path().display(), driver.version());
    let count = match cust::init(CudaFlags::empty()).and_then(|()| Device::num_devices()) {
        Ok(0) => Err(format!("{found}, but no device: see that this process may use a GPU")),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{found}, but it does not start ({error:?}): see nvidia-smi")),
    };
    match count {
        Err(reason) => vec![Finding::new("driver", Err(reason))],
        Ok(count) => {
            let gpus = (0..count).map(|index| {
                let gpu = gpu(index).map_err(|error| format!("cannot be asked ({error:?}): see nvidia-smi"));
                Finding::new(format!("gpu {index}"), gpu)
            });
            std::iter::once(Finding::new("driver", Ok(found))).chain(gpus).collect()
        }
    }
}

/// Name, compute capability and memory.
fn gpu(index: u32) -> CudaResult<String> {
    let device = Device::get_device(index)?;
    let major = device.get_attribute(DeviceAttribute::ComputeCapabilityMajor)?;
    let minor = device.get_attribute(DeviceAttribute::ComputeCapabilityMinor)?;
    let gib = device.total_memory()? as f64 / f64::from(1 << 30);
    Ok(format!("{}, sm_{major}{minor}, {gib:.1} GiB", device.name()?))
}

fn cublas() -> Result<String, String> {
    let cublas = cublas_sys::Cublas::load().map_err(|error| error.to_string())?;
    let (major, minor, patch) = cublas.version();
    Ok(format!("{}, {major}.{minor}.{patch}", cublas.path().display()))
}

/// Needed by those who change kernels.
fn kernel_compiler() -> Result<String, String> {
    Compiler::find().map(|compiler| compiler.to_string()).map_err(|error| error.to_string())
}

fn models() -> Vec<Finding> {
    match Cache::of_user() {
        Ok(cache) => CATALOGUE.iter().map(|entry| model(&cache, entry)).collect(),
        Err(error) => vec![Finding::new("models", Err(error.to_string()))],
    }
}

fn model(cache: &Cache, entry: &Entry) -> Finding {
    let path = cache.path(entry);
    let about = format!("{}, {} MB, {}", entry.title, entry.bytes / 1_000_000, entry.license);
    let found = match cache.check(entry) {
        Ok(Cached::Whole) => Ok(format!("{about}, {}, sha256 right", path.display())),
        Ok(Cached::Broken) => {
            Err(format!("{} is broken: `worker-orcd pull {}` fetches it again", path.display(), entry.name))
        }
        Ok(Cached::Missing) => Err(format!("{about}: `worker-orcd pull {}` fetches it", entry.name)),
        Err(error) => Err(error.to_string()),
    };
    Finding::new(format!("model {}", entry.name), found)
}

fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.part.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { part, ok, found } in findings {
        let mark = if *ok { "ok" } else { "--" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark} {part:width$}  {found}");
    }
    text
}
