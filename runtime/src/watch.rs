//! Looks again and again whether the model is where it belongs, beside the engine and without it.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::device::Residency;
use crate::engine::EngineHandle;

/// A thread that verifies a device's allocations in intervals.
pub(crate) struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Looks every `interval`. The first allocation that is not in the device's memory is told to the engine and logged
    /// as critical, and ends the watch: what was once elsewhere is not trusted again.
    ///
    /// # Errors
    /// The system grants no thread.
    pub(crate) fn begin(residency: Residency, engine: EngineHandle, interval: Duration) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let look = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                match residency.verify() {
                    Ok(verified) => {
                        let (allocations, bytes) = (verified.allocations, verified.bytes);
                        tracing::debug!(event = "residency", allocations, bytes, "verified");
                    }
                    Err(error) => {
                        tracing::error!(
                            event = "error",
                            severity = "CRITICAL",
                            code = "VRAM_RESIDENCY_FAILED",
                            message = %error,
                        );
                        engine.not_resident();
                        return;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("residency".to_owned()).spawn(look)?;
        Ok(Self { stop, thread })
    }

    /// Waits until the thread has let go of the device.
    pub(crate) fn end(self) {
        drop(self.stop);
        // If it panicked, it has let go as well.
        let _ = self.thread.join();
    }
}
