//! The engine's front half: a bounded queue in, cached state out. Cheap to clone, safe from any thread, never
//! waits for the device.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use kernels::kv::PAGE;

use crate::device::Usage;
use crate::kv_cache::pages_for;
use crate::request::{EventSink, Request, SubmitError};

/// A job on its way to the engine.
pub struct Job {
    /// What to compute.
    pub request: Request,
    /// Where its events go.
    pub sink: Box<dyn EventSink>,
    /// When it must have ended, its time in the queue included.
    pub deadline: Instant,
}

/// Names a job: its client and its id. What one client calls a job says nothing of another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobKey {
    /// See [`Request::client`].
    pub client: u32,
    /// See [`Request::job_id`].
    pub id: String,
}

impl JobKey {
    /// The name of the job that a request becomes.
    pub fn of(request: &Request) -> Self {
        Self { client: request.client, id: request.job_id.clone() }
    }
}

/// What the engine's thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineState {
    /// Waiting for jobs.
    Idle,
    /// Computing.
    Busy,
    /// Takes no new jobs and finishes the old ones.
    Draining,
    /// Ended, as asked.
    Stopped,
    /// Ended by a fault.
    Failed,
}

/// Numbers for health checks, all cached: reading them touches neither device nor engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What the engine's thread is doing.
    pub state: EngineState,
    /// Whether the last check found all of the model in its device's memory.
    pub resident: bool,
    /// Jobs that wait.
    pub waiting: usize,
    /// Jobs that began and have not ended; one that lost its pages to older ones is among them.
    pub running: usize,
    /// Pages of the KV cache that jobs hold.
    pub kv_pages_used: usize,
    /// Pages that no job holds, with keys and values that a later one may use.
    pub kv_pages_cached: usize,
    /// Pages of the KV cache.
    pub kv_pages_total: usize,
    /// Tokens, so far, whose keys and values were there already.
    pub cached_tokens: u64,
    /// How often, so far, a job lost its pages to older ones.
    pub preemptions: u64,
}

/// What the KV cache is used for; the counts are since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheUse {
    /// Pages that jobs hold.
    pub pages_used: usize,
    /// Pages that no job holds, with keys and values that a later one may use.
    pub pages_cached: usize,
    /// Tokens whose keys and values were there already.
    pub cached_tokens: u64,
    /// How often a job lost its pages to older ones.
    pub preemptions: u64,
}

/// Fixed limits that a job is checked against before it may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Jobs of one client that may wait.
    pub queue_depth: usize,
    /// Tokens the context holds, prompt and completion together.
    pub context: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Pages of the KV cache.
    pub pages: usize,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Bytes in use on the device by purpose.
    pub usage: Usage,
    /// What a job may take, from its submission to its end.
    pub timeout: Duration,
}

impl Limits {
    /// Tokens that a job may have, prompt and completion together, if nobody else is served.
    pub fn tokens(&self) -> usize {
        self.context.min(self.pages * PAGE)
    }
}

/// Tokens generated at most where a request names no number.
pub const DEFAULT_MAX_TOKENS: u32 = 2048;

/// Keeps ends of drains and deadlines within what the clock can say.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// Submits and cancels jobs and reads the engine's cached state.
#[derive(Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
}

/// The engine's end of the queue. The engine's thread holds the only one; when it is dropped, waiting jobs are
/// told and new ones refused.
pub struct JobQueue {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    inner: Mutex<Inner>,
    wake: Condvar,
    resident: AtomicBool,
}

struct Inner {
    /// Not yet taken by the engine.
    submitted: VecDeque<Job>,
    /// Waiting and running jobs.
    active: HashMap<JobKey, Phase>,
    /// Jobs that wait, by client.
    waiting: HashMap<u32, usize>,
    cache: CacheUse,
    cancelled: HashSet<JobKey>,
    busy: bool,
    /// The engine has not heard yet that the model is not resident any more.
    lost: bool,
    /// Set by a shutdown: running jobs may go on until then.
    drain_until: Option<Instant>,
    /// Why the engine's thread ended.
    ended: Option<Ended>,
}

#[derive(PartialEq, Eq)]
enum Phase {
    Waits,
    Runs,
}

enum Ended {
    Stopped,
    Failed(String),
}

/// A handle for the server's side and a queue for the engine's.
pub fn channel(limits: Limits) -> (EngineHandle, JobQueue) {
    let shared = Arc::new(Shared {
        limits,
        inner: Mutex::new(Inner {
            submitted: VecDeque::new(),
            active: HashMap::new(),
            waiting: HashMap::new(),
            cache: CacheUse::default(),
            cancelled: HashSet::new(),
            busy: false,
            lost: false,
            drain_until: None,
            ended: None,
        }),
        wake: Condvar::new(),
        resident: AtomicBool::new(true),
    });
    (EngineHandle { shared: shared.clone() }, JobQueue { shared })
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic on the engine's thread leaves the queue itself intact.
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    /// A job does not wait any more.
    fn waited(&mut self, client: u32) {
        if let Some(waiting) = self.waiting.get_mut(&client) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(&client);
            }
        }
    }
}

