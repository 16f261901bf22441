//! What goes wrong on a device.

use cust::sys::CUresult;

use super::{NotResident, Purpose, Usage};

/// What went wrong on a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No driver, or none that answers.
    #[error("{0}")]
    NoDriver(String),
    /// The driver does not know the kernels' PTX.
    #[error(
        "{path} is a driver for CUDA {found}, the kernels need one for CUDA {needed} or newer: update the driver, \
         or run on the CPU"
    )]
    OldDriver {
        /// The driver's library.
        path: String,
        /// The newest CUDA it understands.
        found: String,
        /// The oldest that will do.
        needed: String,
    },
    /// There are fewer GPUs.
    #[error("there is no device cuda:{ordinal}: the driver knows {count} (`worker-orcd doctor` lists them)")]
    NoDevice {
        /// The one asked for.
        ordinal: u32,
        /// How many there are.
        count: u32,
    },
    /// The GPU cannot run this program's kernels.
    #[error("{name} has compute capability {major}.{minor}, the kernels need 8.0 or newer")]
    TooOld {
        /// The GPU.
        name: String,
        /// Its compute capability.
        major: i32,
        /// Its compute capability.
        minor: i32,
    },
    /// Memory ran out.
    #[error("out of memory on {device}: {needed} bytes needed for {purpose}, {free} free; in use: {usage}")]
    OutOfMemory {
        /// The device.
        device: String,
        /// Bytes asked for.
        needed: u64,
        /// What for.
        purpose: Purpose,
        /// Bytes that were free.
        free: u64,
        /// Bytes in use by purpose.
        usage: Usage,
    },
    /// No memory was asked for.
    #[error("an allocation of 0 bytes for {purpose}")]
    NoBytes {
        /// What for.
        purpose: Purpose,
    },
    /// A call of the driver failed.
    #[error("{call}: {code:?} ({})", *code as u32)]
    Driver {
        /// What was called.
        call: String,
        /// The driver's error, with the driver's name of it.
        code: CUresult,
    },
    /// A call of cuBLAS failed.
    #[error("{call}: {error}")]
    Library {
        /// What was called.
        call: String,
        /// The library's name of the error.
        error: String,
    },
    /// An allocation is not in the device's memory.
    #[error(transparent)]
    NotResident(NotResident),
    /// The driver cannot compile a kernel.
    #[error("the driver cannot compile {kernel}: {error}: {log}")]
    Compile {
        /// The kernel's entry.
        kernel: String,
        /// The driver's error.
        error: String,
        /// What its compiler says.
        log: String,
    },
    /// What was asked for cannot be part of a graph.
    #[error("{call} inside of a capture: only launches can be part of a graph")]
    Capturing {
        /// What was asked for.
        call: &'static str,
    },
    /// No image of the kernel suits the GPU.
    #[error("no PTX image of {kernel} for compute capability {major}.{minor}")]
    NoImage {
        /// The kernel's entry.
        kernel: String,
        /// The GPU's compute capability.
        major: i32,
        /// The GPU's compute capability.
        minor: i32,
    },
}
