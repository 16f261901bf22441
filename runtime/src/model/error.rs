//! Why a model cannot be loaded or run.

use std::path::PathBuf;

use crate::device::DeviceError;
use crate::gguf::GgufError;

/// Why a model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read, or says nothing where it should.
    #[error(transparent)]
    File(#[from] GgufError),
    /// The device failed or lacks memory.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The architecture is none of those that this program runs.
    #[error("{}: architecture {name:?} is not supported; supported: {supported}", path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// `general.architecture`.
        name: String,
        /// What is supported.
        supported: String,
    },
    /// A field has a value that this program does not run.
    #[error("{}: {field}: {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The metadata key.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor is missing, or has a type or shape that this program does not run.
    #[error("{}: tensor {name:?}: {problem}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A position outside of the context that there is room for.
    #[error("position {position} is outside of the context of {context} tokens")]
    ContextOverflow {
        /// The position.
        position: u32,
        /// Tokens that the context holds.
        context: usize,
    },
    /// A token id that the model does not have.
    #[error("token id {id} at position {position} is outside the vocabulary of {vocab}")]
    TokenOutOfRange {
        /// Its position in its sequence.
        position: u32,
        /// The id.
        id: u32,
        /// Tokens in the vocabulary.
        vocab: usize,
    },
}
