//! Hugging Face folders: `config.json`, safetensors and the tokenizer's files, as the transformers library saves a model.
//!
//! A folder becomes what a GGUF file of the same model would be: its settings are translated into that format's metadata,
//! its tensors get that format's names, and their bytes are made piece by piece as they are asked for. So everything that
//! reads a GGUF file reads a folder.

mod chat;
mod config;
mod content;
mod encode;
mod error;
mod grid;
mod json;
mod mixture;
mod mxfp4;
mod names;
mod rope;
mod shards;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::gguf::{Gguf, TensorType, Writer};

pub use chat::chat_template;
pub use encode::Quant;
pub use error::{FolderError, FolderProblem};
pub(crate) use json::{line, strict};

use config::Config;
use content::{Content, Origin};
use encode::Float;
use grid::Grid;
use names::Wanted;
use safetensors::Dtype;
use shards::{Shards, Stored};

/// The model of a folder, its matrices quantised if `quant` says so.
///
/// # Errors
/// A [`FolderError`] that names the file, and the field or tensor in it: missing, damaged, or not supported.
pub fn open(folder: &Path, quant: Option<Quant>) -> Result<Gguf, FolderError> {
    let config = Config::read(folder)?;
    let mut model = Model::new(Shards::open(folder)?, quant);
    let prefix = if model.shards.has("transformer.wte.weight") { "transformer." } else { "" };
    config.describe(&mut model.header);
    for wanted in names::outside(&config, prefix) {
        model.add(folder, wanted)?;
    }
    for (name, values) in config.rope.iter().flat_map(|rope| rope.tensors()) {
        model.header.tensor(name, &[values.len()], TensorType::F32);
        model.tensors.insert(name.to_owned(), Origin::Computed(values.to_vec()));
    }
    // Block by block, so that a number of blocks that is not true ends at the first that is missing.
    for block in 0..config.blocks {
        for wanted in names::of_block(&config, prefix, block) {
            model.add(folder, wanted)?;
        }
    }
    if let Some((name, stored)) = model.shards.left().find(|(name, _)| !names::is_idle(&config, name)) {
        let problem = "is none that the model of config.json has, and would be left out";
        return Err(FolderProblem::tensor(name, problem).at(model.shards.path(stored.shard)));
    }
    let Model { header, shards, tensors, .. } = model;
    let content = Box::new(Content::new(shards, tensors));
    let invalid =
        |error: crate::gguf::GgufError| FolderProblem::Weights(error.problem.to_string()).at(folder);
    Gguf::made(folder, header.header(), content).map_err(invalid)
}

/// Files beside the weights that say what a model answers.
const SETTINGS: [&str; 5] = [
    config::FILE,
    "chat_template.jinja",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// The files of a folder that a model is made of, sorted by their names.
///
/// # Errors
/// The weights cannot be found.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let mut files = shards::files(folder)?;
    files.extend(SETTINGS.map(|name| folder.join(name)).into_iter().filter(|path| path.exists()));
    files.sort();
    Ok(files)
}

/// A model in the making.
struct Model {
    header: Writer,
    shards: Shards,
    quant: Option<Quant>,
    tensors: HashMap<String, Origin>,
}

impl Model {
    fn new(shards: Shards, quant: Option<Quant>) -> Self {
        Self { header: Writer::new(), shards, quant, tensors: HashMap::new() }
    }

    /// A tensor that the folder must have.
    fn add(&mut self, folder: &Path, wanted: Wanted) -> Result<(), FolderError> {
        let (ty, origin) =
            if wanted.packed { self.packed(folder, &wanted)? } else { self.floats(folder, &wanted)? };
        self.header.tensor(&wanted.gguf, &wanted.dims, ty);
        self.tensors.insert(wanted.gguf, origin);
        Ok(())
    }

    /// One stored in floats.
    fn floats(&mut self, folder: &Path, wanted: &Wanted) -> Result<(TensorType, Origin), FolderError> {
        let stored = self.find(folder, &wanted.name, &wanted.shape)?;
        let Some(float) = Float::from(stored.info.dtype) else {
            let problem =
                format!("is {:?}, which is not supported; F32, F16 and BF16 are", stored.info.dtype);
            let problem = FolderProblem::tensor(&wanted.name, problem);
            return Err(problem.at(self.shards.path(stored.shard)));
        };
        let columns = if wanted.is_vector() { 1 } else { wanted.dims[0] };
        let grid = grid(wanted.name.clone(), &stored, wanted, columns, float.bytes());
        Ok((tensor_type(wanted, float, self.quant), Origin::Floats(float, grid)))
    }

    /// One stored in MXFP4.
    fn packed(&mut self, folder: &Path, wanted: &Wanted) -> Result<(TensorType, Origin), FolderError> {
        let blocks = wanted.dims[0] / mxfp4::VALUES;
        let shape = [&wanted.shape[..2], &[blocks]].concat();
        let mut part = |suffix: &str, shape: &[usize], size| {
            let name = format!("{}_{suffix}", wanted.name);
            let stored = self.find(folder, &name, shape)?;
            if stored.info.dtype != Dtype::U8 {
                let problem = format!("is {:?}, and MXFP4 is stored as U8", stored.info.dtype);
                return Err(FolderProblem::tensor(&name, problem).at(self.shards.path(stored.shard)));
            }
            Ok(grid(name, &stored, wanted, blocks, size))
        };
        let codes = part("blocks", &[&shape[..], &[mxfp4::CODES]].concat(), mxfp4::CODES)?;
        let scales = part("scales", &shape, 1)?;
        Ok((TensorType::MXFP4, Origin::Mxfp4 { codes, scales }))
    }

    /// Where a tensor of this name and shape is.
    fn find(&mut self, folder: &Path, name: &str, shape: &[usize]) -> Result<Stored, FolderError> {
        let Some(stored) = self.shards.find(name) else {
            let problem = "is missing, and the model of config.json has it";
            return Err(FolderProblem::tensor(name, problem).at(folder));
        };
        if stored.info.shape != shape {
            let problem = format!("has shape {:?}, config.json wants {shape:?}", stored.info.shape);
            return Err(FolderProblem::tensor(name, problem).at(self.shards.path(stored.shard)));
        }
        Ok(stored)
    }
}

/// The elements of a tensor, so many in a row.
fn grid(name: String, stored: &Stored, wanted: &Wanted, columns: usize, size: usize) -> Grid {
    let rows = wanted.dims[usize::from(!wanted.is_vector())..].iter().product();
    let Stored { shard, start, .. } = *stored;
    Grid { name, shard, start, size, rows, columns, arrangement: wanted.arrangement }
}

/// Matrices that are kept in f32 by all who write GGUF files: positions, which are added to the tokens' rows, and what chooses
/// experts.
const EXACT: [&str; 2] = ["position_embd.weight", "ffn_gate_inp.weight"];

/// How a tensor of floats is to be stored: vectors in f32, as in GGUF files; matrices as they are, or quantised if rows are
/// whole blocks.
fn tensor_type(wanted: &Wanted, float: Float, quant: Option<Quant>) -> TensorType {
    let Wanted { gguf, dims, .. } = wanted;
    if wanted.is_vector() || EXACT.iter().any(|name| gguf.ends_with(name)) {
        return TensorType::F32;
    }
    match quant.map(Quant::tensor_type) {
        Some(ty) if dims[0].is_multiple_of(ty.block_values()) => ty,
        _ => float.tensor_type(),
    }
}
