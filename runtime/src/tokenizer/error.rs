use super::pre_tokenizer;
use crate::gguf::GgufError;

/// Why a file's tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The metadata lack a key or have it in the wrong type.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// Another kind of tokenizer.
    #[error("tokenizer.ggml.model is {0:?}, which is not supported: byte-level BPE, \"gpt2\", is")]
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
}
