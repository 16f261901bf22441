//! Kernel launches with attributes, newer than `cust_raw`'s declarations (CUDA 11.8).

use std::ffi::{c_int, c_uint, c_void};

use cust_raw::{CUfunction, CUresult, CUstream};

use crate::forward::forward;

/// `CUlaunchConfig`: the geometry and the attributes of a launch.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LaunchConfig {
    /// Blocks along x, y and z.
    pub grid: [c_uint; 3],
    /// Threads of a block along x, y and z.
    pub block: [c_uint; 3],
    /// Bytes of dynamic shared memory of each block.
    pub shared_bytes: c_uint,
    /// The stream to launch into; null is the default stream.
    pub stream: CUstream,
    /// `attribute_count` attributes; may be null where that is 0.
    pub attributes: *mut LaunchAttribute,
    /// How many attributes there are.
    pub attribute_count: c_uint,
}

/// `CUlaunchAttribute`: one attribute of a launch.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
pub struct LaunchAttribute {
    id: c_int,
    padding: [u8; 4],
    value: [u32; 16],
}

impl LaunchAttribute {
    /// Blocks of a thread block cluster along x, y and z.
    pub fn cluster(blocks: [u32; 3]) -> LaunchAttribute {
        LaunchAttribute::new(4, &blocks)
    }

    /// The kernel may begin before the one ahead of it in the stream has ended, and waits for it by itself where it
    /// needs its results.
    pub fn programmatic_stream_serialization() -> LaunchAttribute {
        LaunchAttribute::new(6, &[1])
    }

    fn new(id: c_int, words: &[u32]) -> LaunchAttribute {
        let mut value = [0; 16];
        value[..words.len()].copy_from_slice(words);
        LaunchAttribute { id, padding: [0; 4], value }
    }
}

// The driver reads these as its own structs.
const _: () = assert!(size_of::<LaunchConfig>() == 56 && size_of::<LaunchAttribute>() == 72);

/// Launches `function` as `config` says, its arguments in `parameters`: the driver's `cuLaunchKernelEx`.
///
/// A driver before CUDA 11.8 answers `CUDA_ERROR_NOT_SUPPORTED`.
///
/// # Safety
/// As for `cuLaunchKernel`: live handles, and one pointer for each argument of the kernel, to a value of its type;
/// besides, `config.attributes` points to `config.attribute_count` attributes.
pub unsafe fn launch_kernel_ex(
    config: &LaunchConfig,
    function: CUfunction,
    parameters: *mut *mut c_void,
) -> CUresult {
    // SAFETY: the caller keeps the contract; the last argument is another way to pass parameters, unused.
    unsafe { cuLaunchKernelEx(config, function, parameters, std::ptr::null_mut()) }
}

forward! { undeclared:
    cuLaunchKernelEx(
        config: *const LaunchConfig, function: CUfunction, parameters: *mut *mut c_void, extra: *mut *mut c_void,
    );
}
