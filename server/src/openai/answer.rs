use std::future::poll_fn;

use runtime::receipt::Receipt;
use runtime::request::{Chosen, Completion, Event};
use serde_json::{Value, json};

use super::Head;
use super::choice::Choice;
use super::harmony::Said;
use super::jobs::Jobs;
use crate::error::ApiError;

/// A whole answer.
pub(super) struct Answer {
    parts: Vec<Part>,
}

/// A choice and what came of it.
struct Part {
    choice: Choice,
    said: Said,
    tokens: Vec<Chosen>,
    end: Option<(Completion, Option<Receipt>)>,
}

impl Answer {
    /// Waits for the end of every choice. The first that fails cancels the others.
    pub(super) async fn read(mut jobs: Jobs, choices: Vec<Choice>) -> Result<Self, ApiError> {
        let part = |mut choice: Choice| {
            let said = Said { content: choice.take_echo(), reasoning: None };
            Part { choice, said, tokens: Vec::new(), end: None }
        };
        let mut parts: Vec<Part> = choices.into_iter().map(part).collect();
        while let Some((i, event, receipt)) = poll_fn(|context| jobs.poll_event(context)).await {
            let part = &mut parts[i];
            match event {
                Event::Started => {}
                Event::Token { text, tokens, .. } => {
                    let Said { content, reasoning } = part.choice.divide(text, &tokens);
                    part.said.content += &content;
                    if let Some(reasoning) = reasoning {
                        part.said.reasoning.get_or_insert_default().push_str(&reasoning);
                    }
                    part.tokens.extend(tokens);
                }
                Event::End(mut completion) => {
                    part.tokens.append(&mut completion.tokens);
                    part.end = Some((completion, receipt));
                }
                Event::Error(cause) => return Err(ApiError::Job(cause)),
            }
        }
        Ok(Self { parts })
    }

    pub(super) fn body(self, head: &Head, n: u32) -> Value {
        let mut usage = Usage::new(n);
        let mut choices = Vec::with_capacity(self.parts.len());
        for (i, Part { choice, said, tokens, end }) in self.parts.into_iter().enumerate() {
            let Some((completion, receipt)) = end else { continue };
            usage.add(i, &completion);
            choices.push(choice.whole(i, &said, &tokens, &completion, receipt));
        }
        let mut body = head.fields(false);
        body["choices"] = choices.into();
        body["usage"] = usage.body();
        body
    }
}

/// Tokens of an answer: each prompt's once, and those of all its choices.
pub(super) struct Usage {
    /// Choices for a prompt.
    n: usize,
    prompt: u64,
    completion: u64,
}

impl Usage {
    pub(super) fn new(n: u32) -> Self {
        Self { n: n as usize, prompt: 0, completion: 0 }
    }

    pub(super) fn add(&mut self, index: usize, completion: &Completion) {
        if index.is_multiple_of(self.n) {
            self.prompt += u64::from(completion.tokens_in);
        }
        self.completion += u64::from(completion.tokens_out);
    }

    pub(super) fn body(&self) -> Value {
        let Self { prompt, completion, .. } = self;
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
    }
}

impl Head {
    /// The fields before the choices.
    pub(super) fn fields(&self, is_chunk: bool) -> Value {
        let info = &self.worker.info;
        let fingerprint = format!("{}-{:.12}", info.numerics, self.worker.ptx_sha256);
        json!({
            "id": self.id,
            "object": self.dialect.object(is_chunk),
            "created": self.created,
            "model": info.name,
            "system_fingerprint": fingerprint,
        })
    }
}
