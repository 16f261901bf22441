//! A kernel and its arguments are one type.

use kernels::norm::RmsNorm;
use kernels::residual::{ADD, Add};
use runtime::device::{Device, DeviceError};

pub fn case(device: &Device, norm: &RmsNorm, add: &Add) -> Result<(), DeviceError> {
    let _ = (norm, add);
    // SAFETY: nobody runs this.
    unsafe { device.launch(&ADD, norm) } // fails: E0308
    unsafe { device.launch(&ADD, add) } // compiles
}
