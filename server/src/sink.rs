use runtime::request::{Disconnected, Event, EventSink, JobError};
use tokio::sync::mpsc;

use crate::log::JobLog;
use crate::meter::JobMeter;

/// Takes a job's events on the engine's thread, notes them in the log and the metrics and hands them to the job's
/// stream.
pub(crate) struct JobSink {
    events: mpsc::Sender<Event>,
    log: JobLog,
    meter: JobMeter,
    /// It has begun and not ended.
    runs: bool,
}

impl JobSink {
    pub(crate) fn new(events: mpsc::Sender<Event>, log: JobLog, meter: JobMeter) -> Self {
        Self { events, log, meter, runs: false }
    }

    fn note(&mut self, event: &Event) {
        self.runs = matches!(event, Event::Started | Event::Token { .. });
        self.log.note(event);
        self.meter.note(event);
    }
}

impl EventSink for JobSink {
    fn send(&mut self, event: Event) -> Result<(), Disconnected> {
        self.note(&event);
        self.events.try_send(event).map_err(|_| Disconnected)
    }
}

impl Drop for JobSink {
    /// The engine says nothing more to a reader who is gone, nor when it dies.
    fn drop(&mut self) {
        if self.runs {
            let cause = if self.events.is_closed() {
                JobError::Cancelled
            } else {
                JobError::Internal("the engine stopped before the job ended".to_owned())
            };
            self.note(&Event::Error(cause));
        }
    }
}
