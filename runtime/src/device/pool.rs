//! Threads that run one task together, hundreds of times a token: they spin a little before they sleep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// How often a waiting thread looks before it sleeps: some tens of microseconds.
const SPINS: usize = 20_000;

/// A fixed set of threads; the caller's is one of them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One `run` at a time.
    turn: Mutex<()>,
}

struct Shared {
    /// Counts tasks; a change wakes the workers.
    round: AtomicU64,
    /// Valid from the change of `round` until `busy` is zero.
    task: Mutex<Option<Task>>,
    /// Workers that have not finished the round.
    busy: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    asleep: Mutex<()>,
    wake: Condvar,
}

/// A borrowed task, its lifetime erased: `run` does not return before all workers are done with it.
#[derive(Clone, Copy)]
struct Task(*const (dyn Fn() + Sync));

// SAFETY: what it points to is `Sync`, and outlives its use, see `Pool::run`.
unsafe impl Send for Task {}

impl Pool {
    /// A pool of `threads`, at least one.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            round: AtomicU64::new(0),
            task: Mutex::new(None),
            busy: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let workers = (1..threads)
            .filter_map(|i| {
                let shared = shared.clone();
                // Where the system grants no more threads, those there are do the work.
                std::thread::Builder::new().name(format!("lane-{i}")).spawn(move || shared.work()).ok()
            })
            .collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// How many threads run a task.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task` on every thread at once and returns when all have finished.
    ///
    /// # Panics
    /// If the task panics on any.
    pub(crate) fn run(&self, task: &(dyn Fn() + Sync)) {
        let _turn = self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; this function waits below until no worker uses the task.
        let erased = Task(unsafe { std::mem::transmute::<*const (dyn Fn() + Sync), *const (dyn Fn() + Sync)>(task) });
        *shared.task.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(erased);
        shared.busy.store(self.workers.len(), Ordering::Relaxed);
        {
            // Under the lock, so that a worker on its way to sleep does not miss it.
            let _asleep = shared.asleep.lock();
            shared.round.fetch_add(1, Ordering::Release);
        }
        shared.wake.notify_all();

        let own = catch_unwind(AssertUnwindSafe(task));
        let mut spins = 0;
        while shared.busy.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a kernel panicked on another thread");
    }
}

impl Shared {
    fn work(&self) {
        let mut seen = 0;
        loop {
            let mut spins = 0;
            while self.round.load(Ordering::Acquire) == seen {
                spins += 1;
                if spins < SPINS {
                    std::hint::spin_loop();
                    continue;
                }
                let guard = self.asleep.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let waiting = |_: &mut ()| self.round.load(Ordering::Acquire) == seen;
                drop(self.wake.wait_while(guard, waiting));
            }
            seen = self.round.load(Ordering::Acquire);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let task = *self.task.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if let Some(Task(task)) = task {
                // SAFETY: valid until `busy` is zero, which it is not before the line after.
                let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { (*task)() }));
                if outcome.is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        {
            let _asleep = self.shared.asleep.lock();
            self.shared.round.fetch_add(1, Ordering::Release);
        }
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker's panics were caught; there is nothing left to learn.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_every_task_once() {
        let pool = Pool::new(3);
        let count = AtomicUsize::new(0);
        for _ in 0..1000 {
            pool.run(&|| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(count.into_inner(), 3000);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives() {
        let pool = Pool::new(2);
        let first = AtomicBool::new(true);
        let task = || assert!(!first.swap(false, Ordering::Relaxed), "on purpose");
        assert!(catch_unwind(AssertUnwindSafe(|| pool.run(&task))).is_err());
        pool.run(&|| ());
    }

    #[test]
    fn sleeping_threads_wake() {
        let pool = Pool::new(2);
        std::thread::sleep(std::time::Duration::from_millis(50));
        let count = AtomicUsize::new(0);
        pool.run(&|| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 2);
    }
}
