//! Whether what a model is made of is where it belongs: in the memory of its GPU.
//!
//! The driver is asked about every address in the ledger. On the CPU there is nothing to ask.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use cust::sys::{self, CUdeviceptr, CUmemorytype, CUpointer_attribute};

use super::context::Context;
use super::cuda::check;
use super::ledger::Ledger;

/// Verifies a device's allocations, on any thread, while the device works.
pub struct Residency {
    ledger: Ledger,
    /// `None` on the CPU.
    gpu: Option<(u32, Arc<Context>)>,
}

// SAFETY: the context's handle may be used from any thread; nothing here changes it.
unsafe impl Send for Residency {}

/// What was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Allocations.
    pub allocations: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// An address that is not in the GPU's memory, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes at {address:#x} are not in the memory of cuda:{ordinal}: {why}")]
pub struct NotResident {
    /// Where.
    pub address: u64,
    /// How many bytes should be there.
    pub bytes: u64,
    /// The GPU.
    pub ordinal: u32,
    /// What the driver says.
    pub why: String,
}

impl Residency {
    pub(crate) fn new(ledger: Ledger, gpu: Option<(u32, Arc<Context>)>) -> Self {
        Self { ledger, gpu }
    }

    /// Asks about every allocation of the device. Takes about a microsecond each; a step allocates nothing, so nobody
    /// waits for it.
    ///
    /// # Errors
    /// The first allocation that is not where it belongs.
    pub fn verify(&self) -> Result<Verified, NotResident> {
        let lines = self.ledger.lines();
        lines.iter().try_for_each(|(&address, line)| self.verify_address(address, line.bytes))?;
        Ok(Verified { allocations: lines.len(), bytes: lines.values().map(|line| line.bytes).sum() })
    }

    /// Asks about any address: the `bytes` bytes there must be device memory of this GPU, in one allocation, neither
    /// managed nor memory of the host that the GPU can reach.
    ///
    /// # Errors
    /// They are not. On the CPU nothing is asked.
    pub fn verify_address(&self, address: u64, bytes: u64) -> Result<(), NotResident> {
        let Some((ordinal, context)) = &self.gpu else { return Ok(()) };
        let not_resident = |why: String| NotResident { address, bytes, ordinal: *ordinal, why };
        context.enter().map_err(|error| not_resident(error.to_string()))?;
        let found = ask(address).map_err(|error| not_resident(error.to_string()))?;
        let why = if address == 0 || found.kind == 0 {
            "the driver knows no such address".to_owned()
        } else if found.managed != 0 {
            "it is managed memory".to_owned()
        } else if found.kind != CUmemorytype::CU_MEMORYTYPE_DEVICE as c_uint {
            "it is memory of the host".to_owned()
        } else if found.ordinal != *ordinal as c_int {
            format!("it is memory of cuda:{}", found.ordinal)
        } else if address < found.start || bytes > (found.size as u64).saturating_sub(address - found.start) {
            format!("the allocation there has {} bytes at {:#x}", found.size, found.start)
        } else {
            return Ok(());
        };
        Err(not_resident(why))
    }
}

/// What the driver says of an address; zeros of one that it does not know.
#[derive(Default)]
struct Found {
    kind: c_uint,
    managed: c_uint,
    ordinal: c_int,
    start: CUdeviceptr,
    size: usize,
}

fn ask(address: u64) -> Result<Found, super::DeviceError> {
    let mut found = Found::default();
    let mut attributes = [
        CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
        CUpointer_attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED,
        CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
        CUpointer_attribute::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
        CUpointer_attribute::CU_POINTER_ATTRIBUTE_RANGE_SIZE,
    ];
    let mut places: [*mut c_void; 5] = [
        (&raw mut found.kind).cast(),
        (&raw mut found.managed).cast(),
        (&raw mut found.ordinal).cast(),
        (&raw mut found.start).cast(),
        (&raw mut found.size).cast(),
    ];
    // SAFETY: five attributes, and a place of each one's type for it.
    let code = unsafe {
        sys::cuPointerGetAttributes(
            attributes.len() as c_uint,
            attributes.as_mut_ptr(),
            places.as_mut_ptr(),
            address,
        )
    };
    check("cuPointerGetAttributes", code)?;
    Ok(found)
}
