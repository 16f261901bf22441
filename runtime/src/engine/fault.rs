//! A failing device in the words that a client gets.

use crate::device::DeviceError;
use crate::model::ModelError;
use crate::request::JobError;

/// What a job that was being computed is told.
pub(crate) fn fault(error: &ModelError) -> JobError {
    let text = error.to_string();
    match error {
        ModelError::Device(DeviceError::OutOfMemory { .. }) => JobError::OutOfMemory(text),
        ModelError::Device(DeviceError::Driver { call, .. }) if is_launch(call) => JobError::Launch(text),
        ModelError::Device(DeviceError::NotResident(_)) => JobError::NotResident(text),
        ModelError::Device(_) => JobError::Device(text),
        _ => JobError::Internal(text),
    }
}

fn is_launch(call: &str) -> bool {
    call.starts_with("cuLaunch") || call.starts_with("cuGraphLaunch")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Purpose, Usage};
    use cust::sys::CUresult;

    fn driver(call: &str) -> ModelError {
        let (call, code) = (call.to_owned(), CUresult::CUDA_ERROR_LAUNCH_FAILED);
        ModelError::Device(DeviceError::Driver { call, code })
    }

    #[test]
    fn a_launch_is_told_from_what_shows_later() {
        let launch = fault(&driver("cuLaunchKernel of norm__rms"));
        assert_eq!(
            launch,
            JobError::Launch("cuLaunchKernel of norm__rms: CUDA_ERROR_LAUNCH_FAILED (719)".into())
        );
        assert!(matches!(fault(&driver("cuGraphLaunch")), JobError::Launch(_)));
        assert!(matches!(fault(&driver("cuStreamSynchronize")), JobError::Device(_)));
    }

    #[test]
    fn lack_of_memory_tells_the_numbers() {
        let error = DeviceError::OutOfMemory {
            device: "cuda:0".to_owned(),
            needed: 4096,
            purpose: Purpose::KvCache,
            free: 1024,
            usage: Usage::NONE,
        };
        let JobError::OutOfMemory(text) = fault(&error.into()) else { panic!("another error") };
        for part in ["4096", "kv_cache", "1024", "weights 0"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
