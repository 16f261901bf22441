//! The loop that turns waiting jobs into tokens: take in, plan, compute, choose, hand out.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use kernels::sample::NO_TOKEN;

use crate::batch::Batch;
use crate::device::Device;
use crate::engine::fault::fault;
use crate::engine::sampler::{Row, Sampler};
use crate::engine::sequence::{Outcome, Sequence};
use crate::engine::{DEFAULT_MAX_TOKENS, Job, JobQueue, Next};
use crate::kv_cache::{PagePool, pages_for};
use crate::model::{Model, ModelError};
use crate::request::{Event, JobError, StopReason};
use crate::tokenizer::Tokenizer;

/// Owns the device and everything on it.
pub(crate) struct Engine {
    device: Device,
    model: Model,
    sampler: Sampler,
    tokenizer: Arc<Tokenizer>,
    queue: JobQueue,
    pool: PagePool,
    /// Taken from the queue, but not enough pages are free; oldest first.
    waiting: VecDeque<Job>,
    /// Oldest first.
    running: Vec<Sequence>,
}

/// How a sequence leaves the engine.
enum Leaves {
    Ended(StopReason),
    Failed(JobError),
    Disconnected,
}

impl Engine {
    pub(crate) fn new(
        device: Device,
        model: Model,
        sampler: Sampler,
        tokenizer: Arc<Tokenizer>,
        queue: JobQueue,
        pages: usize,
    ) -> Self {
        let pool = PagePool::new(pages);
        let (waiting, running) = (VecDeque::new(), Vec::new());
        Self { device, model, sampler, tokenizer, queue, pool, waiting, running }
    }

    /// Works until a shutdown is asked for and nothing is left, or the device fails.
    pub(crate) fn run(mut self) {
        loop {
            let room = self.model.limits().sequences - self.running.len();
            let room = if self.waiting.is_empty() { room } else { 0 };
            let (jobs, cancelled) = match self.queue.next(room, self.running.len() + self.waiting.len()) {
                Next::Work { jobs, cancelled } => (jobs, cancelled),
                Next::Stop => return,
            };
            self.waiting.extend(jobs);
            self.cancel(&cancelled);
            self.expire();
            if !self.queue.resident() {
                self.stop_all(&JobError::NotResident("the last check failed".to_owned()));
                // Of a driver that no longer works every check fails: then the process has to be started anew.
                if let Err(error) = self.sampler.probe(&self.device) {
                    return self.fail(error.into());
                }
            }
            self.admit();
            self.publish();
            let planned = self.plan();
            if let Err(error) = self.step(&planned)
                && let Err(error) = self.survive(&planned, error)
            {
                return self.fail(error);
            }
            self.publish();
        }
    }

    /// How many pages jobs hold, for whoever asks meanwhile.
    fn publish(&self) {
        self.queue.publish_pages(self.pool.total() - self.pool.free());
    }

    /// Jobs that were cancelled leave, running or not.
    fn cancel(&mut self, cancelled: &[String]) {
        for i in (0..self.waiting.len()).rev() {
            if cancelled.contains(&self.waiting[i].request.job_id)
                && let Some(job) = self.waiting.remove(i)
            {
                self.refuse(job, JobError::Cancelled);
            }
        }
        self.remove(|sequence| {
            cancelled.contains(&sequence.job_id).then_some(Leaves::Failed(JobError::Cancelled))
        });
    }

