//! Jobs are taken from the queue by one engine, and the handles hear of its end.

use runtime::engine::{EngineHandle, JobQueue};

pub fn case(handle: &EngineHandle, queue: JobQueue) {
    drop(handle.clone());
    drop(queue.clone()); // fails: E0599
    drop(queue); // compiles
}
