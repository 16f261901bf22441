use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use runtime::engine::{DEFAULT_MAX_TOKENS, JobKey};
use runtime::receipt::{Asked, Receipt};
use runtime::request::{Completion, Event, EventSink, JobError, Request, SubmitError};
use tokio::sync::mpsc;

use crate::log::JobLog;
use crate::meter::JobMeter;
use crate::receipt::receipt;
use crate::sink::JobSink;
use crate::{State, Worker};

/// A job in the engine, as its reader has it. Dropped before its end was read, it cancels the job.
pub(crate) struct Job {
    worker: Arc<Worker>,
    key: JobKey,
    seed: u64,
    events: mpsc::Receiver<Event>,
    /// What the receipt tells of the request; taken for it at the end.
    asked: Option<Asked>,
    receipt_timeout: Duration,
    /// The completion on its way to a receipt.
    end: Option<Receipted>,
    /// The engine is done with the job.
    ended: bool,
}

type Receipted = Pin<Box<dyn Future<Output = (Completion, Option<Receipt>)> + Send + Sync>>;

impl Job {
    pub(crate) fn submit(
        state: &Arc<State>,
        worker: &Arc<Worker>,
        request: Request,
        log: JobLog,
    ) -> Result<Self, SubmitError> {
        let mut jobs = Self::submit_all(state, worker, vec![(request, log)])?;
        Ok(jobs.pop().expect("a job for each request"))
    }

    /// Submits all, or none.
    pub(crate) fn submit_all(
        state: &Arc<State>,
        worker: &Arc<Worker>,
        requests: Vec<(Request, JobLog)>,
    ) -> Result<Vec<Self>, SubmitError> {
        let (mut jobs, mut submitted) = (Vec::new(), Vec::new());
        for (request, log) in requests {
            // Room for all that a job can produce, so that the engine never waits for a reader.
            let capacity = request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS) as usize + 2;
            let (sender, events) = mpsc::channel(capacity);
            jobs.push(Self {
                worker: worker.clone(),
                key: JobKey::of(&request),
                seed: request.sampling.seed,
                events,
                asked: Some(Asked::of(&request)),
                receipt_timeout: state.config.receipt_timeout,
                end: None,
                // Nothing is to be cancelled until it is submitted.
                ended: true,
            });
            let sink = JobSink::new(sender, log, JobMeter::new(state.clone(), &request));
            submitted.push((request, Box::new(sink) as Box<dyn EventSink>));
        }
        worker.engine.submit_all(submitted)?;
        jobs.iter_mut().for_each(|job| job.ended = false);
        Ok(jobs)
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    pub(crate) fn id(&self) -> &str {
        &self.key.id
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// The next event, an `End` with its receipt, if it can have one; `None` after the last, which is an `End` or an `Error`.
    pub(crate) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<(Event, Option<Receipt>)>> {
        if !self.ended {
            let event = ready!(self.events.poll_recv(context)).unwrap_or_else(|| {
                Event::Error(JobError::Internal("the engine stopped before the job ended".to_owned()))
            });
            self.ended = matches!(event, Event::End(_) | Event::Error(_));
            match (event, self.asked.take_if(|_| self.ended)) {
                (Event::End(completion), Some(asked)) => {
                    self.end =
                        Some(Box::pin(receipt(self.worker.clone(), asked, completion, self.receipt_timeout)));
                }
                (event, _) => return Poll::Ready(Some((event, None))),
            }
        }
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        let (completion, receipt) = ready!(end.as_mut().poll(context));
        self.end = None;
        Poll::Ready(Some((Event::End(completion), receipt)))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Once the engine let go of its end, the id may already belong to another job.
        if !self.ended && !self.events.is_closed() {
            self.worker.engine.cancel(&self.key);
        }
    }
}
