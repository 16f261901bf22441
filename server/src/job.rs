use std::sync::Arc;
use std::task::{Context, Poll};

use runtime::engine::DEFAULT_MAX_TOKENS;
use runtime::request::{Event, JobError, Request, SubmitError};
use tokio::sync::mpsc;

use crate::log::JobLog;
use crate::meter::JobMeter;
use crate::sink::JobSink;
use crate::{State, Worker};

/// A job in the engine, as its reader has it. Dropped before its end was read, it cancels the job.
pub(crate) struct Job {
    worker: Arc<Worker>,
    id: String,
    seed: u64,
    events: mpsc::Receiver<Event>,
    /// The `End` or `Error` was read.
    ended: bool,
}

impl Job {
    pub(crate) fn submit(
        state: &Arc<State>,
        worker: &Arc<Worker>,
        request: Request,
        log: JobLog,
    ) -> Result<Self, SubmitError> {
        let (id, seed) = (request.job_id.clone(), request.sampling.seed);
        // Room for all that a job can produce, so that the engine never waits for a reader.
        let capacity = request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS) as usize + 2;
        let (sender, events) = mpsc::channel(capacity);
        let meter = JobMeter::new(state.clone(), &request);
        worker.engine.submit(request, Box::new(JobSink::new(sender, log, meter)))?;
        Ok(Self { worker: worker.clone(), id, seed, events, ended: false })
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// The next event; `None` after the last, which is an `End` or an `Error`.
    pub(crate) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.events.poll_recv(context).map(|event| {
            let event = event.unwrap_or_else(|| {
                Event::Error(JobError::Internal("the engine stopped before the job ended".to_owned()))
            });
            self.ended = matches!(event, Event::End(_) | Event::Error(_));
            Some(event)
        })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Once the engine let go of its end, the id may already belong to another job.
        if !self.ended && !self.events.is_closed() {
            self.worker.engine.cancel(&self.id);
        }
    }
}