impl EngineHandle {
    /// Puts a job into the queue. Its events go to `sink`, from the engine's thread.
    ///
    /// # Errors
    /// Every [`SubmitError`]; the job then leaves no trace.
    pub fn submit(&self, request: Request, sink: Box<dyn EventSink>) -> Result<(), SubmitError> {
        self.submit_all(vec![(request, sink)])
    }

    /// Puts several jobs of one client into the queue: all of them, or none.
    ///
    /// # Errors
    /// Every [`SubmitError`]; none of the jobs then leaves a trace.
    pub fn submit_all(&self, jobs: Vec<(Request, Box<dyn EventSink>)>) -> Result<(), SubmitError> {
        for (request, _) in &jobs {
            self.check(request)?;
        }
        let mut inner = self.shared.lock();
        match &inner.ended {
            Some(Ended::Failed(why)) => return Err(SubmitError::Failed(why.clone())),
            Some(Ended::Stopped) => return Err(SubmitError::Draining),
            None => {}
        }
        if inner.drain_until.is_some() {
            return Err(SubmitError::Draining);
        }
        if !self.shared.resident.load(Ordering::Relaxed) {
            return Err(SubmitError::NotResident);
        }
        let mut keys = HashSet::new();
        for (request, _) in &jobs {
            let key = JobKey::of(request);
            if inner.active.contains_key(&key) || !keys.insert(key) {
                return Err(SubmitError::DuplicateJob(request.job_id.clone()));
            }
            // Each client has a queue of its own, so that none fills it for the others.
            let waiting = inner.waiting.get(&request.client).copied().unwrap_or(0);
            if waiting + keys.len() > self.shared.limits.queue_depth {
                return Err(SubmitError::QueueFull { depth: self.shared.limits.queue_depth });
            }
        }
        let deadline = Instant::now() + self.shared.limits.timeout.min(LONGEST_WAIT);
        for (request, sink) in jobs {
            inner.active.insert(JobKey::of(&request), Phase::Waits);
            *inner.waiting.entry(request.client).or_default() += 1;
            inner.submitted.push_back(Job { request, sink, deadline });
        }
        self.shared.wake.notify_all();
        Ok(())
    }

    /// The limits that every job is checked against.
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    fn check(&self, request: &Request) -> Result<(), SubmitError> {
        let Limits { context, vocab, pages, page_bytes, usage, .. } = self.shared.limits;
        if request.prompt.is_empty() {
            return Err(SubmitError::EmptyPrompt);
        }
        if let Some(position) = request.prompt.iter().position(|&id| id as usize >= vocab) {
            return Err(SubmitError::TokenOutOfRange { position, id: request.prompt[position], vocab });
        }
        let (prompt, max_tokens) = (request.prompt.len(), request.max_tokens.unwrap_or(1));
        if prompt.saturating_add(max_tokens as usize) > context {
            return Err(SubmitError::ContextOverflow { prompt, max_tokens, context });
        }
        let needed = pages_for(prompt + max_tokens as usize);
        if needed > pages {
            let bytes = |pages: usize| pages as u64 * page_bytes;
            return Err(SubmitError::InsufficientMemory {
                needed: bytes(needed),
                total: bytes(pages),
                free: bytes(pages - self.shared.lock().cache.pages_used),
                usage: usage.to_string(),
            });
        }
        Ok(())
    }

    /// Says that the model is not in its device's memory any more: every job ends with an error, and no other is taken.
    pub fn not_resident(&self) {
        let mut inner = self.shared.lock();
        self.shared.resident.store(false, Ordering::Relaxed);
        inner.lost = true;
        self.shared.wake.notify_all();
    }

    /// Asks for a job's end; unknown and finished ids are ignored. The job answers with
    /// [`JobError::Cancelled`](crate::request::JobError::Cancelled) after the step it is in.
    pub fn cancel(&self, job: &JobKey) {
        let mut inner = self.shared.lock();
        if inner.active.contains_key(job) {
            inner.cancelled.insert(job.clone());
            self.shared.wake.notify_all();
        }
    }

    /// Refuses new jobs from now on; running ones may finish until `timeout` has passed, then they are cancelled.
    pub fn shutdown(&self, timeout: Duration) {
        let mut inner = self.shared.lock();
        let until = Instant::now() + timeout.min(LONGEST_WAIT);
        inner.drain_until = Some(inner.drain_until.map_or(until, |earlier| earlier.min(until)));
        self.shared.wake.notify_all();
    }

