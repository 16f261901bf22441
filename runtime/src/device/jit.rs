//! PTX to machine code, by the driver's compiler.

use std::ffi::{CStr, CString, c_uint, c_void};
use std::ptr::{null, null_mut};

use cust::sys::{self, CUjit_option, CUjitInputType, CUlinkState, CUresult};

use super::DeviceError;
use super::cuda::check;

/// Bytes that the compiler may complain in.
const LOG: usize = 8192;

/// Compiles a kernel's PTX for the current context's GPU.
///
/// # Errors
/// [`DeviceError::Compile`], with what the compiler says.
pub(crate) fn compile(kernel: &str, ptx: &str) -> Result<Vec<u8>, DeviceError> {
    let mut log = vec![0u8; LOG];
    link(ptx, &mut log).map_err(|error| {
        let log = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
        DeviceError::Compile {
            kernel: kernel.to_owned(),
            error: error.to_string(),
            log: log.trim().to_owned(),
        }
    })
}

fn link(ptx: &str, log: &mut [u8]) -> Result<Vec<u8>, DeviceError> {
    let text = CString::new(ptx).map_err(|_| DeviceError::Driver {
        call: "cuLinkAddData of PTX with a NUL in it".to_owned(),
        code: CUresult::CUDA_ERROR_INVALID_PTX,
    })?;
    let mut options =
        [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // The size is passed in place of a pointer. The last byte stays, so that the log ends.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), (log.len() - 1) as *mut c_void];

    let mut state = null_mut();
    // SAFETY: as many options as are said, which outlive the linker, and a place for a handle.
    let code = unsafe {
        sys::cuLinkCreate_v2(
            options.len() as c_uint,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
            &raw mut state,
        )
    };
    check("cuLinkCreate", code)?;
    let linker = Linker(state);
    let bytes = text.as_bytes_with_nul();
    // SAFETY: a live linker; the text of that many bytes, which the driver only reads; no options.
    let code = unsafe {
        sys::cuLinkAddData_v2(
            linker.0,
            CUjitInputType::CU_JIT_INPUT_PTX,
            bytes.as_ptr().cast_mut().cast::<c_void>(),
            bytes.len(),
            null(),
            0,
            null_mut(),
            null_mut(),
        )
    };
    check("cuLinkAddData", code)?;
    let (mut image, mut len) = (null_mut(), 0);
    // SAFETY: a live linker, and places for an address and a size.
    check("cuLinkComplete", unsafe { sys::cuLinkComplete(linker.0, &raw mut image, &raw mut len) })?;
    // SAFETY: the linker's own memory, of that size, until it is destroyed.
    Ok(unsafe { std::slice::from_raw_parts(image.cast::<u8>(), len) }.to_vec())
}

struct Linker(CUlinkState);

impl Drop for Linker {
    fn drop(&mut self) {
        // SAFETY: this handle's only owner.
        let _ = unsafe { sys::cuLinkDestroy(self.0) };
    }
}
