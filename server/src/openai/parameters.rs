use runtime::engine::MOST_BIASED;
use runtime::request::{Request, Sampling};
use serde_json::Value;

use crate::fields::{Bounds, Fields, wrong_type};
use crate::validate::{LEAST_PENALTY, STOP_CHARS, STOPS, check_stop, draw_seed};
use crate::wire::Fault;
use crate::{State, Worker};

/// Choices for a prompt.
const MOST_CHOICES: u64 = 16;
/// Log-probabilities of other tokens.
pub(super) const MOST_LOGPROBS: u64 = 20;

/// What both endpoints understand.
#[derive(Debug, Clone)]
pub(super) struct Parameters {
    /// Choices for a prompt.
    pub(super) n: u32,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// Whether a choice begins with its prompt.
    pub(super) echo: bool,
    /// See [`Request::logprobs`].
    pub(super) logprobs: Option<u32>,
    /// `None`: what the context leaves.
    pub(super) max_tokens: Option<u32>,
    /// See [`Request::min_tokens`].
    pub(super) min_tokens: u32,
    ignore_eos: bool,
    stop: Vec<String>,
    sampling: Sampling,
    /// Tokens to generate at most, whoever asks.
    most: u32,
}

impl Parameters {
    /// Takes its fields, but for those that the endpoints have each in its own way: `max_tokens`, `logprobs`, `echo`.
    pub(super) fn take(fields: &mut Fields, state: &State, worker: &Worker) -> Self {
        let vocab = worker.info.vocab_size;
        let most = state.config.max_tokens;
        let narrow = |value: u64| u32::try_from(value).expect("its range was checked");
        let n = fields.integer("n", 1..=MOST_CHOICES).map_or(1, narrow);
        let stream = fields.flag("stream").unwrap_or(false);
        let include_usage = stream_options(fields, stream);
        let real = |fields: &mut Fields, name, min, max, open| fields.real(name, Bounds { min, max, open });
        let temperature = real(fields, "temperature", 0.0, 2.0, false).unwrap_or(1.0);
        let top_p = real(fields, "top_p", 0.0, 1.0, true).unwrap_or(1.0);
        let min_p = real(fields, "min_p", 0.0, 1.0, false).unwrap_or(0.0);
        let top_k = fields.signed("top_k", -1..=vocab as i128).unwrap_or(0);
        let repetition_penalty = real(fields, "repetition_penalty", 0.0, 2.0, true).unwrap_or(1.0);
        let presence_penalty = real(fields, "presence_penalty", -2.0, 2.0, false).unwrap_or(0.0);
        let frequency_penalty = real(fields, "frequency_penalty", -2.0, 2.0, false).unwrap_or(0.0);
        let logit_bias = logit_bias(fields, vocab);
        // OpenAI's are signed, ours are not: the bits count.
        let seed = fields.signed("seed", i128::from(i64::MIN)..=i128::from(u64::MAX));
        let min_tokens = fields.integer("min_tokens", 0..=u64::from(most)).map_or(0, narrow);
        let ignore_eos = fields.flag("ignore_eos").unwrap_or(false);
        let stop = fields.text_or_texts("stop", STOPS, STOP_CHARS);
        check_stop(fields, &stop, |text| worker.text.encode(text));
        without_effect(fields, n);
        let sampling = Sampling {
            temperature,
            top_p,
            // -1 is another way to say that there is no limit.
            top_k: u32::try_from(top_k.max(0)).unwrap_or(0),
            min_p,
            repetition_penalty: repetition_penalty.max(LEAST_PENALTY),
            presence_penalty,
            frequency_penalty,
            logit_bias,
            seed: seed.map_or_else(draw_seed, |seed| seed as u64),
        };
        Self {
            n,
            stream,
            include_usage,
            echo: false,
            logprobs: None,
            max_tokens: None,
            min_tokens,
            ignore_eos,
            stop,
            sampling,
            most,
        }
    }

    /// Takes a limit on the answer's tokens; one below `min_tokens` is a fault.
    pub(super) fn take_max_tokens(&self, fields: &mut Fields, name: &str) -> Option<u32> {
        let max_tokens = fields.integer(name, 1..=u64::from(self.most)).and_then(|n| u32::try_from(n).ok());
        if max_tokens.is_some_and(|max_tokens| max_tokens < self.min_tokens) {
            let message = format!("{name} must be at least min_tokens, which is {}", self.min_tokens);
            fields.fault(Fault::new(name, "at_least(min_tokens)", message));
        }
        max_tokens
    }

