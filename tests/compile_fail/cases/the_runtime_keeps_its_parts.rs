//! What the runtime is made of is not for others to make.

use runtime::device::cuda::CudaMemory; // fails: E0603
use runtime::engine::sequence::Sequence; // fails: E0603
use runtime::engine::Engine; // fails: E0603
use runtime::engine::sampler::Sampler; // fails: E0603
use runtime::device::{Buffer, Cuda, Device}; // compiles
use runtime::engine::{EngineHandle, JobQueue}; // compiles

pub fn case() {}
