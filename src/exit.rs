//! The end of a process of which a thread may be within the driver: what the driver does at an exit would abort it then.

use std::ffi::c_int;
use std::io::{Write, stdout};

unsafe extern "C" {
    safe fn _exit(code: c_int) -> !;
}

/// Ends the process; nothing of what libraries do at an exit is done.
pub(crate) fn at_once(code: i32) -> ! {
    // Nobody reads it any more if this fails.
    let _ = stdout().flush();
    _exit(code)
}
