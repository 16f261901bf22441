//! How a function is forwarded: looked up in the driver at its first call, called, its answer checked.

use std::ffi::c_void;

use cust_raw::CUresult;

use crate::driver::driver;

/// Defines driver functions that forward to the driver, one a line, as `name(argument: type, ...);`.
///
/// After the arguments may come `refused if condition`: the function then answers `CUDA_ERROR_NOT_SUPPORTED` and
/// calls nothing. A line that disagrees with the declaration in `cust_raw` does not compile; after `undeclared:` come
/// functions that `cust_raw` does not declare.
macro_rules! forward {
    (undeclared: $($name:ident($($argument:ident: $type:ty),* $(,)?) $(refused if $refused:expr)?;)*) => {
        $(
            // The C name, since this is the C function.
            #[allow(non_snake_case)]
            #[allow(clippy::too_many_arguments)]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $type),*) -> cust_raw::CUresult {
                $(if $refused {
                    return cust_raw::CUresult::CUDA_ERROR_NOT_SUPPORTED;
                })?
                #[cfg(feature = "fault-injection")]
                if let Some(code) = $crate::fault::answer(stringify!($name)) {
                    return code;
                }
                type Function = unsafe extern "C" fn($($type),*) -> std::ffi::c_int;
                static ADDRESS: std::sync::OnceLock<Result<Function, cust_raw::CUresult>> = std::sync::OnceLock::new();
                let function = ADDRESS.get_or_init(|| {
                    let address = $crate::forward::address(stringify!($name))?;
                    // SAFETY: the driver's function of this name has this signature; its answer is an enum, which
                    // C passes as an int.
                    Ok(unsafe { std::mem::transmute::<*mut std::ffi::c_void, Function>(address) })
                });
                match function {
                    // SAFETY: the caller keeps the driver function's own contract.
                    Ok(function) => $crate::result::checked(unsafe { function($($argument),*) }),
                    Err(code) => *code,
                }
            }
        )*
    };
    ($($name:ident($($argument:ident: $type:ty),* $(,)?) $(refused if $refused:expr)?;)*) => {
        $crate::forward::forward! { undeclared: $($name($($argument: $type),*) $(refused if $refused)?;)* }
        $(const _: unsafe extern "C" fn($($type),*) -> cust_raw::CUresult = cust_raw::$name;)*
    };
}
pub(crate) use forward;

/// The address of a driver function, or the code that answers for it.
pub(crate) fn address(name: &str) -> Result<*mut c_void, CUresult> {
    let driver = driver().map_err(|_| CUresult::CUDA_ERROR_NOT_INITIALIZED)?;
    driver.address(name).ok_or(CUresult::CUDA_ERROR_NOT_SUPPORTED)
}
