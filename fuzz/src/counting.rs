use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator, which ends the process where a single allocation, or all that live, exceed what the target allows.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

static SINGLE: AtomicUsize = AtomicUsize::new(usize::MAX);
static TOTAL: AtomicUsize = AtomicUsize::new(usize::MAX);
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Runs `body` while no thread may allocate more than `single` bytes at once, or `total` more than there were before.
pub fn bounded<T>(single: usize, total: usize, body: impl FnOnce() -> T) -> T {
    SINGLE.store(single, Relaxed);
    TOTAL.store(LIVE.load(Relaxed).saturating_add(total), Relaxed);
    let done = body();
    SINGLE.store(usize::MAX, Relaxed);
    TOTAL.store(usize::MAX, Relaxed);
    done
}

fn grow(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Relaxed).wrapping_add(bytes);
    let (single, total) = (SINGLE.load(Relaxed), TOTAL.load(Relaxed));
    if bytes > single || live > total {
        // What is written now may allocate.
        SINGLE.store(usize::MAX, Relaxed);
        TOTAL.store(usize::MAX, Relaxed);
        eprintln!("an allocation of {bytes} bytes, {live} live: allowed are {single}, {total} live");
        std::process::abort();
    }
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Relaxed);
        grow(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, size) }
    }
}
