//! What waits on streams, and what a stream records in place of it.

use std::sync::{Arc, LazyLock};
use std::thread::ThreadId;

use crate::cpu::Cpu;
use crate::registry::HostKernel;

/// A piece of work. Its memory was checked when it was asked for, and is there until it is done.
#[derive(Clone)]
pub(crate) enum Work {
    /// To an address, `len` bytes from another one, whose bytes count when it is done.
    Copy { to: usize, from: usize, len: usize },
    /// To an address, bytes as they were when it was asked for.
    Write { to: usize, bytes: Arc<[u8]> },
    /// The pattern `count` times.
    Fill { to: usize, pattern: Pattern, count: usize },
    /// A kernel.
    Launch(Arc<Launch>),
    /// A kernel that ends its context.
    Trap,
    /// An event's record.
    Mark(usize),
}

/// What memory is filled with.
#[derive(Clone, Copy)]
pub(crate) enum Pattern {
    One(u8),
    Two(u16),
    Four(u32),
}

/// A kernel with a copy of its arguments.
pub(crate) struct Launch {
    pub(crate) kernel: &'static dyn HostKernel,
    /// As many bytes as they have, at the alignment that every argument struct is content with.
    pub(crate) args: Vec<u128>,
}

impl Work {
    /// Does it, except for what is the GPU's own affair.
    ///
    /// # Safety
    /// All its memory is there, and nobody else uses it.
    pub(crate) unsafe fn run(&self) {
        static CPU: LazyLock<Cpu> = LazyLock::new(|| Cpu::new(0));
        // SAFETY: the caller's promise.
        unsafe {
            match *self {
                Work::Copy { to, from, len } => std::ptr::copy(from as *const u8, to as *mut u8, len),
                Work::Write { to, ref bytes } => {
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len());
                }
                Work::Fill { to, pattern: Pattern::One(byte), count } => {
                    std::slice::from_raw_parts_mut(to as *mut u8, count).fill(byte);
                }
                Work::Fill { to, pattern: Pattern::Two(value), count } => {
                    std::slice::from_raw_parts_mut(to as *mut u16, count).fill(value);
                }
                Work::Fill { to, pattern: Pattern::Four(value), count } => {
                    std::slice::from_raw_parts_mut(to as *mut u32, count).fill(value);
                }
                Work::Launch(ref launch) => launch.kernel.run(&CPU, launch.args.as_ptr()),
                Work::Trap | Work::Mark(_) => {}
            }
        }
    }
}

impl Pattern {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Pattern::One(_) => 1,
            Pattern::Two(_) => 2,
            Pattern::Four(_) => 4,
        }
    }
}

/// A stream that records.
pub(crate) struct Capture {
    pub(crate) work: Vec<Work>,
    /// Something was asked that a graph cannot hold.
    pub(crate) invalid: bool,
    /// Whose other calls it restricts; `None` is everybody's.
    thread: Option<ThreadId>,
    relaxed: bool,
}

impl Capture {
    /// In a `CUstreamCaptureMode`: global, thread-local or relaxed.
    pub(crate) fn new(mode: i32) -> Option<Self> {
        let thread = (mode == 1).then(|| std::thread::current().id());
        (0..=2).contains(&mode).then(|| Self { work: Vec::new(), invalid: false, thread, relaxed: mode == 2 })
    }

    /// Whether it forbids the calling thread what cannot be recorded.
    pub(crate) fn restricts(&self) -> bool {
        !self.relaxed && self.thread.is_none_or(|thread| thread == std::thread::current().id())
    }
}
