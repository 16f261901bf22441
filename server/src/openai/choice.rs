use std::sync::Arc;

use runtime::receipt::Receipt;
use runtime::request::{Chosen, Completion, StopReason};
use serde_json::{Map, Value, json};

use super::Head;
use super::dialect::Dialect;
use super::harmony::{Harmony, Said};
use super::logprobs::logprobs;
use super::parameters::Parameters;
use crate::Worker;

/// One choice of an answer, as it comes.
pub(super) struct Choice {
    dialect: Dialect,
    worker: Arc<Worker>,
    wants_logprobs: bool,
    /// The prompt, if it is to come first.
    echo: String,
    /// Takes a chat's answer apart, where the model writes several messages.
    harmony: Option<Harmony>,
    /// Characters told so far.
    chars: usize,
}

/// How a choice begins.
#[derive(Clone)]
pub(super) struct Opening {
    /// The prompt, if it is to come first.
    pub(super) echo: String,
    /// See [`Choice::divide`].
    pub(super) harmony: Option<Harmony>,
}

impl Choice {
    pub(super) fn new(head: &Head, parameters: &Parameters, opening: Opening) -> Self {
        let wants_logprobs = parameters.logprobs.is_some();
        let Opening { echo, harmony } = opening;
        Self { dialect: head.dialect, worker: head.worker.clone(), wants_logprobs, echo, harmony, chars: 0 }
    }

    /// What a stream tells when the job begins.
    pub(super) fn begin(&mut self, index: usize) -> Option<Value> {
        let echo = self.take_echo();
        match self.dialect {
            Dialect::Chat => Some(json!({
                "index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null
            })),
            Dialect::Completions if echo.is_empty() => None,
            Dialect::Completions => {
                Some(json!({"index": index, "text": echo, "logprobs": null, "finish_reason": null}))
            }
        }
    }

    /// The text that comes before all else, once.
    pub(super) fn take_echo(&mut self) -> String {
        let echo = std::mem::take(&mut self.echo);
        self.chars += echo.chars().count();
        echo
    }

    /// What a text says that has become certain with these tokens.
    pub(super) fn divide(&mut self, text: String, tokens: &[Chosen]) -> Said {
        match &mut self.harmony {
            Some(harmony) => harmony.divide(self.worker.text.as_ref(), &text, tokens),
            None => Said { content: text, reasoning: None },
        }
    }

    /// More text; nothing where there is nothing to tell of it.
    pub(super) fn text(&mut self, index: usize, text: String, tokens: &[Chosen]) -> Option<Value> {
        let logprobs = self.logprobs(tokens);
        self.chars += text.chars().count();
        let Said { content, reasoning } = self.divide(text, tokens);
        if self.dialect == Dialect::Completions {
            return Some(
                json!({"index": index, "text": content, "logprobs": logprobs, "finish_reason": null}),
            );
        }
        let mut delta = Map::new();
        for (name, text) in [("reasoning_content", reasoning.unwrap_or_default()), ("content", content)] {
            if !text.is_empty() {
                delta.insert(name.to_owned(), text.into());
            }
        }
        let is_nothing = delta.is_empty() && logprobs.is_null();
        (!is_nothing)
            .then(|| json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": null}))
    }

    /// A stream's last word on the choice.
    pub(super) fn end(&self, index: usize, completion: &Completion, receipt: Option<Receipt>) -> Value {
        let logprobs =
            if completion.tokens.is_empty() { Value::Null } else { self.logprobs(&completion.tokens) };
        let mut choice = match self.dialect {
            Dialect::Chat => json!({"index": index, "delta": {}, "logprobs": logprobs}),
            Dialect::Completions => json!({"index": index, "text": "", "logprobs": logprobs}),
        };
        finish(&mut choice, completion, receipt);
        choice
    }

    /// All of it.
    pub(super) fn whole(
        &self,
        index: usize,
        said: &Said,
        tokens: &[Chosen],
        completion: &Completion,
        receipt: Option<Receipt>,
    ) -> Value {
        let logprobs = self.logprobs(tokens);
        let mut choice = match self.dialect {
            Dialect::Chat => json!({
                "index": index,
                "message": {"role": "assistant", "content": said.content, "refusal": null},
                "logprobs": logprobs
            }),
            Dialect::Completions => json!({"index": index, "text": said.content, "logprobs": logprobs}),
        };
        if let Some(reasoning) = &said.reasoning {
            choice["message"]["reasoning_content"] = json!(reasoning);
        }
        finish(&mut choice, completion, receipt);
        choice
    }

    fn logprobs(&self, tokens: &[Chosen]) -> Value {
        if !self.wants_logprobs {
            return Value::Null;
        }
        logprobs(self.dialect, self.worker.text.as_ref(), tokens, self.chars)
    }
}

/// Why it ended; in our own words too, as other servers have it; and the receipt.
fn finish(choice: &mut Value, completion: &Completion, receipt: Option<Receipt>) {
    let (reason, stop) = match &completion.stop_reason {
        StopReason::MaxTokens => ("length", None),
        StopReason::EndOfSequence => ("stop", None),
        StopReason::StopSequence(text) => ("stop", Some(text)),
    };
    choice["finish_reason"] = reason.into();
    choice["stop_reason"] = json!(stop);
    if let Some(receipt) = receipt {
        choice["receipt"] = json!(receipt);
    }
}
