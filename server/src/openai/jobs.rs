use std::sync::Arc;
use std::task::{Context, Poll};

use runtime::receipt::Receipt;
use runtime::request::{Event, Request, SubmitError};

use crate::job::Job;
use crate::log::JobLog;
use crate::{State, Worker};

/// The jobs of an answer's choices. Dropped before their ends were read, they are cancelled.
pub(super) struct Jobs {
    jobs: Vec<Job>,
    /// Which one is asked first, so that none has to wait for a talkative one.
    first: usize,
    /// Those that have not ended.
    left: usize,
}

impl Jobs {
    /// Submits all, or none.
    pub(super) fn submit(
        state: &Arc<State>,
        worker: &Arc<Worker>,
        requests: Vec<(Request, JobLog)>,
    ) -> Result<Self, SubmitError> {
        let jobs = Job::submit_all(state, worker, requests)?;
        let left = jobs.len();
        Ok(Self { jobs, first: 0, left })
    }

    /// The next event of any job, with the job's number and an `End` with its receipt; `None` after the last end.
    pub(super) fn poll_event(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<(usize, Event, Option<Receipt>)>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let count = self.jobs.len();
        for i in (self.first..self.first + count).map(|i| i % count) {
            if let Poll::Ready(Some((event, receipt))) = self.jobs[i].poll_event(context) {
                self.first = i + 1;
                self.left -= usize::from(matches!(event, Event::End(_) | Event::Error(_)));
                return Poll::Ready(Some((i, event, receipt)));
            }
        }
        Poll::Pending
    }
}
