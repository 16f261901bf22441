//! Who makes a view of a buffer, or launches a kernel with one, answers for the memory behind it.

use kernels::residual::{ADD, Add};
use runtime::device::{Buffer, Device, DeviceError};

pub fn case(device: &Device, buffer: &Buffer<f32>, arguments: &Add) -> Result<(), DeviceError> {
    let _ = buffer.view(0, 1); // fails: E0133
    // SAFETY: nobody runs this.
    let _ = unsafe { buffer.view(0, 1) }; // compiles
    device.launch(&ADD, arguments) // fails: E0133
    // SAFETY: nobody runs this.
    unsafe { device.launch(&ADD, arguments) } // compiles
}
