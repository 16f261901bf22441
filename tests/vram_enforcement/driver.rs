//! The driver as a test reaches it by itself, past the loader that refuses what must not be.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr::null_mut;

use libloading::Library;
use libtest_mimic::Failed;

/// The driver's library; a context is current on this thread, made by the device under test.
pub(crate) struct Driver(Library);

/// Memory of one of the driver's kinds, freed when dropped.
pub(crate) struct Memory<'d> {
    pub(crate) address: u64,
    driver: &'d Driver,
    free: &'static str,
}

impl Driver {
    pub(crate) fn open() -> Result<Self, Failed> {
        // SAFETY: the driver's library runs no more than its own initialisers, and is open already.
        Ok(Self(unsafe { Library::new("libcuda.so.1") }?))
    }

    /// `cuMemAlloc`.
    pub(crate) fn device(&self, bytes: usize) -> Result<Memory<'_>, Failed> {
        let mut address = 0u64;
        // SAFETY: the driver documents this signature; a place for an address.
        let code = unsafe {
            let alloc = self.0.get::<unsafe extern "C" fn(*mut u64, usize) -> c_int>("cuMemAlloc_v2")?;
            alloc(&raw mut address, bytes)
        };
        self.memory("cuMemFree_v2", code, address)
    }

    /// `cuMemAllocManaged`, for all devices.
    pub(crate) fn managed(&self, bytes: usize) -> Result<Memory<'_>, Failed> {
        type Alloc = unsafe extern "C" fn(*mut u64, usize, c_uint) -> c_int;
        const GLOBAL: c_uint = 1;
        let mut address = 0u64;
        // SAFETY: as above.
        let code = unsafe { self.0.get::<Alloc>("cuMemAllocManaged")?(&raw mut address, bytes, GLOBAL) };
        self.memory("cuMemFree_v2", code, address)
    }

    /// `cuMemAllocHost`.
    pub(crate) fn pinned(&self, bytes: usize) -> Result<Memory<'_>, Failed> {
        type Alloc = unsafe extern "C" fn(*mut *mut c_void, usize) -> c_int;
        let mut address = null_mut();
        // SAFETY: as above.
        let code = unsafe { self.0.get::<Alloc>("cuMemAllocHost_v2")?(&raw mut address, bytes) };
        self.memory("cuMemFreeHost", code, address as u64)
    }

    fn memory(&self, free: &'static str, code: c_int, address: u64) -> Result<Memory<'_>, Failed> {
        if code != 0 || address == 0 {
            return Err(format!("the driver answered {code} and the address {address:#x}").into());
        }
        Ok(Memory { address, driver: self, free })
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        // SAFETY: all the functions that free take one address, and this one's was never freed.
        unsafe {
            if let Ok(free) = self.driver.0.get::<unsafe extern "C" fn(u64) -> c_int>(self.free) {
                free(self.address);
            }
        }
    }
}
