//! The one GPU, with the context that everything on it belongs to.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::ffi::c_int;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::Event;
use crate::memory::Memory;
use crate::module::{Function, Module};
use crate::stream::{Capture, Work};
use crate::*;

/// What is alive, by handle.
pub(crate) type Table<T> = HashMap<usize, T>;

/// The GPU.
#[derive(Default)]
pub(crate) struct Gpu {
    /// Handles given out; none is given twice.
    handles: usize,
    /// The context's handle.
    pub(crate) context: usize,
    /// Users of the context, which is there while there are any.
    pub(crate) references: usize,
    /// Why nothing in this context works any more.
    fault: Option<c_int>,
    /// What waits, in the order in which it was put on streams: as if each waited for all before.
    queue: VecDeque<(usize, Work)>,
    pub(crate) memory: Memory,
    /// Kernels run, and graphs launched.
    kernels: u64,
    pub(crate) replays: u64,
    /// With what they record, those that do.
    pub(crate) streams: Table<Option<Capture>>,
    pub(crate) events: Table<Event>,
    pub(crate) links: Table<Link>,
    pub(crate) modules: Table<Module>,
    pub(crate) functions: Table<Function>,
    pub(crate) graphs: Table<Vec<Work>>,
    pub(crate) executables: Table<Vec<Work>>,
}

/// A linker at work: machine code.
#[derive(Default)]
pub(crate) struct Link(pub(crate) Vec<u8>, pub(crate) ErrorLog);

/// Where the linker may complain: an address and how many bytes are there.
pub(crate) type ErrorLog = (usize, usize);

thread_local! {
    /// The calling thread's context.
    pub(crate) static CURRENT: Cell<usize> = const { Cell::new(0) };
}

fn lock() -> MutexGuard<'static, Option<Gpu>> {
    static GPU: Mutex<Option<Gpu>> = Mutex::new(None);
    GPU.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers a call that needs no context.
pub(crate) fn on_device(call: impl FnOnce(&mut Gpu) -> Answer) -> c_int {
    call(lock().get_or_insert_default()).err().unwrap_or(0)
}

/// Answers a call in the thread's current context.
pub(crate) fn in_context(call: impl FnOnce(&mut Gpu) -> Answer) -> c_int {
    on_device(|gpu| {
        gpu.check_context(CURRENT.get())?;
        call(gpu)
    })
}

impl Gpu {
    /// A handle that was never there.
    pub(crate) fn handle(&mut self) -> usize {
        self.handles += 1;
        self.handles * 0x1000
    }

    /// Whether this context is alive and well.
    pub(crate) fn check_context(&self, context: usize) -> Answer {
        match self.fault {
            _ if context == 0 => Err(INVALID_CONTEXT),
            _ if self.references == 0 || context != self.context => Err(CONTEXT_IS_DESTROYED),
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// One more user of the context, which is made for the first.
    pub(crate) fn retain(&mut self) -> usize {
        if self.references == 0 {
            self.context = self.handle();
        }
        self.references += 1;
        self.context
    }

    /// One user less; after the last everything in the context is gone, and what was left is told.
    pub(crate) fn release(&mut self) -> Answer {
        self.references = self.references.checked_sub(1).ok_or(INVALID_CONTEXT)?;
        if self.references == 0 {
            // A fault is told below; the context goes in any case.
            let _ = self.finish();
            self.report();
            *self = Self { handles: self.handles, ..Self::default() };
        }
        Ok(())
    }

    /// Writes a line about all that is alive.
    fn report(&self) {
        let Some(path) = std::env::var_os("PAPER_CUDA_LOG") else { return };
        let (bytes, pinned) = self.memory.in_use();
        let line = format!(
            "kernels={} replays={} allocations={} frees={} bytes={bytes} pinned={pinned} streams={} events={} \
             links={} modules={} graphs={} executables={} fault={}\n",
            self.kernels,
            self.replays,
            self.memory.allocations,
            self.memory.frees,
            self.streams.len(),
            self.events.len(),
            self.links.len(),
            self.modules.len(),
            self.graphs.len(),
            self.executables.len(),
            self.fault.unwrap_or(0),
        );
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("PAPER_CUDA_LOG: {error}");
        }
    }

    /// Whether there is such a stream; the default one always is.
    pub(crate) fn check_stream(&self, stream: usize) -> Answer {
        if stream == 0 || self.streams.contains_key(&stream) { Ok(()) } else { Err(INVALID_HANDLE) }
    }

    /// What the stream records, if it does.
    pub(crate) fn capture(&mut self, stream: usize) -> Option<&mut Capture> {
        self.streams.get_mut(&stream)?.as_mut()
    }

    /// Puts work on a stream, which keeps it for later or records it.
    pub(crate) fn put(&mut self, stream: usize, work: Work) -> Answer {
        self.check_stream(stream)?;
        match self.capture(stream) {
            Some(Capture { invalid: true, .. }) => return Err(CAPTURE_INVALIDATED),
            Some(capture) => capture.work.push(work),
            None => self.queue.push_back((stream, work)),
        }
        Ok(())
    }

    /// Refuses what cannot be part of a graph while this thread records one, which spoils the recording.
    pub(crate) fn forbid_in_capture(&mut self) -> Answer {
        let mut captures = self.streams.values_mut().flatten().filter(|capture| capture.restricts());
        captures.next().map_or(Ok(()), |capture| {
            capture.invalid = true;
            Err(CAPTURE_UNSUPPORTED)
        })
    }

    /// Does all that waits.
    pub(crate) fn finish(&mut self) -> Answer {
        self.work(self.queue.len())
    }

    /// Does what waits up to the last piece that is on the stream.
    pub(crate) fn finish_stream(&mut self, stream: usize) -> Answer {
        let last = self.queue.iter().rposition(|(of, _)| *of == stream || stream == 0);
        self.work(last.map_or(0, |last| last + 1))
    }

    /// Does what waits up to the event's last record.
    pub(crate) fn finish_event(&mut self, event: usize) -> Answer {
        let last =
            self.queue.iter().rposition(|(_, work)| matches!(work, Work::Mark(mark) if *mark == event));
        self.work(last.map_or(0, |last| last + 1))
    }

    /// Does one piece, for those who ask again and again whether all is done. Says whether anything is left.
    pub(crate) fn step(&mut self) -> Answer<bool> {
        self.work(self.queue.len().min(1))?;
        Ok(!self.queue.is_empty())
    }

    fn work(&mut self, pieces: usize) -> Answer {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        for (_, work) in self.queue.drain(..pieces) {
            // A kernel panics where a debug build finds it outside of its memory.
            // SAFETY: memory was checked when the work was put here, and is freed only after it.
            let done = catch_unwind(AssertUnwindSafe(|| unsafe { work.run() }));
            match work {
                Work::Mark(event) => {
                    if let Some(event) = self.events.get_mut(&event) {
                        event.pass();
                    }
                }
                Work::Launch(_) if done.is_ok() => self.kernels += 1,
                Work::Trap => self.fault = Some(LAUNCH_FAILED),
                _ if done.is_err() => self.fault = Some(LAUNCH_FAILED),
                _ => {}
            }
            if self.fault.is_some() {
                break;
            }
        }
        if self.queue.is_empty() {
            self.memory.forget_buried();
        }
        self.fault.map_or(Ok(()), Err)
    }
}
