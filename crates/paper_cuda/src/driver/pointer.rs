//! What kind of memory an address is in.

use std::ffi::{c_int, c_uint};

use super::functions;
use crate::INVALID_VALUE;
use crate::gpu::Gpu;
use crate::memory::Kind;

/// A `CUpointer_attribute` of an address: its value and how many bytes that has. `None` where the address has none.
fn attribute(gpu: &Gpu, which: c_int, address: usize) -> Option<(u64, usize)> {
    let block = gpu.memory.find(address)?;
    let of_host = block.kind != Kind::Device;
    let word = size_of::<usize>();
    Some(match which {
        // The context.
        1 => (gpu.context as u64, word),
        // The type: the host's or the device's.
        2 => (if block.kind == Kind::Pinned { 1 } else { 2 }, 4),
        // The address for the device, and for the host: one for both.
        3 => (address as u64, word),
        4 if of_host => (address as u64, word),
        // Which allocation of all it is.
        7 => (block.id, 8),
        // Whether it is managed.
        8 => (u64::from(block.kind == Kind::Managed), 4),
        // The device.
        9 => (0, 4),
        // Where its allocation begins, and how many bytes that has.
        11 => (block.address() as u64, word),
        12 => (block.bytes as u64, word),
        _ => return None,
    })
}

/// Bytes of an attribute of an address that no allocation has.
fn bytes(which: c_int) -> Option<usize> {
    Some(match which {
        1 | 3 | 4 | 7 | 11 | 12 => 8,
        2 | 8 | 9 => 4,
        _ => return None,
    })
}

/// # Safety
/// `place` has so many bytes.
unsafe fn write(place: *mut u8, value: u64, bytes: usize) {
    // SAFETY: the caller's promise; at most 8 bytes, and the least significant come first.
    unsafe { place.copy_from_nonoverlapping(value.to_le_bytes().as_ptr(), bytes) }
}

functions! { in_context:
    cuPointerGetAttribute(gpu, place: *mut u8, which: c_int, address: usize) {
        let (value, bytes) = attribute(gpu, which, address).ok_or(INVALID_VALUE)?;
        // SAFETY: the caller has a place of this attribute's size.
        unsafe { write(place, value, bytes) }
    }
    // An attribute that the address does not have is zero, and no error.
    cuPointerGetAttributes(
        gpu, count: c_uint, which: *const c_int, places: *const *mut u8, address: usize,
    ) {
        for i in 0..count as usize {
            // SAFETY: so many attributes, and as many places of their sizes.
            let (which, place) = unsafe { (*which.add(i), *places.add(i)) };
            let none = bytes(which).map(|bytes| (0, bytes));
            let (value, bytes) = attribute(gpu, which, address).or(none).ok_or(INVALID_VALUE)?;
            // SAFETY: as above.
            unsafe { write(place, value, bytes) }
        }
    }
}
