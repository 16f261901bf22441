//! The engine: one thread that owns the device.

mod handle;

pub use handle::{DEFAULT_MAX_TOKENS, EngineHandle, EngineState, Job, JobQueue, Limits, Next, Status, channel};
