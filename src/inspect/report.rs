//! What is told of a model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use runtime::checkpoint::Checkpoint;
use runtime::device::{Purpose, Usage};
use runtime::estimate::{Wanted, estimate};
use runtime::gguf::{Content, Gguf, Value};
use runtime::huggingface;
use runtime::model::config::ModelConfig;
use runtime::numerics::Numerics;
use runtime::worker::DeviceChoice;
use serde::Serialize;

use super::Args;
use crate::images::IMAGES;

/// Tokens of a context where nobody says, unless the model's is smaller.
const CONTEXT: usize = 8192;
/// Elements of an array that are shown.
const ELEMENTS: usize = 5;
/// Characters of a text that are shown.
const CHARS: usize = 120;

/// A model's file.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) path: String,
    /// Of the file.
    pub(super) bytes: u64,
    /// `general.architecture`, if the file says it.
    pub(super) architecture: Option<String>,
    /// The source file that runs it, if one does.
    pub(super) run_by: Option<String>,
    /// Why it does not run; nothing if it does.
    pub(super) problems: Vec<String>,
    pub(super) model: Option<Shape>,
    /// The kind of tokenizer and its number of tokens.
    pub(super) tokenizer: Option<(String, usize)>,
    /// Whether the file has a chat template, and what is wrong with it.
    pub(super) chat_template: Template,
    /// Bytes and tensors by type.
    pub(super) types: BTreeMap<&'static str, Share>,
    pub(super) metadata: BTreeMap<String, Shown>,
    pub(super) tensors: Vec<Tensor>,
    /// What it would take of a device, if it runs.
    pub(super) memory: Option<Memory>,
    pub(super) device: Device,
}

/// A model's sizes.
#[derive(Debug, Serialize)]
pub(super) struct Shape {
    pub(super) blocks: usize,
    pub(super) hidden: usize,
    pub(super) feed_forward: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) vocab: usize,
    pub(super) context: usize,
}

/// A file's chat template.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Template {
    None,
    Works,
    Broken(String),
}

/// What a type has of the file.
#[derive(Debug, Default, Serialize)]
pub(super) struct Share {
    pub(super) tensors: usize,
    pub(super) bytes: u64,
}

/// A metadata value, shortened.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Shown {
    Int(i128),
    /// As text, if JSON has no such number.
    Float(serde_json::Value),
    Bool(bool),
    Text(String),
    LongText {
        begins: String,
        bytes: usize,
    },
    Array {
        elements: &'static str,
        len: usize,
        first: Vec<Shown>,
    },
}

/// A tensor.
#[derive(Debug, Serialize)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// The fastest first.
    pub(super) dims: Vec<usize>,
    #[serde(rename = "type")]
    pub(super) ty: &'static str,
    pub(super) bytes: usize,
}

/// What a load would take.
#[derive(Debug, Serialize)]
pub(super) struct Memory {
    /// On a GPU; else on the CPU.
    pub(super) gpu: bool,
    pub(super) numerics: &'static str,
    pub(super) sequences: usize,
    pub(super) context: usize,
    pub(super) step_tokens: usize,
    pub(super) kv_bytes_per_token: usize,
    /// Bytes by purpose.
    pub(super) bytes: BTreeMap<&'static str, u64>,
    pub(super) total: u64,
}

/// What it should fit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Device {
    /// None that can be used, and why.
    None(String),
    Found {
        name: String,
        description: String,
        bytes: u64,
        free: u64,
        /// Whether what it takes is free; unknown of a model that does not run.
        fits: Option<bool>,
    },
}

impl Report {
    pub(super) fn of(checkpoint: &Checkpoint, args: &Args) -> Self {
        let gguf = checkpoint.gguf();
        let mut problems = Vec::new();
        let config = ModelConfig::from_gguf(gguf).map_err(|error| problems.push(error.to_string())).ok();
        let gpu = args.device != DeviceChoice::Cpu;
        let numerics = args.numerics.unwrap_or(if gpu { Numerics::Tc } else { Numerics::F32 });
        let memory = config.as_ref().and_then(|config| {
            let context = args.context.map_or(CONTEXT, |context| context as usize).min(config.context);
            let wanted = Wanted { gpu, numerics, max_batch: Some(args.batch as usize), context };
            Memory::of(gguf, wanted).map_err(|problem| problems.push(problem)).ok()
        });
        let tokenizer = checkpoint.tokenizer().map_err(|error| problems.push(error.to_string())).ok();
        let architecture = gguf.str("general.architecture").ok().map(str::to_owned);
        let run_by = memory.as_ref().and(architecture.as_deref()).map(source);
        let device = Device::of(args.device, memory.as_ref().map(|memory| memory.total));
        Self {
            path: gguf.path().display().to_string(),
            bytes: bytes(gguf),
            architecture,
            run_by,
            problems,
            model: config.as_ref().map(Shape::of),
            tokenizer: tokenizer.map(|tokenizer| (tokenizer.kind().to_owned(), tokenizer.vocab_size())),
            chat_template: Template::of(checkpoint),
            types: types(gguf),
            metadata: gguf.metadata().map(|(key, value)| (key.to_owned(), Shown::of(gguf, value))).collect(),
            tensors: gguf.tensors().iter().map(Tensor::of).collect(),
            memory,
            device,
        }
    }
}

