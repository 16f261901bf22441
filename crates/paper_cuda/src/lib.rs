//! A paper GPU: a `libcuda.so.1` for tests whose GPU is the host, so that all that a program does through the CUDA driver
//! runs where there is no GPU, and answers what a GPU would answer.
//!
//! It takes the kernels' real PTX, but runs their host versions, found by name. What is put on a stream is done as late
//! as CUDA allows, so that whoever reuses memory too early, or forgets to wait, gets wrong numbers. What it is asked is
//! checked at least as strictly as a driver would: handles, ranges, geometry, the current context, what a capture forbids. A
//! trap makes its context unusable for good, as on a GPU.
//!
//! * `PAPER_CUDA_MB` is the memory that the GPU has, 2048 unless given. It is accounted for, and runs out.
//! * `PAPER_CUDA_LOG` names a file that gets a line whenever the context's last user lets go of it: what was done, and
//!   what was left in it.
//!
//! What is not here, a program finds missing, as in an old driver. There is no cuBLAS for it: a real one does not
//! work with it, and has to be hidden.
//!
//! # How tests get it
//!
//! A package whose tests want the library has this one among its `[dev-dependencies]`. Cargo then builds
//! `libpaper_cuda.so` into the folder that test executables are in too, whatever is built and however; a test opens it
//! there, or puts it into its child's `LD_LIBRARY_PATH` under the driver's name. It is built as an rlib as well only because
//! cargo wants something of a dependency that it could link. Nothing may `use` it: its functions have the names of
//! `cuda_loader`'s.

mod driver;
mod event;
mod gpu;
mod host;
mod memory;
mod module;
mod registry;
mod stream;

/// The threads that the CPU device runs kernels on are this GPU's processors.
#[allow(dead_code, unreachable_pub, reason = "written for the runtime; its memory is not needed here")]
#[path = "../../../runtime/src/device/cpu.rs"]
mod cpu;
#[path = "../../../runtime/src/device/pool.rs"]
mod pool;

use std::ffi::c_int;

/// What a function of the driver answers: nothing, or one of the codes below.
type Answer<T = ()> = Result<T, c_int>;

const INVALID_VALUE: c_int = 1;
const ILLEGAL_ADDRESS: c_int = 700;
const OUT_OF_MEMORY: c_int = 2;
const INVALID_DEVICE: c_int = 101;
const INVALID_IMAGE: c_int = 200;
const INVALID_CONTEXT: c_int = 201;
const INVALID_PTX: c_int = 218;
const INVALID_HANDLE: c_int = 400;
const NOT_FOUND: c_int = 500;
const NOT_READY: c_int = 600;
const CONTEXT_IS_DESTROYED: c_int = 709;
const LAUNCH_FAILED: c_int = 719;
const NOT_SUPPORTED: c_int = 801;
const CAPTURE_UNSUPPORTED: c_int = 900;
const CAPTURE_INVALIDATED: c_int = 901;
