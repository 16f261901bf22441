//! What goes into the engine and what comes out of it: the whole interface between the server and the runtime.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One completion to compute.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// The client's name for the job; unique among the jobs that are waiting or running.
    pub job_id: String,
    /// Follows the request through every log line and event.
    pub correlation_id: String,
    /// Token ids of the prompt, special tokens included; at least one.
    pub prompt: Vec<u32>,
    /// On whose behalf: clients get equal shares of a busy engine. 0 where nobody is told from another.
    pub client: u32,
    /// Tokens to generate at most. `None`: as many as the context leaves, 2048 at most.
    pub max_tokens: Option<u32>,
    /// Before so many tokens no end-of-sequence token is chosen, and no stop string ends the completion: stop strings are
    /// looked for in the text of the tokens from this number on.
    pub min_tokens: u32,
    /// An end-of-sequence token is one like any other, before `min_tokens` too.
    pub ignore_eos: bool,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// The completion ends before the first of these strings that its text contains.
    pub stop: Vec<String>,
    /// Whether the log-probability of each token is told, and those of so many others: the most likely ones, 20 at
    /// most.
    pub logprobs: Option<u32>,
}

/// How the next token is chosen. The order is: bias, repetition, presence and frequency penalties, temperature, top-k,
/// top-p, min-p, draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most likely token and draws nothing.
    pub temperature: f32,
    /// Keep the smallest set of tokens whose probability reaches it; 1 keeps all.
    pub top_p: f32,
    /// Keep so many of the most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Drop tokens less likely than this share of the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Logits of tokens seen in prompt or output: divided by it if positive, else multiplied; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of each token that the output has; 0 changes nothing.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit for each time that the output has it; 0 changes nothing.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens, 1024 at most; of an id that comes twice the last counts, and one that the
    /// vocabulary does not have changes nothing.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seeds the request's own random numbers.
    pub seed: u64,
}

impl Sampling {
    /// Always the most likely token, ties to the lowest id.
    pub const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        logit_bias: Vec::new(),
        seed: 0,
    };
}

impl Default for Sampling {
    fn default() -> Self {
        Self::GREEDY
    }
}

/// A token that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// Its id.
    pub id: u32,
    /// The natural logarithm of its probability by the model's logits, before any of [`Sampling`]; where the request
    /// asked for it.
    pub logprob: Option<f32>,
    /// Ids and log-probabilities of the most likely tokens, as many as the request asked for, the most likely first, ties
    /// by the lower id. Fewer where the other tokens' probability is zero.
    pub top: Vec<(u32, f32)>,
}

/// What happens to a job, in this order: `Started`, any number of `Token`, then one `End` or one `Error`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The job left the queue and its prompt is being computed.
    Started,
    /// Text that has become certain: whole UTF-8 characters, no part of a stop string.
    Token {
        /// Counts this job's token events from 0.
        index: u32,
        /// The text, never empty.
        text: String,
        /// The tokens chosen since the last event, the last of which made the text certain.
        tokens: Vec<Chosen>,
    },
    /// The completion is whole.
    End(Completion),
    /// The job ended early; what was sent so far stays valid.
    Error(JobError),
}

/// The account of a finished job.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Tokens of the prompt.
    pub tokens_in: u32,
    /// Tokens generated, an end-of-sequence token not counted.
    pub tokens_out: u32,
    /// From the first generated token to the last.
    pub decode_time: Duration,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// The tokens chosen since the last event, an end-of-sequence token not among them.
    pub tokens: Vec<Chosen>,
    /// The BLAKE3 hash of all generated token ids, each as four bytes, the lowest first; an end-of-sequence token is not
    /// among them.
    pub output_hash: [u8; 32],
}

/// Why a completion ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// As many tokens as the request allowed.
    MaxTokens,
    /// The model generated an end-of-sequence token.
    #[serde(rename = "eos")]
    EndOfSequence,
    /// The text reached this stop string.
    StopSequence(String),
}

/// Why a job ended without completing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Cancelled by its client, by a closed connection or by a shutdown.
    #[error("the job was cancelled")]
    Cancelled,
    /// It ran longer than the worker allows.
    #[error("the job ran longer than {} s", .0.as_secs())]
    Timeout(Duration),
    /// The device has no memory left; the text has the bytes needed and free, and those in use by purpose.
    #[error("{0}")]
    OutOfMemory(String),
    /// A kernel could not be launched; with the driver's name of the error.
    #[error("{0}")]
    Launch(String),
    /// The device failed; with the driver's name of the error.
    #[error("device error: {0}")]
    Device(String),
    /// What the model is made of is not in the device's memory any more.
    #[error("not resident in the device's memory: {0}")]
    NotResident(String),
    /// A fault of this program.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Why a job was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The bounded queue is full.
    #[error("the queue is full: {depth} jobs are waiting")]
    QueueFull {
        /// Jobs that may wait.
        depth: usize,
    },
    /// A job of that name is waiting or running.
    #[error("a job with the id {0:?} is already running")]
    DuplicateJob(String),
    /// The prompt, with the tokens asked for, exceeds the model's context.
    #[error("{prompt} prompt tokens and {max_tokens} to generate exceed the context of {context} tokens")]
    ContextOverflow {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens to generate; 1 where the request names no number.
        max_tokens: u32,
        /// Tokens the context holds.
        context: usize,
    },
    /// The job's keys and values exceed the KV cache: they would not fit if nobody else were served.
    #[error(
        "the job's keys and values take {needed} bytes, and the KV cache has {total}, of which {free} are free; in use: \
         {usage}; a larger --kv-cache-size-mb, a shorter prompt or fewer max_tokens would do"
    )]
    InsufficientMemory {
        /// Bytes of the job's keys and values.
        needed: u64,
        /// Bytes of the KV cache.
        total: u64,
        /// Bytes of it that no job holds.
        free: u64,
        /// Bytes in use on the device by purpose, in words.
        usage: String,
    },
    /// A prompt of no tokens.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// A token id that the model does not have.
    #[error("token id {id} at position {position} is outside the vocabulary of {vocab}")]
    TokenOutOfRange {
        /// Where in the prompt.
        position: usize,
        /// The id.
        id: u32,
        /// Tokens in the vocabulary.
        vocab: usize,
    },
    /// What the model is made of is not in the device's memory any more.
    #[error("the model is not resident in the device's memory")]
    NotResident,
    /// The worker is shutting down.
    #[error("the worker is shutting down")]
    Draining,
    /// The engine has stopped after a fault.
    #[error("the engine has stopped: {0}")]
    Failed(String),
}

/// Receives a job's events on the engine's thread.
///
/// `send` must not block: a sink holds `max_tokens + 2` events, which is all that a job can produce: `Started`, a text for
/// each token, the one that ends the sequence included, and `End`.
pub trait EventSink: Send {
    /// Delivers an event; `Err` when nobody listens any more, which cancels the job.
    fn send(&mut self, event: Event) -> Result<(), Disconnected>;
}

/// Nobody listens to the job any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the receiver is gone")]
pub struct Disconnected;

impl<F: FnMut(Event) -> Result<(), Disconnected> + Send> EventSink for F {
    fn send(&mut self, event: Event) -> Result<(), Disconnected> {
        self(event)
    }
}
