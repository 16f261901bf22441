//! Scratch memory on the device: shared memory.

use super::intrinsics::copy_async_16;
use crate::{In, Scratch};

/// Cells in shared memory.
pub struct Shared<V>(*mut V);

impl<V> Clone for Shared<V> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<V> Copy for Shared<V> {}

impl<V> Shared<V> {
    /// Cells from `base` on, in shared memory.
    #[inline(always)]
    pub(super) fn new(base: *mut V) -> Self {
        Self(base)
    }
}

impl<V: Copy> Scratch<V> for Shared<V> {
    #[inline(always)]
    fn get(&self, _: usize, i: usize) -> V {
        // SAFETY: inside the scratch memory; the host's teams check that for the same source.
        unsafe { self.0.add(i).read() }
    }

    #[inline(always)]
    fn get_as<W: Copy>(&self, _: usize, i: usize) -> W {
        // SAFETY: as above, and aligned.
        unsafe { self.0.add(i).cast::<W>().read() }
    }

    #[inline(always)]
    fn set(&self, _: usize, i: usize, value: V) {
        // SAFETY: as above.
        unsafe { self.0.add(i).write(value) }
    }

    #[inline(always)]
    fn set_as<W: Copy>(&self, _: usize, i: usize, value: W) {
        // SAFETY: as above, and aligned.
        unsafe { self.0.add(i).cast::<W>().write(value) }
    }

    #[inline(always)]
    fn address(&self, i: usize) -> *const V {
        self.0.wrapping_add(i)
    }

    #[inline(always)]
    fn copy_async(&self, _: usize, to: usize, source: &In<V>, from: usize, valid: bool) {
        // A copy of 0 bytes reads nothing and fills with zeros.
        let (address, bytes) =
            if valid { (source.address(from, 16 / size_of::<V>()), 16) } else { (source.address(0, 0), 0) };
        // SAFETY: as above; both addresses are multiples of 16 bytes.
        unsafe { copy_async_16(self.0.add(to).cast(), address.cast(), bytes) }
    }
}
