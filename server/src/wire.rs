//! What is written on the wire: bodies of answers and data of events.

use runtime::receipt::Receipt;
use runtime::request::{Completion, StopReason};
use serde::Serialize;
use serde_json::Number;

/// One thing wrong with a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Fault {
    /// Path of the field, such as `stop[1]`; `body` for the whole.
    pub(crate) field: String,
    /// The rule that was broken, for programs.
    pub(crate) constraint: String,
    /// The rule that was broken, for people.
    pub(crate) message: String,
    /// The offending number. Text is never echoed: it may be the prompt, even under a wrong name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Number>,
}

impl Fault {
    pub(crate) fn new(
        field: impl Into<String>,
        constraint: impl Into<String>,
        message: impl ToString,
    ) -> Self {
        Self { field: field.into(), constraint: constraint.into(), message: message.to_string(), value: None }
    }
}

/// Body of a 400 that lists all faults.
#[derive(Serialize)]
pub(crate) struct FaultsBody<'a> {
    pub(crate) errors: &'a [Fault],
}

/// Body of every other error, and data of the `error` event.
#[derive(Serialize)]
pub(crate) struct ErrorBody {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) retriable: bool,
}

/// Data of the `started` event.
#[derive(Serialize)]
pub(crate) struct StartedData<'a> {
    pub(crate) job_id: &'a str,
    pub(crate) model: &'a str,
    /// RFC 3339, UTC.
    pub(crate) started_at: String,
    pub(crate) seed: u64,
    pub(crate) correlation_id: &'a str,
}

/// Data of a `token` event.
#[derive(Serialize)]
pub(crate) struct TokenData<'a> {
    pub(crate) t: &'a str,
    pub(crate) i: u32,
}

/// Data of the `end` event.
#[derive(Serialize)]
pub(crate) struct EndData<'a> {
    tokens_out: u32,
    tokens_in: u32,
    decode_time_ms: u128,
    stop_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_sequence_matched: Option<&'a str>,
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
}

impl<'a> EndData<'a> {
    pub(crate) fn new(completion: &'a Completion, seed: u64, receipt: Option<Receipt>) -> Self {
        let (stop_reason, stop_sequence_matched) = stop_reason(&completion.stop_reason);
        Self {
            tokens_out: completion.tokens_out,
            tokens_in: completion.tokens_in,
            decode_time_ms: completion.decode_time.as_millis(),
            stop_reason,
            stop_sequence_matched,
            seed,
            receipt,
        }
    }
}

/// A stop reason's name, and the stop string that was matched.
pub(crate) fn stop_reason(reason: &StopReason) -> (&'static str, Option<&str>) {
    match reason {
        StopReason::MaxTokens => ("max_tokens", None),
        StopReason::EndOfSequence => ("eos", None),
        StopReason::StopSequence(text) => ("stop_sequence", Some(text)),
    }
}

/// Body of the answer to `/shutdown`.
#[derive(Serialize)]
pub(crate) struct ShutdownBody {
    pub(crate) status: &'static str,
}

/// Body of the answer to `/cancel`.
#[derive(Serialize)]
pub(crate) struct CancelBody {
    pub(crate) status: &'static str,
    pub(crate) job_id: String,
}

/// Body of the answer to `/ready`.
#[derive(Serialize)]
pub(crate) struct ReadyBody {
    pub(crate) ready: bool,
    pub(crate) status: &'static str,
}

/// Body of the answer to `/health`; `None` is what a loading worker does not know yet, or a CPU does not have.
#[derive(Serialize)]
pub(crate) struct HealthBody<'a> {
    pub(crate) status: &'static str,
    pub(crate) resident: bool,
    pub(crate) model: &'a str,
    pub(crate) architecture: Option<&'a str>,
    pub(crate) quant_kind: Option<&'a str>,
    pub(crate) tokenizer_kind: Option<&'a str>,
    pub(crate) vocab_size: Option<usize>,
    pub(crate) context_length: Option<usize>,
    pub(crate) vram_bytes_used: u64,
    pub(crate) vram_bytes_total: u64,
    pub(crate) device: Option<&'a str>,
    pub(crate) sm: Option<&'a str>,
    pub(crate) driver_version: Option<&'a str>,
    pub(crate) numerics: Option<&'a str>,
    pub(crate) uptime_seconds: u64,
    pub(crate) capabilities: &'static [&'static str],
    pub(crate) protocol: &'static str,
}
