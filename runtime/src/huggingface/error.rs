use std::io;
use std::path::{Path, PathBuf};

use super::json::line;

/// Why a folder's model cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .path.display())]
pub struct FolderError {
    /// The file of the folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: FolderProblem,
}

/// What is wrong with a file of a folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderProblem {
    /// The folder lacks it.
    #[error("is missing: {0}")]
    Missing(&'static str),
    /// The operating system refused.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// Not JSON, or a name stands twice in an object.
    #[error("is not the JSON that it should be: {}", line(.0))]
    Json(serde_json::Error),
    /// A field is missing, or has a value that this program does not run.
    #[error("{field:?} {problem}")]
    Field {
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The head of a file of weights.
    #[error("{0}")]
    Weights(String),
    /// A tensor is missing, or is not what it should be.
    #[error("tensor {tensor:?} {problem}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl FolderProblem {
    pub(super) fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into() }
    }

    pub(super) fn tensor(tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { tensor: tensor.to_owned(), problem: problem.into() }
    }

    pub(super) fn at(self, path: &Path) -> FolderError {
        FolderError { path: path.to_owned(), problem: self }
    }
}

impl From<serde_json::Error> for FolderProblem {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<io::Error> for FolderProblem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
