//! The loop that turns waiting jobs into tokens: take in, plan, compute, choose, hand out.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use kernels::sample::NO_TOKEN;

use crate::batch::{Batch, Chunk};
use crate::engine::compute::Compute;
use crate::engine::fault::fault;
use crate::engine::outbox::Outbox;
use crate::engine::sampler::Row;
use crate::engine::sequence::Sequence;
use crate::engine::{CacheUse, DEFAULT_MAX_TOKENS, Job, JobKey, JobQueue, Next};
use crate::model::ModelError;
use crate::request::{Event, JobError, StopReason};
use crate::scheduler::{Id, Scheduler};
use crate::tokenizer::Tokenizer;

/// Owns what computes, and every job from the queue to its end.
pub(crate) struct Engine<C> {
    compute: C,
    tokenizer: Arc<Tokenizer>,
    queue: JobQueue,
    scheduler: Scheduler,
    /// Waiting and running, by arrival.
    jobs: BTreeMap<Id, Sequence>,
    outbox: Outbox,
    /// Jobs that ever came.
    arrived: Id,
    batch: Batch,
}

/// How a sequence leaves the engine.
enum Leaves {
    Ended(StopReason),
    Failed(JobError),
    Disconnected,
}

impl<C: Compute> Engine<C> {
    pub(crate) fn new(compute: C, tokenizer: Arc<Tokenizer>, queue: JobQueue, scheduler: Scheduler) -> Self {
        let (jobs, outbox, batch) = Default::default();
        Self { compute, tokenizer, queue, scheduler, jobs, outbox, arrived: 0, batch }
    }

    /// Works until a shutdown is asked for and nothing is left, or the device fails.
    pub(crate) fn run(mut self) {
        loop {
            match self.turn() {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(error) => return self.fail(error),
            }
        }
    }

    /// Takes in what happened, and computes one step. Waits while there is nothing to do; breaks if nothing will come any
    /// more.
    ///
    /// # Errors
    /// The device failed and does not work any more.
    pub(crate) fn turn(&mut self) -> Result<ControlFlow<()>, ModelError> {
        let (jobs, cancelled) = match self.queue.next(usize::MAX, self.jobs.len()) {
            Next::Work { jobs, cancelled } => (jobs, cancelled),
            Next::Stop => return Ok(ControlFlow::Break(())),
        };
        for job in jobs {
            self.take_in(job);
        }
        self.cancel(&cancelled);
        self.expire();
        if !self.queue.resident() {
            self.stop_all(&JobError::NotResident("the last check failed".to_owned()));
            // Of a driver that no longer works every check fails: then the process has to be started anew.
            self.compute.probe()?;
        }
        self.admit();
        self.scheduler.plan();
        self.publish();
        if let Err(error) = self.step() {
            self.survive(error)?;
        }
        for id in self.outbox.take_gone() {
            self.leave(id, Leaves::Disconnected);
        }
        if self.jobs.is_empty() {
            // No step follows in which it could be told.
            self.outbox.flush();
        }
        self.publish();
        Ok(ControlFlow::Continue(()))
    }

    /// What the KV cache is used for, for whoever asks meanwhile.
    fn publish(&self) {
        let pool = self.scheduler.pool();
        self.queue.publish(CacheUse {
            pages_used: pool.total() - pool.available(),
            pages_cached: pool.idle(),
            cached_tokens: pool.hits(),
            preemptions: self.scheduler.preemptions(),
        });
    }

