//! The CPU device: kernels compiled for the host, their blocks spread over threads.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use cuda_std::{HostEntry, Kernel};

use super::pool::Pool;

/// The CPU.
pub struct Cpu {
    simd: Simd,
    pool: Pool,
}

/// Which of a kernel's host versions runs. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simd {
    /// What the architecture guarantees.
    Baseline,
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Simd {
    /// The best that this processor has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            return Simd::Avx2;
        }
        Simd::Baseline
    }

    /// The kernel's version.
    pub fn entry<A>(self, kernel: &Kernel<A>) -> HostEntry<A> {
        match self {
            Simd::Baseline => kernel.baseline,
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => kernel.avx2,
        }
    }
}

/// Fills a slice with what belongs at a place, see `device::Filler`.
type Fill<'a, E> = dyn Fn(usize, &mut [u8]) -> Result<(), E> + Sync + 'a;

/// Bytes that a thread fills before it asks for more.
const SHARE: usize = 512 << 10;

/// From so many blocks on, a launch is worth waking other threads.
const PARALLEL_BLOCKS: usize = 4;

thread_local! {
    /// Scratch memory of the block that this thread runs.
    static SCRATCH: RefCell<Vec<u128>> = const { RefCell::new(Vec::new()) };
}

impl Cpu {
    /// With so many threads; all cores when 0.
    pub fn new(threads: usize) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
        Self { simd: Simd::detect(), pool: Pool::new(if threads == 0 { cores() } else { threads }) }
    }

    pub(crate) fn description(&self) -> String {
        let simd = match self.simd {
            Simd::Baseline => "baseline SIMD",
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => "AVX2, FMA, F16C",
        };
        format!("{} threads, {simd}", self.pool.threads())
    }

    /// Bytes of memory and bytes available, as the operating system says; 0 where it does not.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        (kilobytes("MemTotal:") * 1024, kilobytes("MemAvailable:") * 1024)
    }

    /// Zeroed memory, or how many bytes are available.
    pub(crate) fn alloc(&self, bytes: usize) -> Result<HostMemory, u64> {
        // The system promises more than it has, and ends whoever takes it at its word.
        let available = self.memory().1;
        if available > 0 && bytes as u64 > available {
            return Err(available);
        }
        HostMemory::new(bytes).ok_or(available)
    }

    /// # Safety
    /// As [`Device::launch`](super::Device::launch).
    pub(crate) unsafe fn launch<A: Copy + Sync>(&self, kernel: &Kernel<A>, args: &A) {
        let geometry = (kernel.geometry)(args);
        let [width, height] = geometry.grid;
        let blocks = width * height;
        let entry = self.simd.entry(kernel);
        let run = |range: std::ops::Range<usize>| {
            SCRATCH.with_borrow_mut(|scratch| {
                let cells = geometry.scratch.div_ceil(size_of::<u128>());
                if scratch.len() < cells {
                    scratch.resize(cells, 0);
                }
                // SAFETY: the caller's promise; the entry's instructions were detected.
                unsafe { entry(args, range, width, &mut scratch[..cells]) }
            });
        };
        let threads = self.pool.threads();
        if blocks < PARALLEL_BLOCKS || threads == 1 {
            return run(0..blocks);
        }
        // Small shares, so that a thread which is held up does not hold up the rest.
        let share = blocks.div_ceil(threads * 4);
        let next = AtomicUsize::new(0);
        self.pool.run(&|| {
            loop {
                let first = next.fetch_add(share, Ordering::Relaxed);
                if first >= blocks {
                    break;
                }
                run(first..blocks.min(first + share));
            }
        });
    }
}

impl Cpu {
    /// Fills `bytes` on all threads; gives the first failure.
    pub(crate) fn fill<E: Send>(&self, bytes: &mut [u8], fill: &Fill<'_, E>) -> Result<(), E> {
        let shares: Vec<_> = bytes.chunks_mut(SHARE).map(|share| Mutex::new(Some(share))).collect();
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        self.pool.run(&|| {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let share = shares
                    .get(i)
                    .and_then(|share| share.lock().unwrap_or_else(PoisonError::into_inner).take());
                let Some(share) = share else { break };
                if let Err(error) = fill(i * SHARE, share) {
                    // The others find nothing left to do.
                    next.store(shares.len(), Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// Zeroed host memory, aligned to 256 bytes as a GPU's is.
pub(crate) struct HostMemory {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: owns its memory, as a Vec does.
unsafe impl Send for HostMemory {}

impl HostMemory {
    fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.max(1), 256).ok()?;
        // SAFETY: the size is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { base, layout })
    }

    pub(crate) fn address(&self) -> usize {
        self.base.as_ptr() as usize
    }

    /// The bytes `at..at + len`, to write.
    pub(crate) fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.layout.size()));
        // SAFETY: in range, as just checked, zeroed at least, and nobody else's memory.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(at), len) }
    }

    pub(crate) fn fill(&mut self, at: usize, len: usize, byte: u8) {
        assert!(at + len <= self.layout.size());
        // SAFETY: in range, as just checked, and nobody else's memory.
        unsafe { self.base.as_ptr().add(at).write_bytes(byte, len) }
    }

    pub(crate) fn read(&self, at: usize, bytes: &mut [u8]) {
        assert!(at + bytes.len() <= self.layout.size());
        // SAFETY: in range, as just checked, and nobody else's memory.
        unsafe { self.base.as_ptr().add(at).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) }
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}
