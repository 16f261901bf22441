//! A loaded model with its engine running.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::batch::BatchLimits;
use crate::chat_template::ChatTemplate;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::device::{Device, DeviceError, Image, Purpose, Residency};
use crate::engine::sampler::Sampler;
use crate::engine::{Engine, EngineHandle, Limits, OnDevice, channel};
use crate::estimate::usage;
use crate::gguf::Gguf;
use crate::huggingface::Quant;
use crate::kv_cache::pages_for;
use crate::model::config::ModelConfig;
use crate::model::{Model, ModelError, Plan};
use crate::numerics::Numerics;
use crate::scheduler::{Scheduler, StepLimits};
use crate::tokenizer::{Tokenizer, TokenizerError};
use crate::watch::Watch;
use kernels::kv::PAGE;

/// Where a model is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if there are a driver and a GPU that runs the kernels, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// That GPU and no other.
    Cuda(u32),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("cuda:")) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(ordinal)) => ordinal
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("{ordinal:?} is no GPU's number, as in cuda:0")),
            _ => Err("a device is auto, cpu or cuda:N".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device; the text says what was taken and why. Kernels that the driver has compiled are kept in
    /// `image_cache`.
    ///
    /// # Errors
    /// The device that was asked for is not there or does not work.
    pub fn open(
        self,
        images: &'static [Image],
        image_cache: Option<PathBuf>,
    ) -> Result<(Device, String), DeviceError> {
        let describe = |device: Device, why: String| {
            let text = format!("{} ({}){why}", device.name(), device.description());
            (device, text)
        };
        match self {
            Self::Cpu => Ok(describe(Device::cpu(0), String::new())),
            Self::Cuda(ordinal) => {
                Ok(describe(Device::cuda_with_cache(ordinal, images, image_cache)?, String::new()))
            }
            Self::Auto => Ok(match Device::cuda_with_cache(0, images, image_cache) {
                Ok(device) => describe(device, ", the first GPU".to_owned()),
                Err(error) => describe(Device::cpu(0), format!(", since there is no usable GPU: {error}")),
            }),
        }
    }
}

/// What to load and how.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The GGUF file or Hugging Face folder.
    pub path: PathBuf,
    /// What the matrices of a folder are quantised to; `None` leaves them as they are.
    pub quant: Option<Quant>,
    /// The name the user gave.
    pub name: String,
    /// Where to run.
    pub device: DeviceChoice,
    /// The arithmetic of matrix products; `None` for the device's default: `tc` on a GPU, `f32` on the CPU.
    pub numerics: Option<Numerics>,
    /// The kernels for GPUs.
    pub images: &'static [Image],
    /// Where kernels that a driver has compiled are kept.
    pub image_cache: Option<PathBuf>,
    /// Bytes for keys and values; `None` for what suits the device: on the CPU one whole context, [`DEFAULT_KV_BYTES`] at most;
    /// on a GPU a whole context for each sequence, half of what the weights leave free at most.
    pub kv_bytes: Option<u64>,
    /// Sequences computed at once; `None` for what suits the device.
    pub max_batch: Option<usize>,
    /// Tokens computed at once, as long as prompts have a quarter of them beside the sequences that generate; `None` for what
    /// suits the device: with much memory more while nobody generates.
    pub step_tokens: Option<usize>,
    /// Whether a prompt's keys and values are taken from earlier requests that began in the same way.
    pub prefix_cache: bool,
    /// Jobs of one client that may wait.
    pub queue_depth: usize,
    /// What a job may take, from its submission to its end.
    pub timeout: Duration,
    /// How often every allocation is verified to be in the device's memory.
    pub residency_interval: Duration,
}

/// A step of a load, told from the engine's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The device is open, and has this name.
    Opened {
        /// `cpu`, `cuda:0`.
        device: &'a str,
    },
    /// A part of the weights is on the device.
    Uploaded {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
}

/// What keys and values take at most on the CPU where nobody says.
pub const DEFAULT_KV_BYTES: u64 = 2 << 30;

/// Tokens computed at once on the CPU: a step should not take much more than 100 ms, so that a cancelled job ends soon.
const CPU_STEP: usize = 16;
/// Tokens computed at once on a GPU.
pub const CUDA_STEP: usize = 2048;
/// The same while nobody generates, on one with so much memory: prompts are computed up to 8 % faster.
const CUDA_QUIET_STEP: usize = 8192;
const MUCH_MEMORY: u64 = 40_000_000_000;
/// What a driver and a library take beside a model then, at most.
const BESIDE: u64 = 1 << 30;
/// Sequences computed at once on the CPU.
pub const CPU_BATCH: usize = 16;
/// Sequences computed at once on a GPU.
pub const CUDA_BATCH: usize = 64;

/// What a step on a device of a kind holds: what was asked for, else what suits it.
pub fn step_limits(gpu: bool, max_batch: Option<usize>, step_tokens: Option<usize>) -> StepLimits {
    let (tokens, sequences) = if gpu { (CUDA_STEP, CUDA_BATCH) } else { (CPU_STEP, CPU_BATCH) };
    StepLimits::new(step_tokens.unwrap_or(tokens).max(1), max_batch.unwrap_or(sequences).max(1))
}