    /// A job waits for its turn.
    fn take_in(&mut self, job: Job) {
        // What one sequence may have: of the model's context, as much as there are pages.
        let context = self.queue.limits().tokens();
        let most = job.request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS) as usize;
        let max_tokens = most.min(context.saturating_sub(job.request.prompt.len()));
        let id = self.arrived;
        self.arrived += 1;
        self.scheduler.submit(id, job.request.client, &job.request.prompt);
        let (sequence, sink) = Sequence::new(job, max_tokens, &self.tokenizer);
        self.jobs.insert(id, sequence);
        self.outbox.open(id, sink);
    }

    /// Jobs whose turn it is begin.
    fn admit(&mut self) {
        for id in self.scheduler.admit() {
            self.queue.begun(&self.jobs[&id].key);
            self.outbox.put(id, Event::Started);
        }
    }

    /// Jobs that were cancelled leave, running or not.
    fn cancel(&mut self, cancelled: &[JobKey]) {
        if cancelled.is_empty() {
            return;
        }
        let of = |(&id, sequence): (&Id, &Sequence)| cancelled.contains(&sequence.key).then_some(id);
        let ids: Vec<Id> = self.jobs.iter().filter_map(of).collect();
        for id in ids {
            self.leave(id, Leaves::Failed(JobError::Cancelled));
        }
    }

    /// Jobs over their time leave, running or not. All have the same time, so the oldest ends first.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((&id, sequence)) = self.jobs.first_key_value()
            && sequence.deadline <= now
        {
            self.leave(id, Leaves::Failed(JobError::Timeout(self.queue.limits().timeout)));
        }
    }

    /// Every job leaves.
    fn stop_all(&mut self, error: &JobError) {
        while let Some((&id, _)) = self.jobs.first_key_value() {
            self.leave(id, Leaves::Failed(error.clone()));
        }
    }

    /// One forward pass of what is planned, and a token for each sequence that is up to date. Meanwhile clients hear of the step
    /// before.
    fn step(&mut self) -> Result<(), ModelError> {
        if self.scheduler.planned().is_empty() {
            self.outbox.flush();
            return Ok(());
        }
        self.batch.clear();
        for planned in self.scheduler.planned() {
            let tokens = self.jobs[&planned.id].tokens();
            self.batch.push(Chunk {
                tokens: &tokens[planned.start..planned.start + planned.count],
                start: planned.start,
                pages: self.scheduler.pages(planned.id),
                wants_logits: planned.is_last,
            });
        }
        let up_to_date: Vec<Id> = self
            .scheduler
            .planned()
            .iter()
            .filter(|planned| planned.is_last)
            .map(|planned| planned.id)
            .collect();
        let mut choices = Vec::with_capacity(up_to_date.len());
        for id in &up_to_date {
            let Some(sequence) = self.jobs.get_mut(id) else { unreachable!("the scheduler has no others") };
            choices.push(sequence.choice());
        }
        let rows: Vec<Row<'_>> =
            up_to_date.iter().zip(choices).map(|(id, choice)| self.jobs[id].row(choice)).collect();
        let chosen = self.compute.step(&self.batch, &rows, &mut || self.outbox.flush())?;
        self.scheduler.computed();

        for (id, token) in up_to_date.into_iter().zip(chosen) {
            if token.id == NO_TOKEN {
                let why = "the model's logits are not numbers".to_owned();
                self.leave(id, Leaves::Failed(JobError::Internal(why)));
                continue;
            }
            let Some(sequence) = self.jobs.get_mut(&id) else { unreachable!("it was planned") };
            let chosen = token.id;
            let (text, ended) = sequence.accept(token, &self.tokenizer);
            if let Some(event) = text {
                self.outbox.put(id, event);
            }
            match ended {
                None => self.scheduler.push(id, chosen),
                Some(reason) => self.leave(id, Leaves::Ended(reason)),
            }
        }
        Ok(())
    }

    /// A step failed: its sequences leave. The others, and the worker, go on if the device still works.
    fn survive(&mut self, error: ModelError) -> Result<(), ModelError> {
        if self.compute.probe().is_err() {
            // What comes after the first error says less.
            return Err(error);
        }
        let failed: Vec<Id> = self.scheduler.planned().iter().map(|planned| planned.id).collect();
        tracing::error!(event = "error", error = %error, jobs = failed.len(), "a step failed; the device still works");
        for id in failed {
            self.leave(id, Leaves::Failed(fault(&error)));
        }
        Ok(())
    }

    /// A job leaves: its pages and its id are free before its client hears of it.
    fn leave(&mut self, id: Id, how: Leaves) {
        let Some(sequence) = self.jobs.remove(&id) else { return };
        self.scheduler.remove(id);
        self.queue.finished(&sequence.key);
        self.publish();
        match how {
            Leaves::Ended(reason) => {
                let (rest, end) = sequence.end(reason);
                for event in rest.into_iter().chain([end]) {
                    self.outbox.put(id, event);
                }
            }
            Leaves::Failed(error) => self.outbox.put(id, Event::Error(error)),
            Leaves::Disconnected => self.outbox.close(id),
        }
    }

    /// The device failed: every job hears of it, and no other is taken.
    fn fail(mut self, error: ModelError) {
        tracing::error!(event = "error", severity = "CRITICAL", error = %error, "the device failed: the engine stops");
        let told = fault(&error);
        self.stop_all(&told);
        self.outbox.flush();
        for mut job in self.queue.fail(error.to_string()) {
            let _ = job.sink.send(Event::Error(told.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
