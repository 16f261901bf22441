//! Everything below HTTP: device, memory, weights, tokenizer, model, scheduler, engine. No async, no HTTP.

pub mod batch;
pub mod bench;
pub mod chat_template;
pub mod checkpoint;
pub mod device;
pub mod engine;
pub mod estimate;
mod file;
pub mod gemm;
pub mod gguf;
pub mod huggingface;
pub mod kv_cache;
pub mod model;
pub mod model_hash;
pub mod numerics;
pub mod ops;
pub mod products;
pub mod receipt;
pub mod request;
pub mod rows;
pub mod scheduler;
pub mod synthetic;
pub mod tokenizer;
pub mod trace;
mod watch;
pub mod worker;

pub use worker::ModelInfo;
