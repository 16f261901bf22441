//! The CUDA driver under `cust`, opened at run time.
//!
//! `cust` expects to be linked against `libcuda`, and a binary linked so does not even start on a machine without
//! an NVIDIA driver. This crate defines the driver's C functions itself: the linker resolves `cust`'s references
//! to them, and each forwards to the `libcuda.so.1` that the first call opens. Where there is none, every function
//! answers `CUDA_ERROR_NOT_INITIALIZED`; [`driver`] says why.
//!
//! An executable needs the crate in its dependencies and one line, `use cuda_loader as _;`, in any crate that uses
//! `cust`.
//!
//! Two things differ from the driver itself. Codes that `cust_raw`'s enum does not know become
//! `CUDA_ERROR_UNKNOWN`, since an enum of an unlisted value is undefined behaviour. And managed memory and mapped
//! host memory are refused with `CUDA_ERROR_NOT_SUPPORTED`: what this project computes with lives in device memory
//! only.
//!
//! With the feature `fault-injection`, which no released executable has, a test can make any call fail: see `fault.rs`.

mod driver;
mod error_text;
#[cfg(feature = "fault-injection")]
mod fault;
mod forward;
mod functions;
mod launch;
mod result;

pub use driver::{Driver, DriverError, DriverVersion, driver};
pub use launch::{LaunchAttribute, LaunchConfig, launch_kernel_ex};
pub use result::checked as code;