    /// The request of choice number `choice`, with a seed of its own.
    pub(super) fn request(&self, worker: &Worker, prompt: Vec<u32>, choice: u32) -> Request {
        // At least one, so that the engine refuses a prompt that leaves nothing.
        let room = worker.engine.limits().tokens().saturating_sub(prompt.len()).max(1);
        let room = u32::try_from(room).unwrap_or(self.most).min(self.most);
        let seed = self.sampling.seed.wrapping_add(choice.into());
        Request {
            prompt,
            max_tokens: Some(self.max_tokens.unwrap_or(room)),
            min_tokens: self.min_tokens,
            ignore_eos: self.ignore_eos,
            sampling: Sampling { seed, ..self.sampling.clone() },
            stop: self.stop.clone(),
            logprobs: self.logprobs,
            ..Request::default()
        }
    }
}

/// Whether the usage is told at a stream's end.
fn stream_options(fields: &mut Fields, stream: bool) -> bool {
    let Some(mut options) = fields.object("stream_options") else { return false };
    let include_usage = options.flag("include_usage").unwrap_or(false);
    options.neutral(
        "include_obfuscation",
        |value| value.is_boolean(),
        "it may be true or false, without effect",
    );
    options.neutral("continuous_usage_stats", |value| *value == false, "it may be false");
    fields.absorb("stream_options", options);
    if !stream {
        let message = "stream_options need stream to be true";
        fields.fault(Fault::new("stream_options", "needs(stream)", message));
    }
    include_usage
}

/// Token ids, written as texts, to biases from -100 to 100.
fn logit_bias(fields: &mut Fields, vocab: usize) -> Vec<(u32, f32)> {
    let biases = match fields.take("logit_bias") {
        None => return Vec::new(),
        Some(Value::Object(biases)) => biases,
        Some(other) => {
            fields.fault(wrong_type("logit_bias", "object", &other));
            return Vec::new();
        }
    };
    if biases.len() > MOST_BIASED {
        let message = format!("logit_bias has {} entries; at most {MOST_BIASED} are allowed", biases.len());
        fields.fault(Fault::new("logit_bias", format!("length(0..={MOST_BIASED})"), message));
        return Vec::new();
    }
    let mut taken: Vec<(u32, f32)> = Vec::with_capacity(biases.len());
    for (index, (id, bias)) in biases.into_iter().enumerate() {
        // Not under its own name, which is the client's text.
        let path = format!("logit_bias[{index}]");
        let Some(id) = id.parse().ok().filter(|&id: &u32| (id as usize) < vocab) else {
            let message = format!("{path} must be of a token id below {vocab}, the size of the vocabulary");
            fields.fault(Fault::new(path, format!("token_id(0..{vocab})"), message));
            continue;
        };
        match bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias)) {
            Some(_) if taken.iter().any(|&(other, _)| other == id) => {
                let message = format!("{path} names a token that was named before");
                fields.fault(Fault::new(path, "unique", message));
            }
            Some(bias) => taken.push((id, bias as f32)),
            None => {
                let message = format!("{path} must be a number from -100 to 100");
                fields.fault(Fault::new(path, "range(-100.0..=100.0)", message));
            }
        }
    }
    taken
}

/// What clients send by habit: taken where it changes nothing, refused where it would.
fn without_effect(fields: &mut Fields, n: u32) {
    for label in ["user", "safety_identifier", "prompt_cache_key"] {
        fields.neutral(label, Value::is_string, "a text is taken, without effect");
    }
    fields.neutral("best_of", |value| *value == n, "it may be what n is");
    fields.neutral("stop_token_ids", is_empty, "it may be empty");
    fields.neutral("use_beam_search", |value| *value == false, "it may be false");
    fields.neutral("length_penalty", |value| value.as_f64() == Some(1.0), "it may be 1");
    fields.neutral("skip_special_tokens", |value| *value == true, "it may be true");
    fields.neutral("spaces_between_special_tokens", Value::is_boolean, "true or false, without effect");
    fields.neutral("include_stop_str_in_output", |value| *value == false, "it may be false");
}

/// Whether a value is a list of nothing.
pub(super) fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// Takes the model's name, which must be this worker's.
pub(super) fn take_model(fields: &mut Fields, worker: &Worker) -> Result<(), crate::error::ApiError> {
    match fields.any_text("model") {
        Some(name) if name != worker.info.name => {
            Err(crate::error::ApiError::ModelNotFound { served: worker.info.name.clone() })
        }
        _ => Ok(()),
    }
}
