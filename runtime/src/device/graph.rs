//! Launches recorded once and replayed with one call.

use std::ptr::null_mut;
use std::sync::Arc;

use cust::stream::Stream;
use cust::sys;

use super::DeviceError;
use super::context::Context;
use super::cuda::check;

/// The launches of one [`Device::capture`](super::Device::capture), ready to be replayed on the device they were
/// captured on.
pub struct Graph {
    executable: sys::CUgraphExec,
    context: Arc<Context>,
}

// SAFETY: a handle of the driver, which may be used from any thread; one thread at a time does.
unsafe impl Send for Graph {}

impl Graph {
    /// # Safety
    /// As [`Device::replay`](super::Device::replay).
    pub(crate) unsafe fn launch(&self, stream: &Stream) -> Result<(), DeviceError> {
        // SAFETY: live handles; the rest is the caller's promise.
        check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(self.executable, stream.as_inner()) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // Without its context there is nothing left to free.
        if self.context.enter().is_ok() {
            // SAFETY: made by `Capture::finish`, and destroyed once. A replay under way is finished first.
            let _ = unsafe { sys::cuGraphExecDestroy(self.executable) };
        }
    }
}

/// A stream that records instead of running. Dropped before it is finished, it drops what it recorded.
pub(crate) struct Capture<'s> {
    stream: &'s Stream,
    open: bool,
}

/// A recorded graph that cannot be launched yet.
struct Recording(sys::CUgraph);

impl<'s> Capture<'s> {
    /// Everything on the stream is recorded from now on.
    pub(crate) fn begin(stream: &'s Stream) -> Result<Self, DeviceError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: a live stream.
        let code = unsafe { sys::cuStreamBeginCapture_v2(stream.as_inner(), mode) };
        check("cuStreamBeginCapture", code)?;
        Ok(Self { stream, open: true })
    }

    /// Ends the recording and makes it ready to launch.
    pub(crate) fn finish(mut self, context: Arc<Context>) -> Result<Graph, DeviceError> {
        let recording = self.end()?;
        let mut executable = null_mut();
        // SAFETY: a live graph, and a place for a handle.
        let code = unsafe { sys::cuGraphInstantiateWithFlags(&raw mut executable, recording.0, 0) };
        check("cuGraphInstantiateWithFlags", code)?;
        Ok(Graph { executable, context })
    }

    fn end(&mut self) -> Result<Recording, DeviceError> {
        let mut graph = null_mut();
        // SAFETY: a live stream, which is captured by this thread or not at all; a place for a handle.
        let code = unsafe { sys::cuStreamEndCapture(self.stream.as_inner(), &raw mut graph) };
        // Owned at once, since an invalid capture may come with a graph or without.
        let recording = Recording(graph);
        check("cuStreamEndCapture", code)?;
        self.open = false;
        Ok(recording)
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.open {
            // What failed inside of the capture, or at its end, is already an error on its way. A capture that did not end
            // does now; one that did is no capture any more, and nothing happens.
            let _ = self.end();
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: this handle's only owner.
            let _ = unsafe { sys::cuGraphDestroy(self.0) };
        }
    }
}