/// Whether a GPU with so many bytes, of which so many are free, has much memory, and room for what needs so many.
fn has_room((total, free): (u64, u64), needed: u64) -> bool {
    total >= MUCH_MEMORY && needed.saturating_add(BESIDE) <= free
}

/// What a model needs for such steps and so many pages of keys and values.
pub fn plan(config: &ModelConfig, numerics: Numerics, step: StepLimits, pages: usize) -> Plan {
    // Buffers for no more than one sequence can have; who asks for more is told about the KV cache, not the model.
    let context = config.context.min(pages * PAGE);
    let limits = BatchLimits { tokens: step.most_tokens(), sequences: step.sequences, context };
    Plan { numerics, limits, pages }
}

impl Numerics {
    /// What a device runs by default: SIMD is fast at one, tensor cores at the other.
    pub fn default_of(device: &Device) -> Self {
        if device.is_cpu() { Self::F32 } else { Self::Tc }
    }
}

/// Tokens computed at once on a device where nobody says.
pub(crate) fn step_tokens(device: &Device) -> usize {
    if device.name() == "cpu" { CPU_STEP } else { CUDA_STEP }
}

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file or folder cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The file's tokenizer is not supported.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The file's model is not supported, or does not fit.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device is not there or does not work.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Not even a page fits.
    #[error("{given} bytes hold no keys and values: one page of {PAGE} tokens takes {page}")]
    KvTooSmall {
        /// Bytes given.
        given: u64,
        /// Bytes of a page.
        page: u64,
    },
    /// The system grants no thread.
    #[error("no thread for the engine: {0}")]
    Thread(#[from] std::io::Error),
    /// The engine's thread ended without a word.
    #[error("the engine's thread ended while it loaded the model")]
    Panicked,
}

/// What the outside may know about the loaded model and the device it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name or path the user gave.
    pub name: String,
    /// `general.architecture` of the file, such as `llama`.
    pub architecture: String,
    /// The type most weights are stored in, such as `Q4_1`.
    pub quant_kind: String,
    /// The kind of tokenizer, such as `gpt2/smollm`.
    pub tokenizer_kind: String,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Tokens the context holds.
    pub context_length: usize,
    /// Where it runs: `cpu`, `cuda:0`.
    pub device: String,
    /// The arithmetic of matrix products: `f32`, `tc`.
    pub numerics: String,
    /// Bytes that weights, KV cache and activations take on the device.
    pub bytes_used: u64,
    /// The same by purpose: `weights`, `kv_cache` and so on.
    pub bytes_by_purpose: Vec<(&'static str, u64)>,
    /// Bytes the device has.
    pub bytes_total: u64,
    /// The GPU's architecture, such as `sm_90`; `None` on the CPU.
    pub sm: Option<String>,
    /// The newest CUDA that the GPU's driver understands, such as `13.0`; `None` on the CPU.
    pub driver_version: Option<String>,
}

/// A loaded model with its engine running.
pub struct Worker {
    /// Takes jobs.
    pub engine: EngineHandle,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The model's chat template, if it has one.
    pub chat_template: Option<Arc<ChatTemplate>>,
    /// What is loaded.
    pub info: ModelInfo,
    thread: JoinHandle<()>,
    watch: Watch,
}

impl Worker {
    /// Loads a model and starts its engine on a thread of its own. `progress` is told each step, from that thread.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing is left behind.
    pub fn load(
        options: LoadOptions,
        progress: impl FnMut(Progress<'_>) + Send + 'static,
    ) -> Result<Self, LoadError> {
        let interval = options.residency_interval;
        let (report, loaded) = mpsc::channel();
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            // The device belongs to the thread that opens it.
            match load(&options, progress) {
                Ok((engine, loaded)) => {
                    if report.send(Ok(loaded)).is_ok() {
                        engine.run();
                    }
                }
                Err(error) => drop(report.send(Err(error))),
            }
        })?;
        let Loaded { engine, tokenizer, chat_template, info, residency } =
            loaded.recv().map_err(|_| LoadError::Panicked)??;
        match Watch::begin(residency, engine.clone(), interval) {
            Ok(watch) => Ok(Self { engine, tokenizer, chat_template, info, thread, watch }),
            Err(error) => {
                engine.shutdown(Duration::ZERO);
                // If it panicked, it has let go of the device as well.
                let _ = thread.join();
                Err(error.into())
            }
        }
    }

    /// Refuses new jobs, gives running ones `timeout` to finish, and waits until the device's memory is free.
    pub fn stop(self, timeout: Duration) {
        // Its hold on the context ends before the device does.
        self.watch.end();
        self.engine.shutdown(timeout);
        // If the thread panicked, its jobs have been told; there is nothing left to stop.
        let _ = self.thread.join();
    }
}

struct Loaded {
    engine: EngineHandle,
    tokenizer: Arc<Tokenizer>,
    chat_template: Option<Arc<ChatTemplate>>,
    info: ModelInfo,
    residency: Residency,
}

