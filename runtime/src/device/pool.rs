//! Threads that run one task together, hundreds of times a token: they spin a little before they sleep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// How often a waiting thread looks before it sleeps: some tens of microseconds.
const SPINS: usize = 1000;

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
    /// Valid while the round is open or a worker is inside.
    task: Mutex<Option<Task>>,
    /// Workers inside the round, and [`CLOSED`].
    inside: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    asleep: Mutex<()>,
    wake: Condvar,
}

/// Set in `inside` when no worker may enter any more.
const CLOSED: usize = 1 << (usize::BITS - 1);

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
            inside: AtomicUsize::new(CLOSED),
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

    /// Runs `task` on this thread, and on every other that comes in time: the task shares out its work by itself, and
    /// is done when one run of it has returned. So nobody waits for a thread that the system holds up elsewhere.
    ///
    /// # Panics
    /// If the task panics on any thread.
    pub(crate) fn run(&self, task: &(dyn Fn() + Sync)) {
        let _turn = lock(&self.turn);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; this function waits below until no worker uses the task.
        let erased =
            Task(unsafe { std::mem::transmute::<*const (dyn Fn() + Sync), *const (dyn Fn() + Sync)>(task) });
        *lock(&shared.task) = Some(erased);
        shared.inside.store(0, Ordering::Release);
        shared.next_round();

        let own = catch_unwind(AssertUnwindSafe(task));
        shared.inside.fetch_or(CLOSED, Ordering::AcqRel);
        let mut spins = 0;
        while shared.inside.load(Ordering::Acquire) != CLOSED {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let elsewhere = shared.panicked.swap(false, Ordering::Relaxed);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!elsewhere, "a kernel panicked on another thread");
    }
}

impl Shared {
    fn next_round(&self) {
        {
            // Under the lock, so that a worker on its way to sleep does not miss it.
            let _asleep = lock(&self.asleep);
            self.round.fetch_add(1, Ordering::Release);
        }
        self.wake.notify_all();
    }

    /// Waits for another round than `seen`.
    fn wait(&self, seen: u64) -> u64 {
        for _ in 0..SPINS {
            let round = self.round.load(Ordering::Acquire);
            if round != seen {
                return round;
            }
            std::hint::spin_loop();
        }
        let guard = lock(&self.asleep);
        let waiting = |_: &mut ()| self.round.load(Ordering::Acquire) == seen;
        drop(self.wake.wait_while(guard, waiting));
        self.round.load(Ordering::Acquire)
    }

    /// Enters the round, unless it is closed.
    fn enter(&self) -> bool {
        let one_more = |inside: usize| (inside & CLOSED == 0).then_some(inside + 1);
        self.inside.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok()
    }

    fn work(&self) {
        let mut seen = 0;
        loop {
            seen = self.wait(seen);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if !self.enter() {
                continue;
            }
            let task = *lock(&self.task);
            if let Some(Task(task)) = task {
                // SAFETY: valid while this worker is inside.
                let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { (*task)() }));
                if outcome.is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
            }
            self.inside.fetch_sub(1, Ordering::Release);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here panics while it holds a lock.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.next_round();
        for worker in self.workers.drain(..) {
            // A worker's panics were caught; there is nothing left to learn.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_work_is_shared_out_and_done_once() {
        let pool = Pool::new(3);
        for _ in 0..1000 {
            let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
            pool.run(&|| {
                while next.fetch_add(1, Ordering::Relaxed) < 50 {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!(done.into_inner(), 50);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives() {
        let pool = Pool::new(2);
        let task = || panic!("on purpose");
        assert!(catch_unwind(AssertUnwindSafe(|| pool.run(&task))).is_err());
        pool.run(&|| ());
    }

    #[test]
    fn sleeping_threads_wake() {
        let pool = Pool::new(2);
        std::thread::sleep(Duration::from_millis(50));
        let count = AtomicUsize::new(0);
        pool.run(&|| {
            count.fetch_add(1, Ordering::Relaxed);
            // The caller waits inside for the other, so both must come.
            while count.load(Ordering::Relaxed) < 2 {
                std::thread::yield_now();
            }
        });
        assert_eq!(count.into_inner(), 2);
    }
}
