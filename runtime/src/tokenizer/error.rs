use std::path::PathBuf;

use super::pre_tokenizer;
use crate::gguf::GgufError;

/// Why a model's tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The metadata lack a key or have it in the wrong type.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// Another kind of tokenizer.
    #[error(
        "tokenizer.ggml.model is {0:?}, which is not supported: \"gpt2\" (byte-level BPE), \"llama\" (SentencePiece) and \"gemma4\" are"
    )]
    Model(String),
    /// Another way of splitting text into words.
    #[error("tokenizer.ggml.pre is {0:?}, which is not supported: {known} are", known = pre_tokenizer::known())]
    PreTokenizer(String),
    /// A key contradicts itself or another.
    #[error("{key}: {fault}: the file is damaged, or made by a faulty converter")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// A file of a folder cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file of a folder is not what it should be.
    #[error("{file}: {fault}")]
    Json {
        /// The file's name.
        file: &'static str,
        /// What is wrong with it, and where.
        fault: String,
    },
    /// A part of a tokenizer.json is of a kind that is not known, or asks for something that is not.
    #[error("tokenizer.json: {field} is {what}, which is not supported{hint}")]
    Unsupported {
        /// The part.
        field: String,
        /// What the file has there.
        what: String,
        /// What is supported, after a colon; or nothing.
        hint: &'static str,
    },
}
