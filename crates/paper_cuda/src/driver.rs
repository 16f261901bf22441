//! The driver's C functions.

mod device;
mod launch;
mod memory;
mod pointer;
mod stream;

/// Defines driver functions, whose bodies answer success unless they say otherwise. `on_device` functions need no context,
/// `in_context` ones answer for it first.
macro_rules! functions {
    ($scope:ident: $($name:ident($gpu:ident $(, $argument:ident: $type:ty)* $(,)?) $body:block)*) => {$(
        // The C name, since this is the C function.
        #[allow(non_snake_case, clippy::too_many_arguments)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> std::ffi::c_int {
            $crate::gpu::$scope(|$gpu| {
                $body;
                #[allow(unreachable_code, reason = "some bodies always fail")]
                Ok(())
            })
        }
    )*};
}
use functions;
