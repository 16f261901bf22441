//! The codes that the log gives to whatever keeps a worker from starting or going on.

use runtime::device::DeviceError;
use runtime::worker::LoadError;

/// Why a worker does not start, or ends: the `code` of the log's `error` event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// An argument cannot be used.
    InvalidArgument,
    /// The device is not named as devices are, or cannot run the kernels.
    InvalidDevice,
    /// There is no such device, or no driver.
    DeviceNotFound,
    /// There is no such model, or it cannot be loaded.
    ModelLoadFailed,
    /// The address cannot be listened on.
    ListenFailed,
    /// Nobody took the ready callback.
    CallbackFailed,
    /// The device failed while serving.
    EngineFailed,
    /// The system denied something.
    Internal,
}

impl Code {
    /// The code of a model that could not be loaded.
    pub(super) fn of_load(error: &LoadError) -> Code {
        match error {
            LoadError::Device(DeviceError::NoDriver(_) | DeviceError::NoDevice { .. }) => {
                Code::DeviceNotFound
            }
            LoadError::Device(
                DeviceError::OldDriver { .. } | DeviceError::TooOld { .. } | DeviceError::NoImage { .. },
            ) => Code::InvalidDevice,
            _ => Code::ModelLoadFailed,
        }
    }

    /// The word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::InvalidDevice => "INVALID_DEVICE",
            Code::DeviceNotFound => "DEVICE_NOT_FOUND",
            Code::ModelLoadFailed => "MODEL_LOAD_FAILED",
            Code::ListenFailed => "LISTEN_FAILED",
            Code::CallbackFailed => "CALLBACK_FAILED",
            Code::EngineFailed => "ENGINE_FAILED",
            Code::Internal => "INTERNAL",
        }
    }
}
