//! Any bits that a kernel writes are a valid value.

use runtime::device::{Buffer, Device, DeviceError, Purpose};

pub fn case(device: &Device) -> Result<(), DeviceError> {
    let _: Buffer<bool> = device.alloc(Purpose::Inputs, 3)?; // fails: E0277
    let _: Buffer<u8> = device.alloc(Purpose::Inputs, 3)?; // compiles
    Ok(())
}
