//! The driver's context of a GPU, made current on whichever thread works with it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use cust::context::CurrentContext;
use cust::device::Device;
use cust::error::CudaResult;

use super::DeviceError;
use super::cuda::failed;

/// A GPU's primary context. What lives in it keeps it.
pub(crate) struct Context {
    id: u64,
    inner: cust::context::Context,
}

thread_local! {
    /// The context that this thread entered last; 0 where none is known. Nobody else in this program makes contexts
    /// current, so that asking this cell is enough, and spares every launch a call of the driver.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// Numbers are never used twice, unlike the driver's handles.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Context {
    pub(crate) fn new(device: Device) -> CudaResult<Self> {
        // The driver makes it current, or fails at an unknown point.
        CURRENT.set(0);
        let inner = cust::context::Context::new(device)?;
        Ok(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), inner })
    }

    /// Makes the context the calling thread's.
    #[inline]
    pub(crate) fn enter(&self) -> Result<(), DeviceError> {
        if CURRENT.get() == self.id {
            return Ok(());
        }
        CurrentContext::set_current(&self.inner).map_err(failed("cuCtxSetCurrent"))?;
        CURRENT.set(self.id);
        Ok(())
    }
}
