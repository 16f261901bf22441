//! The engine: one thread that owns the device.

mod adjust;
mod compute;
#[allow(clippy::module_inception, reason = "the engine is what this module is about")]
mod engine;
mod fault;
mod handle;
mod logprobs;
mod outbox;
pub(crate) mod sampler;
mod sequence;
mod stop;
mod warm_up;

pub use adjust::MOST_BIASED;
pub(crate) use compute::{Compute, OnDevice};
pub(crate) use engine::Engine;
pub use handle::{
    CacheUse, DEFAULT_MAX_TOKENS, EngineHandle, EngineState, Job, JobKey, JobQueue, Limits, Next, Status,
    channel,
};
pub(crate) use sampler::Row;
