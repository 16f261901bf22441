use std::io;
use std::path::PathBuf;

use super::ValueType;

/// Why a GGUF file, or something in it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", .path.display())]
pub struct GgufError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a GGUF file. `subject` is what was being read, such as `tensor "output.weight"`.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The operating system refused.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// Some other kind of file.
    #[error("not a GGUF file: it begins with {0:?}, not with \"GGUF\"")]
    Magic(String),
    /// Byte order of other machines.
    #[error("a big-endian GGUF file, which is not supported: fetch or convert to a little-endian one")]
    BigEndian,
    /// An older or newer format.
    #[error("GGUF version {0} is not supported, 2 and 3 are: convert the model anew")]
    Version(u32),
    /// The file ends too early.
    #[error(
        "{subject}: {field} at byte {offset} needs a file of {needed} bytes, this one has {len}: it is cut short or damaged, fetch it again"
    )]
    Truncated {
        /// What was being read.
        subject: String,
        /// Which part of it.
        field: &'static str,
        /// Where that part begins.
        offset: u64,
        /// Bytes the file would have to have.
        needed: u64,
        /// Bytes it has.
        len: u64,
    },
    /// The file was longer when it was opened.
    #[error(
        "{subject}: its bytes up to {needed} were there when the file was opened, now it has {len}: it was cut short meanwhile; put a model in its place by renaming, not by writing into it"
    )]
    Shrunk {
        /// What was being read.
        subject: String,
        /// Where its bytes end.
        needed: u64,
        /// Bytes the file has now, unless it has grown again.
        len: u64,
    },
    /// A header that is not one of a model.
    #[error("{subject}: {field} at byte {offset} makes the header larger than 256 MiB: no model needs that")]
    Header {
        /// What was being read.
        subject: String,
        /// Which part of it.
        field: &'static str,
        /// Where that part begins.
        offset: u64,
    },
    /// Something the format does not allow.
    #[error("{subject}: {fault} (byte {offset}): the file is damaged, or made by a faulty converter")]
    Invalid {
        /// What was being read.
        subject: String,
        /// What is wrong with it.
        fault: String,
        /// Up to where the file had been read.
        offset: u64,
    },
    /// A type of weights this program has never heard of.
    #[error(
        "tensor {tensor:?} has type {id}, which is not a known tensor type: the model needs a newer worker, or is stored in a type that was withdrawn"
    )]
    TensorType {
        /// The tensor's name.
        tensor: String,
        /// The type's number.
        id: u32,
    },
    /// A tensor's values cannot be had.
    #[error("tensor {tensor:?}: {fault}")]
    Content {
        /// The tensor's name.
        tensor: String,
        /// What is wrong with them.
        fault: String,
    },
    /// The metadata lack a key.
    #[error("the metadata have no {0:?}: the model was converted without it")]
    Missing(String),
    /// A key's value is not what it should be.
    #[error("metadata {key:?} should be {wanted}, it is {found}")]
    WrongType {
        /// The key.
        key: String,
        /// What was asked for.
        wanted: &'static str,
        /// What the file has.
        found: String,
    },
}

impl Problem {
    pub(super) fn wrong_type(key: &str, wanted: &'static str, found: impl ToString) -> Problem {
        Problem::WrongType { key: key.to_owned(), wanted, found: found.to_string() }
    }

    pub(super) fn wrong_elements(key: &str, wanted: &'static str, found: ValueType) -> Problem {
        Problem::wrong_type(key, wanted, format_args!("an array of {}", found.name()))
    }
}
