use runtime::request::{Disconnected, Event, EventSink};
use tokio::sync::mpsc;

use crate::log::JobLog;

/// Takes a job's events on the engine's thread, notes them in the log and hands them to the job's stream.
pub(crate) struct JobSink {
    events: mpsc::Sender<Event>,
    log: JobLog,
}

impl JobSink {
    pub(crate) fn new(events: mpsc::Sender<Event>, log: JobLog) -> Self {
        Self { events, log }
    }
}

impl EventSink for JobSink {
    fn send(&mut self, event: Event) -> Result<(), Disconnected> {
        self.log.note(&event);
        self.events.try_send(event).map_err(|_| Disconnected)
    }
}
