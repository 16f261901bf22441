//! Everything below HTTP: device, memory, weights, tokenizer, model, scheduler, engine. No async, no HTTP.

pub mod batch;
pub mod device;
pub mod engine;
pub mod gguf;
pub mod kv_cache;
pub mod model;
pub mod ops;
pub mod request;
pub mod tokenizer;
pub mod trace;

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
    /// Bytes that weights, KV cache and activations take on the device.
    pub bytes_used: u64,
    /// Bytes the device has.
    pub bytes_total: u64,
}