    /// The cached state.
    pub fn status(&self) -> Status {
        let inner = self.shared.lock();
        let state = match (&inner.ended, inner.drain_until, inner.busy) {
            (Some(Ended::Failed(_)), ..) => EngineState::Failed,
            (Some(Ended::Stopped), ..) => EngineState::Stopped,
            (None, Some(_), _) => EngineState::Draining,
            (None, None, true) => EngineState::Busy,
            (None, None, false) => EngineState::Idle,
        };
        let waiting = inner.waiting.values().sum();
        Status {
            state,
            resident: self.shared.resident.load(Ordering::Relaxed),
            waiting,
            running: inner.active.len() - waiting,
            kv_pages_used: inner.cache.pages_used,
            kv_pages_cached: inner.cache.pages_cached,
            kv_pages_total: self.shared.limits.pages,
            cached_tokens: inner.cache.cached_tokens,
            preemptions: inner.cache.preemptions,
        }
    }

    /// Whether a job of that id waits or runs.
    #[cfg(test)]
    pub(crate) fn is_active(&self, job: &JobKey) -> bool {
        self.shared.lock().active.contains_key(job)
    }

    /// Blocks until the engine's thread has ended.
    pub fn wait_until_ended(&self) {
        let mut inner = self.shared.lock();
        while inner.ended.is_none() {
            inner = self.shared.wake.wait(inner).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

/// What the engine should do next.
pub enum Next {
    /// Go on with what runs, after taking in `jobs` and dropping the `cancelled`.
    Work {
        /// New jobs: those cancelled before they were taken, then up to `room` others, each oldest first.
        jobs: Vec<Job>,
        /// Those that were cancelled, of running jobs and of `jobs`.
        cancelled: Vec<JobKey>,
    },
    /// Nothing is left and a shutdown was asked for.
    Stop,
}

impl JobQueue {
    /// Takes up to `room` submitted jobs, and those that were cancelled or came to their deadline before they were taken. They
    /// count as waiting until [`begun`](Self::begun) or [`finished`](Self::finished). Blocks while there is nothing to do: no job can be taken, none was cancelled, `running` is 0, and
    /// [`not_resident`](EngineHandle::not_resident) says nothing new.
    pub fn next(&self, room: usize, running: usize) -> Next {
        let mut inner = self.shared.lock();
        loop {
            let expired = inner.drain_until.is_some_and(|until| Instant::now() >= until);
            if expired {
                inner.cancelled = inner.active.keys().cloned().collect();
            }
            let cancelled: Vec<JobKey> = inner.cancelled.drain().collect();
            // A job cancelled while it waits is taken all the same: the engine tells its sink.
            let now = Instant::now();
            let is_over = |job: &Job| job.deadline <= now || cancelled.contains(&JobKey::of(&job.request));
            let (mut jobs, rest): (Vec<Job>, Vec<Job>) = inner.submitted.drain(..).partition(is_over);
            inner.submitted = rest.into();
            let take = room.min(inner.submitted.len());
            jobs.extend(inner.submitted.drain(..take));
            let lost = std::mem::take(&mut inner.lost);
            if running > 0 || !jobs.is_empty() || !cancelled.is_empty() || lost {
                inner.busy = true;
                return Next::Work { jobs, cancelled };
            }
            inner.busy = false;
            if inner.drain_until.is_some() && inner.submitted.is_empty() {
                return Next::Stop;
            }
            inner = self.shared.wake.wait(inner).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Says that a job is being computed, and does not wait any more.
    pub fn begun(&self, job: &JobKey) {
        let mut inner = self.shared.lock();
        if let Some(phase) = inner.active.get_mut(job)
            && std::mem::replace(phase, Phase::Runs) == Phase::Waits
        {
            inner.waited(job.client);
        }
    }

    /// Says that a job has ended: its id is free again.
    pub fn finished(&self, job: &JobKey) {
        let mut inner = self.shared.lock();
        if inner.active.remove(job) == Some(Phase::Waits) {
            inner.waited(job.client);
        }
        inner.cancelled.remove(job);
    }

    /// The limits that every job was checked against.
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// Whether the last check found all of the model in its device's memory.
    pub fn resident(&self) -> bool {
        self.shared.resident.load(Ordering::Relaxed)
    }

    /// Publishes what the KV cache is used for.
    pub fn publish(&self, cache: CacheUse) {
        self.shared.lock().cache = cache;
    }

    /// Ends the engine by a fault: every later job is refused with `why`. The jobs that still wait have to be told.
    pub fn fail(self, why: String) -> Vec<Job> {
        let mut inner = self.shared.lock();
        inner.ended = Some(Ended::Failed(why));
        inner.submitted.drain(..).collect()
    }
}

impl Drop for JobQueue {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        if inner.ended.is_none() {
            inner.ended = Some(if std::thread::panicking() {
                Ended::Failed("the engine's thread panicked".to_owned())
            } else {
                Ended::Stopped
            });
        }
        // Dropping the sinks closes their streams.
        inner.submitted.clear();
        inner.active.clear();
        inner.waiting.clear();
        self.shared.wake.notify_all();
    }
}

#[cfg(test)]
mod tests;