fn load(
    options: &LoadOptions,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<(Engine<OnDevice>, Loaded), LoadError> {
    // The cheap checks come before the device, and all checks before the upload.
    let checkpoint = Checkpoint::open(&options.path, options.quant)?;
    let gguf = checkpoint.gguf();
    let config = ModelConfig::from_gguf(gguf)?;
    let tokenizer = Arc::new(checkpoint.tokenizer()?);
    let chat_template = chat_template(&checkpoint);

    let (device, taken) = options.device.open(options.images, options.image_cache.clone())?;
    let numerics = options.numerics.unwrap_or(Numerics::default_of(&device));
    tracing::info!(event = "startup", device = device.name(), numerics = numerics.name(), "runs on {taken}");
    progress(Progress::Opened { device: &device.name() });

    let mut step = step_limits(!device.is_cpu(), options.max_batch, options.step_tokens);
    let page = Model::page_bytes(gguf, &config, numerics) as u64;
    let pages = match options.kv_bytes {
        Some(given) => given / page,
        None => default_pages(&device, gguf, pages_for(config.context) as u64, step.sequences as u64, page)?,
    } as usize;
    if pages == 0 {
        return Err(LoadError::KvTooSmall { given: options.kv_bytes.unwrap_or(0), page });
    }
    if options.step_tokens.is_none() && !device.is_cpu() {
        let quiet = StepLimits { quiet_tokens: CUDA_QUIET_STEP, ..step };
        let needed = usage(gguf, plan(&config, numerics, quiet, pages), true)?.total();
        if has_room(device.memory()?, needed) {
            step = quiet;
        }
    }
    let plan = plan(&config, numerics, step, pages);
    let mut uploaded = |done, total| progress(Progress::Uploaded { done, total });
    let model = Model::load(&device, gguf, plan, &mut uploaded)?;
    device.release_staging()?;

    // The last allocation.
    let sampler = Sampler::new(&device, &model)?;
    let residency = device.residency();
    let verified = residency.verify().map_err(DeviceError::NotResident)?;
    let (allocations, bytes) = (verified.allocations, verified.bytes);
    tracing::info!(event = "residency", allocations, bytes, "all of the model is in the device's memory");

    let usage = device.usage();
    let info = ModelInfo {
        name: options.name.clone(),
        architecture: config.architecture.clone(),
        quant_kind: gguf.quant_kind().map_or_else(String::new, |ty| ty.name().to_owned()),
        tokenizer_kind: tokenizer.kind().to_owned(),
        vocab_size: config.vocab,
        context_length: config.context,
        device: device.name(),
        numerics: numerics.name().to_owned(),
        bytes_used: usage.total(),
        bytes_by_purpose: Purpose::ALL.map(|purpose| (purpose.name(), usage.of(purpose))).to_vec(),
        bytes_total: device.memory()?.0,
        sm: device.chip().map(|(major, minor)| format!("sm_{major}{minor}")),
        driver_version: device.driver_version().map(|version| version.to_string()),
    };
    let (handle, queue) = channel(Limits {
        queue_depth: options.queue_depth,
        context: config.context,
        vocab: config.vocab,
        pages,
        page_bytes: page,
        usage,
        timeout: options.timeout,
    });
    let scheduler = Scheduler::new(step, pages, options.prefix_cache);
    let mut compute = OnDevice { device, model, sampler };
    compute.warm_up(pages)?;
    let engine = Engine::new(compute, tokenizer.clone(), queue, scheduler);
    Ok((engine, Loaded { engine: handle, tokenizer, chat_template, info, residency }))
}

/// The model's chat template. Without one that works a model completes texts, so that nothing about it is fatal.
fn chat_template(checkpoint: &Checkpoint) -> Option<Arc<ChatTemplate>> {
    let template = checkpoint.chat_template().unwrap_or_else(|error| {
        tracing::warn!(event = "startup", "no chat template: {error}");
        None
    })?;
    if let Some(broken) = template.broken() {
        tracing::warn!(event = "startup", "{broken}");
    }
    Some(Arc::new(template))
}

/// Pages of keys and values where nobody says how many: see [`LoadOptions::kv_bytes`].
fn default_pages(
    device: &Device,
    gguf: &Gguf,
    whole: u64,
    sequences: u64,
    page: u64,
) -> Result<u64, DeviceError> {
    let (wanted, room) = if device.is_cpu() {
        (whole, DEFAULT_KV_BYTES)
    } else {
        let weights: u64 = gguf.tensors().iter().map(|tensor| tensor.bytes.len() as u64).sum();
        let (_, free) = device.memory()?;
        (whole * sequences, free.saturating_sub(weights) / 2)
    };
    Ok(wanted.min(room / page).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_larger_only_where_they_fit() {
        let (total, needed) = (MUCH_MEMORY, 30_000_000_000);
        assert!(has_room((total, needed + BESIDE), needed));
        assert!(!has_room((total, needed + BESIDE - 1), needed), "the driver's part is missing");
        assert!(!has_room((total - 1, total), needed), "a small GPU");
        assert!(!has_room((total, total), u64::MAX));
    }
}
