use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::request::{Event, Request};
use sha2::{Digest, Sha256};
use tracing::{error, info, warn};

use crate::correlation::CorrelationId;
use crate::error::ApiError;
use crate::wire::Fault;
use crate::{State, Worker};

/// Writes one job's log lines. The prompt appears by length and hash only.
pub(crate) struct JobLog {
    state: Arc<State>,
    worker: Arc<Worker>,
    job_id: String,
    correlation_id: String,
    prompt_chars: usize,
    prompt_sha256: String,
    tokens_in: usize,
    submitted: Instant,
    first_token: Option<Duration>,
}

impl JobLog {
    pub(crate) fn new(state: Arc<State>, worker: Arc<Worker>, request: &Request, prompt: &str) -> Self {
        Self {
            state,
            worker,
            job_id: request.job_id.clone(),
            correlation_id: request.correlation_id.clone(),
            prompt_chars: prompt.chars().count(),
            prompt_sha256: Sha256::digest(prompt).iter().map(|byte| format!("{byte:02x}")).collect(),
            tokens_in: request.prompt.len(),
            submitted: Instant::now(),
            first_token: None,
        }
    }

    /// A line for the first event, one for the last; the first token's time is kept for the latter.
    pub(crate) fn note(&mut self, event: &Event) {
        let info = &self.worker.info;
        let (job_id, correlation_id) = (&self.job_id, &self.correlation_id);
        let worker_id = &self.state.config.worker_id;
        let (model_ref, device) = (&info.name, &info.device);
        match event {
            Event::Started => info!(
                event = "execute_start",
                worker_id,
                job_id,
                correlation_id,
                model_ref,
                device,
                tokens_in = self.tokens_in,
                prompt_chars = self.prompt_chars,
                prompt_sha256 = self.prompt_sha256,
                waited_ms = millis(self.submitted.elapsed()),
            ),
            Event::Token { .. } => {
                self.first_token.get_or_insert_with(|| self.submitted.elapsed());
            }
            Event::End(completion) => info!(
                event = "execute_end",
                worker_id,
                job_id,
                correlation_id,
                model_ref,
                device,
                tokens_in = completion.tokens_in,
                tokens_out = completion.tokens_out,
                first_token_ms = self.first_token.map(millis),
                decode_time_ms = millis(completion.decode_time),
                vram_bytes = info.bytes_used,
            ),
            Event::Error(cause) => {
                let told = ApiError::Job(cause.clone());
                let code = told.code();
                if told.is_ours() {
                    error!(event = "error", worker_id, job_id, correlation_id, model_ref, device, code, message = %told);
                } else {
                    warn!(event = "error", worker_id, job_id, correlation_id, model_ref, device, code, message = %told);
                }
            }
        }
    }
}

/// Counts a request that got no stream, and writes a line for it. Faults are named by field and rule; of a field that is not known, only the
/// rule, and once: its name may be anything.
pub(crate) fn refused(state: &State, correlation: &CorrelationId, error: &ApiError) {
    state.metrics.request_ended(error.code());
    let faults = match error {
        ApiError::Invalid(faults) => {
            let told = |fault: &Fault| match fault.constraint.as_str() {
                "known_field" => "known_field".to_owned(),
                constraint => format!("{}: {constraint}", fault.field),
            };
            let mut told: Vec<String> = faults.iter().map(told).collect();
            // A body has room for tens of thousands of unknown fields, a log line has not.
            told.dedup();
            told
        }
        _ => Vec::new(),
    };
    let (worker_id, correlation_id) = (&state.config.worker_id, correlation.as_str());
    let model_ref = &state.config.model;
    let device = state.worker.get().map(|worker| &worker.info.device);
    let (code, faults) = (error.code(), faults.join(", "));
    if error.is_ours() {
        error!(event = "error", worker_id, correlation_id, model_ref, device, code, message = %error, faults);
    } else {
        warn!(event = "error", worker_id, correlation_id, model_ref, device, code, message = %error, faults);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
