//! The library, its device and the device's context.

use std::ffi::{c_int, c_uint};

use super::functions;
use crate::gpu::CURRENT;
use crate::{INVALID_DEVICE, INVALID_VALUE, memory, module};

/// CUDA 13.0.
const VERSION: c_int = 13000;
const NAME: &[u8] = b"Paper GPU\0";

/// Device attributes that have an answer here.
fn attribute(which: c_int) -> Option<c_int> {
    Some(match which {
        // Threads of a block, and a block's and a grid's extents.
        1..=3 => 1024,
        4 => 64,
        5 => c_int::MAX,
        6 | 7 => 65535,
        // Bytes of shared memory of a block.
        8 => 48 << 10,
        // Lanes of a warp.
        10 => 32,
        // Multiprocessors.
        16 => std::thread::available_parallelism().map_or(1, |cores| cores.get() as c_int),
        // Addresses of host and device never meet.
        41 => 1,
        // Compute capability 9.0.
        75 => 9,
        76 => 0,
        // Managed memory.
        83 => 1,
        // Bytes of shared memory of a multiprocessor.
        81 => 228 << 10,
        97 => module::MOST_SHARED as c_int,
        _ => return None,
    })
}

fn check(device: c_int) -> Result<(), c_int> {
    if device == 0 { Ok(()) } else { Err(INVALID_DEVICE) }
}

functions! { on_device:
    cuDriverGetVersion(_gpu, version: &mut c_int) { *version = VERSION }
    cuInit(_gpu, flags: c_uint) {
        if flags != 0 { return Err(INVALID_VALUE) }
    }
    cuDeviceGetCount(_gpu, count: &mut c_int) { *count = 1 }
    cuDeviceGet(_gpu, device: &mut c_int, ordinal: c_int) {
        check(ordinal)?;
        *device = 0
    }
    cuDeviceGetName(_gpu, name: *mut u8, len: c_int, device: c_int) {
        check(device)?;
        let bytes = NAME.len().min(usize::try_from(len).map_err(|_| INVALID_VALUE)?);
        // SAFETY: the caller has a place for so many bytes.
        unsafe { name.copy_from_nonoverlapping(NAME.as_ptr(), bytes) }
    }
    cuDeviceGetUuid_v2(_gpu, uuid: &mut [u8; 16], device: c_int) {
        check(device)?;
        *uuid = *b"the paper GPU 00"
    }
    cuDeviceTotalMem_v2(_gpu, bytes: &mut usize, device: c_int) {
        check(device)?;
        *bytes = memory::total()
    }
    cuDeviceGetAttribute(_gpu, value: &mut c_int, which: c_int, device: c_int) {
        check(device)?;
        *value = attribute(which).ok_or(INVALID_VALUE)?
    }

    cuDevicePrimaryCtxRetain(gpu, context: &mut usize, device: c_int) {
        check(device)?;
        *context = gpu.retain()
    }
    cuDevicePrimaryCtxRelease_v2(gpu, device: c_int) {
        check(device)?;
        gpu.release()?
    }
    cuDevicePrimaryCtxGetState(gpu, device: c_int, flags: &mut c_uint, active: &mut c_int) {
        check(device)?;
        (*flags, *active) = (0, c_int::from(gpu.references > 0))
    }
    cuCtxSetCurrent(gpu, context: usize) {
        if context != 0 { gpu.check_context(context)? }
        CURRENT.set(context)
    }
    cuCtxGetCurrent(_gpu, context: &mut usize) { *context = CURRENT.get() }
}

functions! { in_context:
    cuCtxGetDevice(_gpu, device: &mut c_int) { *device = 0 }
    cuCtxSynchronize(gpu) {
        gpu.forbid_in_capture()?;
        gpu.finish()?
    }
}