/// Of the files that the model is made of; of a synthetic model, of the file that it would be.
fn bytes(gguf: &Gguf) -> u64 {
    let path = gguf.path();
    let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    match gguf.content() {
        Content::Drawn(_) => gguf.tensors().iter().map(|tensor| tensor.bytes.end as u64).max().unwrap_or(0),
        Content::Stored if path.is_dir() => {
            huggingface::files(path).map_or(0, |files| files.iter().map(|file| size(file)).sum())
        }
        Content::Stored => size(path),
    }
}

/// The source file of an architecture that runs.
fn source(architecture: &str) -> String {
    format!("runtime/src/model/{}.rs", architecture.replace('-', "_"))
}

impl Shape {
    fn of(config: &ModelConfig) -> Self {
        let ModelConfig { blocks, hidden, feed_forward, heads, vocab, context, .. } = *config;
        let (kv_heads, head_dim, heads) = (heads.kv, heads.dim, heads.query);
        Self { blocks, hidden, feed_forward, heads, kv_heads, head_dim, vocab, context }
    }
}

impl Template {
    fn of(checkpoint: &Checkpoint) -> Self {
        match checkpoint.chat_template() {
            Ok(None) => Self::None,
            Ok(Some(template)) => {
                template.broken().map_or(Self::Works, |broken| Self::Broken(broken.to_string()))
            }
            Err(error) => Self::Broken(error.to_string()),
        }
    }
}

fn types(gguf: &Gguf) -> BTreeMap<&'static str, Share> {
    let mut types: BTreeMap<_, Share> = BTreeMap::new();
    for tensor in gguf.tensors() {
        let share = types.entry(tensor.ty.name()).or_default();
        share.tensors += 1;
        share.bytes += tensor.bytes.len() as u64;
    }
    types
}

impl Shown {
    fn of(gguf: &Gguf, value: &Value) -> Self {
        match value {
            Value::Int { value, .. } => Self::Int(*value),
            Value::F32(value) => Self::float(f64::from(*value), value.to_string()),
            Value::F64(value) => Self::float(*value, value.to_string()),
            Value::Bool(value) => Self::Bool(*value),
            Value::String(text) => match text.char_indices().nth(CHARS) {
                None => Self::Text(text.clone()),
                Some((end, _)) => Self::LongText { begins: text[..end].to_owned(), bytes: text.len() },
            },
            Value::Array(array) => Self::Array {
                elements: array.element.name(),
                len: array.len,
                first: gguf.first(array, ELEMENTS).iter().map(|value| Self::of(gguf, value)).collect(),
            },
        }
    }

    /// `text` has no more digits than the type.
    fn float(value: f64, text: String) -> Self {
        let number = text.parse().ok().filter(|_| value.is_finite()).map(serde_json::Value::Number);
        Self::Float(number.unwrap_or(serde_json::Value::String(text)))
    }
}

impl Tensor {
    fn of(tensor: &runtime::gguf::Tensor) -> Self {
        let (name, dims) = (tensor.name.clone(), tensor.dims.clone());
        Self { name, dims, ty: tensor.ty.name(), bytes: tensor.bytes.len() }
    }
}

impl Memory {
    fn of(gguf: &Gguf, wanted: Wanted) -> Result<Self, String> {
        let told = estimate(gguf, wanted).map_err(|error| error.to_string())?;
        let usage: Usage = told.usage;
        Ok(Self {
            gpu: wanted.gpu,
            numerics: wanted.numerics.name(),
            sequences: told.sequences,
            context: told.context,
            step_tokens: told.step_tokens,
            kv_bytes_per_token: told.kv_token_bytes,
            bytes: Purpose::ALL.map(|purpose| (purpose.name(), usage.of(purpose))).into(),
            total: usage.total(),
        })
    }
}

impl Device {
    fn of(choice: DeviceChoice, needed: Option<u64>) -> Self {
        // Where there is no GPU, the CPU is no answer to whether the model fits it.
        let choice = if choice == DeviceChoice::Auto { DeviceChoice::Cuda(0) } else { choice };
        let found = choice.open(IMAGES, None).and_then(|(device, _)| Ok((device.memory()?, device)));
        match found {
            Err(error) => Self::None(error.to_string()),
            Ok(((bytes, free), device)) => Self::Found {
                name: device.name(),
                description: device.description(),
                bytes,
                free,
                fits: needed.map(|needed| needed <= free),
            },
        }
    }
}
