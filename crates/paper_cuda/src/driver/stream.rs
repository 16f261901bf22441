//! Streams, events and graphs.

use std::ffi::{c_int, c_uint, c_ulonglong};

use super::functions;
use crate::event::Event;
use crate::stream::{Capture, Work};
use crate::{CAPTURE_INVALIDATED, CAPTURE_UNSUPPORTED, INVALID_HANDLE, INVALID_VALUE, NOT_READY};

functions! { in_context:
    cuStreamCreateWithPriority(gpu, stream: &mut usize, _flags: c_uint, _priority: c_int) {
        *stream = gpu.handle();
        gpu.streams.insert(*stream, None)
    }
    cuStreamDestroy_v2(gpu, stream: usize) {
        // What is on it is done all the same.
        gpu.streams.remove(&stream).ok_or(INVALID_HANDLE)?
    }
    cuStreamSynchronize(gpu, stream: usize) {
        gpu.check_stream(stream)?;
        if let Some(capture) = gpu.capture(stream) {
            capture.invalid = true;
            return Err(CAPTURE_UNSUPPORTED);
        }
        gpu.finish_stream(stream)?
    }
    cuStreamQuery(gpu, stream: usize) {
        gpu.check_stream(stream)?;
        if gpu.step()? { return Err(NOT_READY) }
    }
    cuStreamWaitEvent(gpu, stream: usize, event: usize, _flags: c_uint) {
        // All streams are one queue, in which the event comes before what follows now.
        gpu.check_stream(stream)?;
        gpu.events.get(&event).ok_or(INVALID_HANDLE)?
    }

    cuEventCreate(gpu, event: &mut usize, flags: c_uint) {
        *event = gpu.handle();
        gpu.events.insert(*event, Event::new(flags))
    }
    cuEventDestroy_v2(gpu, event: usize) { gpu.events.remove(&event).ok_or(INVALID_HANDLE)? }
    cuEventRecord(gpu, event: usize, stream: usize) {
        let found = gpu.events.get_mut(&event).ok_or(INVALID_HANDLE)?;
        found.record();
        gpu.put(stream, Work::Mark(event))?
    }
    cuEventSynchronize(gpu, event: usize) {
        gpu.events.get(&event).ok_or(INVALID_HANDLE)?;
        gpu.finish_event(event)?
    }
    cuEventQuery(gpu, event: usize) {
        if !gpu.events.get(&event).ok_or(INVALID_HANDLE)?.is_done() {
            gpu.step()?;
            return Err(NOT_READY);
        }
    }
    cuEventElapsedTime(gpu, milliseconds: &mut f32, start: usize, end: usize) {
        let time = |event| gpu.events.get(&event).ok_or(INVALID_HANDLE)?.time();
        let (start, end) = (time(start)?, time(end)?);
        *milliseconds = end.saturating_duration_since(start).as_secs_f32() * 1e3
    }

    cuStreamBeginCapture_v2(gpu, stream: usize, mode: c_int) {
        let place = gpu.streams.get_mut(&stream).ok_or(INVALID_HANDLE)?;
        if place.is_some() { return Err(INVALID_VALUE) }
        *place = Some(Capture::new(mode).ok_or(INVALID_VALUE)?)
    }
    cuStreamEndCapture(gpu, stream: usize, graph: &mut usize) {
        *graph = 0;
        let capture = gpu.streams.get_mut(&stream).ok_or(INVALID_HANDLE)?.take().ok_or(INVALID_VALUE)?;
        if capture.invalid { return Err(CAPTURE_INVALIDATED) }
        *graph = gpu.handle();
        gpu.graphs.insert(*graph, capture.work)
    }
    cuStreamIsCapturing(gpu, stream: usize, status: &mut c_int) {
        gpu.check_stream(stream)?;
        *status = gpu.capture(stream).map_or(0, |capture| if capture.invalid { 2 } else { 1 })
    }
    cuGraphInstantiateWithFlags(gpu, executable: &mut usize, graph: usize, _flags: c_ulonglong) {
        let work = gpu.graphs.get(&graph).ok_or(INVALID_VALUE)?.clone();
        *executable = gpu.handle();
        gpu.executables.insert(*executable, work)
    }
    cuGraphLaunch(gpu, executable: usize, stream: usize) {
        for work in gpu.executables.get(&executable).ok_or(INVALID_VALUE)?.clone() {
            gpu.put(stream, work)?;
        }
        gpu.check_stream(stream)?;
        gpu.replays += 1
    }
    cuGraphDestroy(gpu, graph: usize) { gpu.graphs.remove(&graph).ok_or(INVALID_VALUE)? }
    cuGraphExecDestroy(gpu, executable: usize) { gpu.executables.remove(&executable).ok_or(INVALID_VALUE)? }
}
