//! Memory, copies and fills.

use std::ffi::c_uint;

use super::functions;
use crate::gpu::Gpu;
use crate::memory::{self, Kind};
use crate::stream::{Pattern, Work};
use crate::{Answer, INVALID_VALUE};

functions! { in_context:
    cuMemGetInfo_v2(gpu, free: &mut usize, total: &mut usize) {
        (*free, *total) = (gpu.memory.free(), memory::total())
    }
    cuMemAlloc_v2(gpu, address: &mut usize, bytes: usize) {
        gpu.forbid_in_capture()?;
        *address = gpu.memory.alloc(Kind::Device, bytes)?
    }
    cuMemAllocManaged(gpu, address: &mut usize, bytes: usize, flags: c_uint) {
        gpu.forbid_in_capture()?;
        // For everybody, or for the host alone until told otherwise.
        if !(1..=2).contains(&flags) { return Err(INVALID_VALUE) }
        *address = gpu.memory.alloc(Kind::Managed, bytes)?
    }
    cuMemFree_v2(gpu, address: usize) {
        if address == 0 { return Ok(()) }
        gpu.forbid_in_capture()?;
        gpu.finish()?;
        gpu.memory.release(address)?
    }
    cuMemAllocHost_v2(gpu, address: &mut usize, bytes: usize) {
        gpu.forbid_in_capture()?;
        *address = gpu.memory.alloc(Kind::Pinned, bytes)?
    }
    cuMemHostAlloc(gpu, address: &mut usize, bytes: usize, _flags: c_uint) {
        gpu.forbid_in_capture()?;
        *address = gpu.memory.alloc(Kind::Pinned, bytes)?
    }
    cuMemFreeHost(gpu, address: usize) {
        gpu.forbid_in_capture()?;
        gpu.memory.unpin(address)?
    }
    cuMemGetAddressRange_v2(gpu, base: Option<&mut usize>, bytes: Option<&mut usize>, address: usize) {
        let block = gpu.memory.find(address).filter(|block| block.kind != Kind::Pinned).ok_or(INVALID_VALUE)?;
        if let Some(base) = base { *base = block.address() }
        if let Some(bytes) = bytes { *bytes = block.bytes }
    }

    cuMemcpyHtoD_v2(gpu, to: usize, from: *const u8, len: usize) {
        gpu.forbid_in_capture()?;
        // SAFETY: the caller's bytes.
        unsafe { upload(gpu, to, from, len, 0)? };
        gpu.finish()?
    }
    cuMemcpyHtoDAsync_v2(gpu, to: usize, from: *const u8, len: usize, stream: usize) {
        // SAFETY: the caller's bytes; pinned ones stay until the copy is done, or become others.
        unsafe { upload(gpu, to, from, len, stream)? }
    }
    cuMemcpyDtoH_v2(gpu, to: *mut u8, from: usize, len: usize) {
        gpu.forbid_in_capture()?;
        download(gpu, to, from, len, 0)?;
        gpu.finish()?
    }
    cuMemcpyDtoHAsync_v2(gpu, to: *mut u8, from: usize, len: usize, stream: usize) {
        download(gpu, to, from, len, stream)?;
        // A driver answers when such a copy is done.
        if !gpu.memory.reaches(to as usize, len) && gpu.capture(stream).is_none() {
            gpu.finish_stream(stream)?
        }
    }
    cuMemcpyDtoD_v2(gpu, to: usize, from: usize, len: usize) {
        gpu.forbid_in_capture()?;
        within(gpu, to, from, len, 0)?
    }
    cuMemcpyDtoDAsync_v2(gpu, to: usize, from: usize, len: usize, stream: usize) {
        within(gpu, to, from, len, stream)?
    }

    cuMemsetD8_v2(gpu, to: usize, value: u8, count: usize) { fill(gpu, to, Pattern::One(value), count, 0)? }
    cuMemsetD16_v2(gpu, to: usize, value: u16, count: usize) { fill(gpu, to, Pattern::Two(value), count, 0)? }
    cuMemsetD32_v2(gpu, to: usize, value: u32, count: usize) { fill(gpu, to, Pattern::Four(value), count, 0)? }
    cuMemsetD8Async(gpu, to: usize, value: u8, count: usize, stream: usize) {
        fill(gpu, to, Pattern::One(value), count, stream)?
    }
    cuMemsetD16Async(gpu, to: usize, value: u16, count: usize, stream: usize) {
        fill(gpu, to, Pattern::Two(value), count, stream)?
    }
    cuMemsetD32Async(gpu, to: usize, value: u32, count: usize, stream: usize) {
        fill(gpu, to, Pattern::Four(value), count, stream)?
    }
}

/// # Safety
/// The caller's bytes are there.
unsafe fn upload(gpu: &mut Gpu, to: usize, from: *const u8, len: usize, stream: usize) -> Answer {
    if len == 0 {
        return gpu.check_stream(stream);
    }
    gpu.memory.check_device(to, len)?;
    let work = if gpu.memory.reaches(from as usize, len) {
        Work::Copy { to, from: from as usize, len }
    } else {
        // SAFETY: the caller's promise.
        Work::Write { to, bytes: unsafe { std::slice::from_raw_parts(from, len) }.into() }
    };
    gpu.put(stream, work)
}

fn download(gpu: &mut Gpu, to: *mut u8, from: usize, len: usize, stream: usize) -> Answer {
    if len == 0 {
        return gpu.check_stream(stream);
    }
    gpu.memory.check_device(from, len)?;
    gpu.put(stream, Work::Copy { to: to as usize, from, len })
}

fn within(gpu: &mut Gpu, to: usize, from: usize, len: usize, stream: usize) -> Answer {
    if len == 0 {
        return gpu.check_stream(stream);
    }
    gpu.memory.check_device(to, len)?;
    gpu.memory.check_device(from, len)?;
    gpu.put(stream, Work::Copy { to, from, len })
}

fn fill(gpu: &mut Gpu, to: usize, pattern: Pattern, count: usize, stream: usize) -> Answer {
    if count == 0 {
        return gpu.check_stream(stream);
    }
    let len = count.checked_mul(pattern.bytes()).ok_or(INVALID_VALUE)?;
    gpu.memory.check_device(to, len)?;
    if !to.is_multiple_of(pattern.bytes()) {
        return Err(INVALID_VALUE);
    }
    gpu.put(stream, Work::Fill { to, pattern, count })
}
