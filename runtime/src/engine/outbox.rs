use std::collections::BTreeMap;

use crate::request::{Event, EventSink};
use crate::scheduler::Id;

/// The sinks of all jobs, and what they are to be told. Telling wakes the readers' threads, which takes about two microseconds an
/// event; the engine does it while the device computes the next step.
#[derive(Default)]
pub(super) struct Outbox {
    sinks: BTreeMap<Id, Box<dyn EventSink>>,
    events: Vec<(Id, Event)>,
    gone: Vec<Id>,
}

impl Outbox {
    /// A job whose events go to `sink`.
    pub(super) fn open(&mut self, id: Id, sink: Box<dyn EventSink>) {
        self.sinks.insert(id, sink);
    }

    /// Puts an event after those that wait; of a job that nobody listens to any more it is dropped.
    pub(super) fn put(&mut self, id: Id, event: Event) {
        self.events.push((id, event));
    }

    /// Nobody hears of a job any more.
    pub(super) fn close(&mut self, id: Id) {
        self.sinks.remove(&id);
    }

    /// Tells all that waits. After an `End` or an `Error` a job's sink is dropped.
    pub(super) fn flush(&mut self) {
        for (id, event) in self.events.drain(..) {
            let Some(sink) = self.sinks.get_mut(&id) else { continue };
            let is_last = matches!(event, Event::End(_) | Event::Error(_));
            let told = sink.send(event);
            if is_last || told.is_err() {
                self.sinks.remove(&id);
            }
            if told.is_err() && !is_last {
                self.gone.push(id);
            }
        }
    }

    /// Jobs whose readers turned out to be gone since this was last asked.
    pub(super) fn take_gone(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.gone)
    }
}
