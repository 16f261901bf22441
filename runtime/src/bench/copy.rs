//! What a device's memory can do at best: a plain copy.

use std::time::Instant;

use cust::context::CurrentContext;
use cust::error::CudaError;
use cust::memory::{CopyDestination, DeviceBuffer};

use crate::device::{Device, DeviceError};

/// Bytes copied at once: more than any cache holds.
const COPY: usize = 512 << 20;
/// Copies, of which the best counts.
const TIMES: usize = 10;

/// Bytes a second that a copy within the device's memory reads and writes.
///
/// # Errors
/// A failing driver, or too little memory.
pub(super) fn bandwidth(device: &Device) -> Result<f64, DeviceError> {
    if device.name() == "cpu" {
        return Ok(on_host());
    }
    // Makes the device's context this thread's.
    device.synchronize()?;
    on_gpu().map_err(|error| DeviceError::Driver {
        call: format!("a copy of {COPY} bytes"),
        code: cuda_loader::code(error as i32),
    })
}

/// All cores together.
fn on_host() -> f64 {
    let (from, mut to) = (vec![1u8; COPY], vec![2u8; COPY]);
    let share = COPY.div_ceil(std::thread::available_parallelism().map_or(1, |n| n.get()));
    let mut best = f64::INFINITY;
    for _ in 0..TIMES {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (from, to) in from.chunks(share).zip(to.chunks_mut(share)) {
                scope.spawn(|| to.copy_from_slice(from));
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    rate(best)
}

/// By the driver, in memory that the ledger does not count: it is free again before a model comes.
fn on_gpu() -> Result<f64, CudaError> {
    // SAFETY: both are set below, before they are read.
    let (mut from, mut to) =
        unsafe { (DeviceBuffer::<u8>::uninitialized(COPY)?, DeviceBuffer::<u8>::uninitialized(COPY)?) };
    from.set_8(1)?;
    to.set_8(2)?;
    CurrentContext::synchronize()?;
    let mut best = f64::INFINITY;
    for _ in 0..TIMES {
        let start = Instant::now();
        to.copy_from(&from)?;
        CurrentContext::synchronize()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(rate(best))
}

/// Each byte is read and written.
fn rate(seconds: f64) -> f64 {
    2.0 * COPY as f64 / seconds
}
