//! Events: points in a stream that can be waited for and, unless made without, have a time.

use std::time::Instant;

use crate::{Answer, INVALID_HANDLE, NOT_READY};

/// `CU_EVENT_DISABLE_TIMING`.
pub(crate) const DISABLE_TIMING: u32 = 2;

/// An event.
pub(crate) struct Event {
    timed: bool,
    recorded: bool,
    /// When the stream passed it; `None` while its last record waits.
    passed: Option<Instant>,
}

impl Event {
    pub(crate) fn new(flags: u32) -> Self {
        Self { timed: flags & DISABLE_TIMING == 0, recorded: false, passed: None }
    }

    pub(crate) fn record(&mut self) {
        (self.recorded, self.passed) = (true, None);
    }

    pub(crate) fn pass(&mut self) {
        self.passed = Some(Instant::now());
    }

    /// Whether nothing before its last record waits.
    pub(crate) fn is_done(&self) -> bool {
        !self.recorded || self.passed.is_some()
    }

    /// When the stream passed it.
    pub(crate) fn time(&self) -> Answer<Instant> {
        if !self.timed || !self.recorded {
            return Err(INVALID_HANDLE);
        }
        self.passed.ok_or(NOT_READY)
    }
}
