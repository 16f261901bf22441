use std::sync::Arc;
use std::time::Instant;

use runtime::request::{Event, Request};

use crate::State;
use crate::error::ApiError;
use crate::wire::stop_reason;

/// Counts one job's events, on the engine's thread: a few atomic additions each.
pub(crate) struct JobMeter {
    state: Arc<State>,
    tokens_in: u64,
    submitted: Instant,
    began: Option<Instant>,
    last_text: Option<Instant>,
    /// Tokens counted so far. A text has at least one token, but the last text may come with the one that ends the
    /// sequence, which does not count: so a text is counted when the next event shows that it was not the last.
    counted: u64,
}

impl JobMeter {
    pub(crate) fn new(state: Arc<State>, request: &Request) -> Self {
        let tokens_in = request.prompt.len() as u64;
        Self { state, tokens_in, submitted: Instant::now(), began: None, last_text: None, counted: 0 }
    }

    pub(crate) fn note(&mut self, event: &Event) {
        let now = Instant::now();
        match event {
            Event::Started => {
                self.began = Some(now);
                self.state.metrics.tokens_in.inc_by(self.tokens_in);
            }
            Event::Token { .. } => {
                let metrics = &self.state.metrics;
                match self.last_text {
                    None => metrics.first_token.observe((now - self.submitted).as_secs_f64()),
                    Some(last) => metrics.inter_token.observe((now - last).as_secs_f64()),
                }
                self.count_text();
                self.last_text = Some(now);
            }
            Event::End(completion) => {
                let metrics = &self.state.metrics;
                let uncounted = u64::from(completion.tokens_out).saturating_sub(self.counted);
                metrics.tokens_generated.inc_by(uncounted);
                if let Some(began) = self.began {
                    metrics.duration_ms.observe((now - began).as_secs_f64() * 1000.0);
                }
                metrics.request_ended(stop_reason(&completion.stop_reason).0);
            }
            Event::Error(cause) => {
                self.count_text();
                self.state.metrics.request_ended(ApiError::Job(cause.clone()).code());
            }
        }
    }

    /// Counts the text before this event.
    fn count_text(&mut self) {
        if self.last_text.is_some() {
            self.counted += 1;
            self.state.metrics.tokens_generated.inc();
        }
    }
}