    /// Jobs for which there are pages begin, in their order. A job takes all the pages it can ever need, so that none
    /// runs out later.
    fn admit(&mut self) {
        while let Some(job) = self.waiting.pop_front() {
            // What one sequence may have: of the model's context, as much as there are pages.
            let context = self.model.limits().context;
            let prompt = job.request.prompt.len();
            let most = job.request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS) as usize;
            let max_tokens = most.min(context.saturating_sub(prompt));
            let needed = pages_for(prompt + max_tokens);
            let Some(pages) = self.pool.take(needed) else {
                self.waiting.push_front(job);
                return;
            };
            let mut sequence = Sequence::new(job, max_tokens, pages, &self.tokenizer);
            let listens = sequence.send(Event::Started).is_ok();
            self.running.push(sequence);
            if !listens {
                let last = self.running.len() - 1;
                self.leave(last, Leaves::Disconnected);
            }
        }
    }

    /// Jobs over their time leave, running or not.
    fn expire(&mut self) {
        let (now, timeout) = (Instant::now(), self.queue.limits().timeout);
        for i in (0..self.waiting.len()).rev() {
            if self.waiting[i].deadline <= now
                && let Some(job) = self.waiting.remove(i)
            {
                self.refuse(job, JobError::Timeout(timeout));
            }
        }
        self.remove(|sequence| {
            (sequence.deadline <= now).then_some(Leaves::Failed(JobError::Timeout(timeout)))
        });
    }

    /// Every job leaves.
    fn stop_all(&mut self, error: &JobError) {
        self.remove(|_| Some(Leaves::Failed(error.clone())));
        while let Some(job) = self.waiting.pop_front() {
            self.refuse(job, error.clone());
        }
    }

    /// Which sequences the next step computes, and how many tokens of each: what the budget allows. Sequences that
    /// generate come before prompts, so that these do not hold them up.
    fn plan(&self) -> Vec<(usize, usize)> {
        let mut budget = self.model.limits().tokens;
        let mut planned = Vec::new();
        let generating = |sequence: &Sequence| sequence.pending() == 1;
        let (first, second): (Vec<usize>, Vec<usize>) =
            (0..self.running.len()).partition(|&i| generating(&self.running[i]));
        for i in first.into_iter().chain(second) {
            if budget == 0 {
                break;
            }
            let count = self.running[i].pending().min(budget);
            budget -= count;
            planned.push((i, count));
        }
        planned
    }

    /// One forward pass, and a token for each sequence that is up to date.
    fn step(&mut self, planned: &[(usize, usize)]) -> Result<(), ModelError> {
        if planned.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for &(i, count) in planned {
            batch.push(self.running[i].chunk(count));
        }
        self.model.forward(&self.device, &batch, None)?;

        let mut up_to_date: Vec<usize> = Vec::new();
        for &(i, count) in planned {
            if self.running[i].computed(count) {
                up_to_date.push(i);
            }
        }
        if up_to_date.is_empty() {
            return Ok(());
        }
        let choices: Vec<_> = up_to_date.iter().map(|&i| self.running[i].choice()).collect();
        let rows: Vec<Row<'_>> =
            up_to_date.iter().zip(choices).map(|(&i, choice)| self.running[i].row(choice)).collect();
        let chosen = self.sampler.sample(&self.device, &self.model, &rows)?;

        let mut leaving: Vec<(usize, Leaves)> = Vec::new();
        for (i, token) in up_to_date.into_iter().zip(chosen) {
            if token.id == NO_TOKEN {
                let why = "the model's logits are not numbers".to_owned();
                leaving.push((i, Leaves::Failed(JobError::Internal(why))));
                continue;
            }
            match self.running[i].accept(token, &self.tokenizer) {
                Outcome::Goes => {}
                Outcome::Ended(reason) => leaving.push((i, Leaves::Ended(reason))),
                Outcome::Disconnected => leaving.push((i, Leaves::Disconnected)),
            }
        }
        // From the last to the first, so that the places of the others stay.
        leaving.sort_by_key(|&(i, _)| Reverse(i));
        for (i, how) in leaving {
            self.leave(i, how);
        }
        Ok(())
    }

    /// A step failed: its sequences leave. The others, and the worker, go on if the device still works.
    fn survive(&mut self, planned: &[(usize, usize)], error: ModelError) -> Result<(), ModelError> {
        if self.sampler.probe(&self.device).is_err() {
            // What comes after the first error says less.
            return Err(error);
        }
        tracing::error!(event = "error", error = %error, jobs = planned.len(), "a step failed; the device still works");
        let mut leaving: Vec<usize> = planned.iter().map(|&(i, _)| i).collect();
        leaving.sort_by_key(|&i| Reverse(i));
        for i in leaving {
            self.leave(i, Leaves::Failed(fault(&error)));
        }
        Ok(())
    }

    fn remove(&mut self, leaves: impl Fn(&Sequence) -> Option<Leaves>) {
        for i in (0..self.running.len()).rev() {
            if let Some(how) = leaves(&self.running[i]) {
                self.leave(i, how);
            }
        }
    }

    /// The running sequence `i` leaves: its pages and its id are free before its client hears of it.
    fn leave(&mut self, i: usize, how: Leaves) {
        let mut sequence = self.running.remove(i);
        self.queue.finished(&sequence.job_id);
        self.pool.release(std::mem::take(&mut sequence.pages));
        self.publish();
        match how {
            Leaves::Ended(reason) => sequence.end(reason),
            Leaves::Failed(error) => {
                // Whether anybody still listens makes no difference any more.
                let _ = sequence.send(Event::Error(error));
            }
            Leaves::Disconnected => {}
        }
    }

    /// Ends a job that never began.
    fn refuse(&mut self, mut job: Job, error: JobError) {
        self.queue.finished(&job.request.job_id);
        let _ = job.sink.send(Event::Error(error));
    }

    /// The device failed: every job hears of it, and no other is taken.
    fn fail(mut self, error: ModelError) {
        tracing::error!(event = "error", severity = "CRITICAL", error = %error, "the device failed: the engine stops");
        let told = fault(&error);
        self.stop_all(&told);
        for mut job in self.queue.fail(error.to_string()) {
            let _ = job.sink.send(Event::Error(told.clone()));
        }
    }
}
