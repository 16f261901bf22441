//! Names and descriptions of error codes, which must be there without a driver too: `cust` prints its errors with
//! them and panics where it gets none.

use std::ffi::{CStr, c_char, c_int, c_void};

use cust_raw::CUresult;

use crate::forward::address;

/// Points `text` to the name of `error`, such as `CUDA_ERROR_NOT_INITIALIZED`.
#[allow(non_snake_case)]
#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(error: CUresult, text: *mut *const c_char) -> CUresult {
    // SAFETY: the caller gives a place for a pointer, as the driver's function asks.
    unsafe { describe("cuGetErrorName", error, text) }
}

/// Points `text` to a description of `error`.
#[allow(non_snake_case)]
#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(error: CUresult, text: *mut *const c_char) -> CUresult {
    // SAFETY: as above.
    unsafe { describe("cuGetErrorString", error, text) }
}

unsafe fn describe(function: &str, error: CUresult, text: *mut *const c_char) -> CUresult {
    type Function = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;
    if let Ok(address) = address(function) {
        // SAFETY: both of the driver's functions have this signature.
        let function = unsafe { std::mem::transmute::<*mut c_void, Function>(address) };
        // SAFETY: the caller gives a place for a pointer.
        if unsafe { function(error as c_int, text) } == 0 {
            return CUresult::CUDA_SUCCESS;
        }
    }
    // SAFETY: as above.
    unsafe { *text = without_driver(error).as_ptr() };
    CUresult::CUDA_SUCCESS
}

/// The codes that this crate answers by itself.
fn without_driver(error: CUresult) -> &'static CStr {
    match error {
        CUresult::CUDA_ERROR_NOT_INITIALIZED => c"no NVIDIA driver is loaded",
        CUresult::CUDA_ERROR_NOT_SUPPORTED => c"not supported by this driver or this program",
        _ => c"unknown error",
    }
}
