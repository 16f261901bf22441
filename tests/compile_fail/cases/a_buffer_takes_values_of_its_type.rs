//! What is uploaded has the type of what the buffer holds.

use runtime::device::{Buffer, Device, DeviceError};

pub fn case(device: &Device, buffer: &mut Buffer<f32>) -> Result<(), DeviceError> {
    let values = [1u32, 2]; // fails
    let values = [1f32, 2.0]; // compiles
    device.upload(buffer, 0, &values) // fails: E0308
    device.upload(buffer, 0, &values) // compiles
}
