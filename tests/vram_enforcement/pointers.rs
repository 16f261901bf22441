//! Which addresses pass the verification.

use std::ffi::c_void;
use std::ptr::null_mut;

use cuda_std::In;
use cust::sys::{self, CUresult};
use kernels::compare::{self, Count};
use libtest_mimic::Failed;
use runtime::device::{Device, Purpose};
use worker_orcd::images::IMAGES;

use crate::driver::Driver;

const BYTES: usize = 1 << 20;

/// A device whose context is current on this thread, and the driver.
fn open() -> Result<(Device, Driver), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    device.synchronize()?;
    Ok((device, Driver::open()?))
}

/// Asserts that an address is refused, for that reason.
fn refused(device: &Device, address: u64, bytes: usize, why: &str) -> Result<(), Failed> {
    let Err(error) = device.residency().verify_address(address, bytes as u64) else {
        return Err(format!("{address:#x} passes").into());
    };
    let text = error.to_string();
    if !text.contains(why) || !text.contains(&format!("{address:#x}")) {
        return Err(format!("no {why:?} in: {text}").into());
    }
    Ok(())
}

pub(crate) fn device_memory_passes() -> Result<(), Failed> {
    let (device, driver) = open()?;
    let memory = driver.device(BYTES)?;
    let residency = device.residency();
    residency.verify_address(memory.address, BYTES as u64)?;
    residency.verify_address(memory.address + 256, BYTES as u64 - 256)?;
    assert_eq!(residency.verify()?.allocations, 0, "nothing that the device itself allocated");
    let _buffer = device.alloc::<u8>(Purpose::Weights, BYTES)?;
    let verified = residency.verify()?;
    assert_eq!((verified.allocations, verified.bytes), (1, BYTES as u64));
    Ok(())
}

pub(crate) fn memory_of_the_host_fails() -> Result<(), Failed> {
    let (device, _) = open()?;
    let memory = vec![1u8; BYTES];
    refused(&device, memory.as_ptr() as u64, BYTES, "knows no such address")
}

pub(crate) fn managed_memory_fails() -> Result<(), Failed> {
    let (device, driver) = open()?;
    refused(&device, driver.managed(BYTES)?.address, BYTES, "managed")
}

pub(crate) fn pinned_memory_fails() -> Result<(), Failed> {
    let (device, driver) = open()?;
    refused(&device, driver.pinned(BYTES)?.address, BYTES, "memory of the host")
}

pub(crate) fn null_fails() -> Result<(), Failed> {
    let (device, _) = open()?;
    refused(&device, 0, BYTES, "knows no such address")
}

pub(crate) fn bytes_past_an_allocation_fail() -> Result<(), Failed> {
    let (device, driver) = open()?;
    let memory = driver.device(BYTES)?;
    refused(&device, memory.address, BYTES + 1, "the allocation there has 1048576 bytes")?;
    refused(&device, memory.address + 256, BYTES, "the allocation there has 1048576 bytes")?;
    let address = memory.address;
    drop(memory);
    refused(&device, address, BYTES, "knows no such address")
}

pub(crate) fn a_kernel_gets_no_address_of_the_host() -> Result<(), Failed> {
    let (device, driver) = open()?;
    let pinned = driver.pinned(BYTES)?;
    let host = [0f32; 4];
    let mut answers = Vec::new();
    for address in [host.as_ptr() as u64, pinned.address, driver.device(BYTES)?.address] {
        // SAFETY: a launch that is refused reads nothing, and the device's memory is large enough.
        let launched = unsafe {
            let view = In::new(address as *const f32, 4);
            let counts = device.alloc::<u64>(Purpose::Activations, 1)?;
            let args = Count { got: view, want: view, counts: counts.view_mut(0, 1), len: 4 };
            device.launch(&compare::COUNT, &args).and_then(|()| device.synchronize())
        };
        answers.push(launched.err().map(|error| error.to_string()));
    }
    let refused =
        |answer: &Option<String>| answer.as_ref().is_some_and(|text| text.contains("ILLEGAL_ADDRESS"));
    assert!(refused(&answers[0]) && refused(&answers[1]) && answers[2].is_none(), "{answers:?}");
    Ok(())
}

pub(crate) fn the_loader_refuses() -> Result<(), Failed> {
    let (_device, _) = open()?;
    let (mut address, mut place) = (0, null_mut());
    let mut host = vec![0u8; BYTES];
    let host = host.as_mut_ptr().cast::<c_void>();
    // SAFETY: places for answers, and memory of the size that is said.
    let answers = unsafe {
        [
            ("cuMemAllocManaged", sys::cuMemAllocManaged(&raw mut address, BYTES, 1)),
            ("cuMemHostAlloc", sys::cuMemHostAlloc(&raw mut place, BYTES, sys::CU_MEMHOSTALLOC_DEVICEMAP)),
            ("cuMemHostRegister", sys::cuMemHostRegister_v2(host, BYTES, sys::CU_MEMHOSTREGISTER_DEVICEMAP)),
            ("cuMemHostGetDevicePointer", sys::cuMemHostGetDevicePointer_v2(&raw mut address, host, 0)),
        ]
    };
    for (call, answer) in answers {
        assert_eq!(answer, CUresult::CUDA_ERROR_NOT_SUPPORTED, "{call}");
    }
    assert!(address == 0 && place.is_null(), "nothing was allocated");
    Ok(())
}
