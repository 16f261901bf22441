//! What goes into a request and what its events say, for each endpoint.

use serde_json::{Map, Value, json};

use super::args::Endpoint;
use super::sse::Event;
use super::workload::Work;

/// What all requests of a run share.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) endpoint: Endpoint,
    pub(super) model: Option<String>,
    /// Requests have a seed.
    pub(super) seeded: bool,
    pub(super) ignore_eos: bool,
}

impl Terms {
    /// A request's body.
    pub(super) fn body(&self, work: &Work) -> Value {
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
        match self.endpoint {
            Endpoint::Execute => {
                put("job_id", json!(format!("bench-{}", uuid::Uuid::new_v4())));
                put("prompt", json!(work.prompt.text()));
            }
            Endpoint::Completions => put("prompt", json!(work.prompt.text())),
            Endpoint::Chat => put("messages", work.prompt.messages()),
        }
        put("max_tokens", json!(work.max_tokens));
        if self.endpoint != Endpoint::Execute {
            put("model", json!(self.model));
            put("stream", json!(true));
            put("stream_options", json!({"include_usage": true}));
        }
        if let Some(temperature) = work.temperature {
            put("temperature", json!(temperature));
        }
        if self.seeded {
            put("seed", json!(work.seed));
        }
        if self.ignore_eos {
            put("ignore_eos", json!(true));
        }
        Value::Object(body)
    }
}

/// All that a stream told.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) text: String,
    /// Of the tokens; empty where the server does not tell them.
    pub(super) ids: Vec<u64>,
    /// The hash of the tokens' ids by the receipt, where there is one.
    pub(super) hash: Option<String>,
    /// Why the completion ended.
    pub(super) finish: Option<String>,
    /// Tokens of the prompt, by the server's count.
    pub(super) tokens_in: Option<u64>,
    /// Tokens generated, by the server's count.
    pub(super) tokens_out: Option<u64>,
    /// Events with text.
    pub(super) chunks: u64,
    /// The stream has had its last event.
    pub(super) over: bool,
}

/// Why a stream is no answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Trouble {
    /// The server told an error: its code, and its words.
    Told(String, String),
    /// An event is not understood; what it lacks.
    NotUnderstood(&'static str),
}

impl Answer {
    /// Adds what an event says, and whether it had text.
    pub(super) fn take(&mut self, endpoint: Endpoint, event: &Event) -> Result<bool, Trouble> {
        let before = self.chunks;
        if endpoint != Endpoint::Execute && event.data.trim() == "[DONE]" {
            self.over = true;
            return Ok(false);
        }
        let data: Value =
            serde_json::from_str(&event.data).map_err(|_| Trouble::NotUnderstood("an event is no JSON"))?;
        if !data.is_object() {
            return Err(Trouble::NotUnderstood("an event is no JSON object"));
        }
        match endpoint {
            Endpoint::Execute => self.take_execute(&event.name, &data)?,
            _ => self.take_openai(&data)?,
        }
        Ok(self.chunks > before)
    }

    fn take_execute(&mut self, name: &str, data: &Value) -> Result<(), Trouble> {
        match name {
            "token" => {
                self.add_text(data["t"].as_str().ok_or(Trouble::NotUnderstood("a token has no text"))?);
                self.add_ids(data);
            }
            "end" => {
                self.tokens_in = data["tokens_in"].as_u64();
                self.tokens_out = data["tokens_out"].as_u64();
                self.finish = data["stop_reason"].as_str().map(str::to_owned);
                self.add_ids(data);
                self.add_receipt(data);
                self.over = true;
            }
            "error" => return Err(told(data)),
            // What there may be beside: started, metrics.
            _ => {}
        }
        Ok(())
    }

    fn take_openai(&mut self, data: &Value) -> Result<(), Trouble> {
        if data.get("error").is_some_and(|error| !error.is_null()) {
            return Err(told(data));
        }
        if let Some(usage) = data.get("usage").filter(|usage| usage.is_object()) {
            self.tokens_in = usage["prompt_tokens"].as_u64().or(self.tokens_in);
            self.tokens_out = usage["completion_tokens"].as_u64().or(self.tokens_out);
        }
        self.add_receipt(data);
        // The event that has the usage has no choice.
        if let Some(choice) = data["choices"].get(0) {
            let delta = &choice["delta"];
            // Reasoning has two names, and some servers send it under both.
            let reasoning = [&delta["reasoning_content"], &delta["reasoning"]];
            let reasoning = reasoning.into_iter().find_map(Value::as_str).unwrap_or_default();
            let part = |part: &Value| part.as_str().unwrap_or_default().to_owned();
            self.add_text(&(part(&choice["text"]) + reasoning + &part(&delta["content"])));
            self.add_ids(choice);
            self.add_receipt(choice);
            if let Some(finish) = choice["finish_reason"].as_str() {
                self.finish = Some(finish.to_owned());
            }
        }
        Ok(())
    }

    fn add_text(&mut self, text: &str) {
        self.text += text;
        self.chunks += u64::from(!text.is_empty());
    }

    fn add_ids(&mut self, data: &Value) {
        self.ids.extend(data["token_ids"].as_array().into_iter().flatten().filter_map(Value::as_u64));
    }

    fn add_receipt(&mut self, data: &Value) {
        if let Some(hash) = data["receipt"]["output"]["blake3"].as_str() {
            self.hash = Some(hash.to_owned());
        }
    }

    /// Whether the stream may end here: it had its last event, or the completion has an end at least.
    pub(super) fn is_whole(&self) -> bool {
        self.over || self.finish.is_some()
    }

    /// Tokens generated, as well as they are known.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens_out.unwrap_or(self.chunks)
    }
}

/// The error in an event or in a body: code and words, as OpenAI's API has them, or as this worker.
pub(super) fn told(data: &Value) -> Trouble {
    let error = data.get("error").filter(|error| !error.is_null()).unwrap_or(data);
    let code = |name: &str| match &error[name] {
        Value::String(code) => Some(code.clone()),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    };
    // All faults of a request at once: the fields that have them.
    let fields = || {
        let faults = error["errors"].as_array()?;
        Some(faults.iter().filter_map(|fault| fault["field"].as_str()).collect::<Vec<_>>().join(", "))
    };
    let message = error["message"].as_str().or(error.as_str()).map(str::to_owned).or_else(fields);
    let code = code("code").or_else(|| code("type")).unwrap_or_default();
    Trouble::Told(code, message.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::serve::dataset::Prompt;

    fn terms(endpoint: Endpoint) -> Terms {
        Terms { endpoint, model: Some("m".to_owned()), seeded: false, ignore_eos: false }
    }

    fn work() -> Work {
        Work {
            prompt: Prompt::Text("Once".to_owned()),
            max_tokens: 5,
            temperature: None,
            seed: 9,
            cancel_after: None,
        }
    }

    fn answer(endpoint: Endpoint, events: &[(&str, &str)]) -> Result<Answer, Trouble> {
        let mut answer = Answer::default();
        for &(name, data) in events {
            answer.take(endpoint, &Event { name: name.to_owned(), data: data.to_owned() })?;
        }
        Ok(answer)
    }

    #[test]
    fn a_request_has_what_was_asked_for_and_nothing_that_others_refuse() {
        assert_eq!(
            terms(Endpoint::Completions).body(&work()),
            json!({"prompt": "Once", "max_tokens": 5, "model": "m", "stream": true,
                "stream_options": {"include_usage": true}})
        );
        let all = Terms { seeded: true, ignore_eos: true, ..terms(Endpoint::Chat) };
        assert_eq!(
            all.body(&Work { temperature: Some(0.5), ..work() }),
            json!({"messages": [{"role": "user", "content": "Once"}], "max_tokens": 5, "model": "m",
                "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.5, "seed": 9,
                "ignore_eos": true})
        );
        let (one, other) = (terms(Endpoint::Execute).body(&work()), terms(Endpoint::Execute).body(&work()));
        assert_ne!(one["job_id"], other["job_id"]);
        let names: Vec<&String> = one.as_object().unwrap().keys().collect();
        assert_eq!(names, ["job_id", "prompt", "max_tokens"]);
    }

    #[test]
    fn a_completions_stream_is_read() {
        let got = answer(
            Endpoint::Completions,
            &[
                ("", r#"{"choices": [{"text": "a", "index": 0, "token_ids": [4, 5], "finish_reason": null}], "usage": null}"#),
                ("", r#"{"choices": [{"text": ""}]}"#),
                ("", r#"{"choices": [{"text": "b", "token_ids": [6], "finish_reason": "length",
                    "receipt": {"output": {"blake3": "00ff"}}}]}"#),
                ("", r#"{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}"#),
                ("", "[DONE]"),
            ],
        )
        .unwrap();
        let expected = Answer {
            text: "ab".to_owned(),
            ids: vec![4, 5, 6],
            hash: Some("00ff".to_owned()),
            finish: Some("length".to_owned()),
            tokens_in: Some(3),
            tokens_out: Some(4),
            chunks: 2,
            over: true,
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn a_chat_stream_is_read_and_its_first_role_is_no_text() {
        let got = answer(
            Endpoint::Chat,
            &[
                ("", r#"{"choices": [{"delta": {"role": "assistant", "content": ""}}]}"#),
                ("", r#"{"choices": [{"delta": {"reasoning_content": "hm ", "reasoning": "hm "}}]}"#),
                ("", r#"{"choices": [{"delta": {"content": "so"}}]}"#),
                ("", r#"{"choices": [{"delta": {}, "finish_reason": "stop"}]}"#),
            ],
        )
        .unwrap();
        assert_eq!((got.text.as_str(), got.chunks, got.tokens()), ("hm so", 2, 2));
        assert!(got.is_whole() && !got.over);
    }

    #[test]
    fn a_stream_of_the_workers_own_is_read() {
        let events = [
            ("started", r#"{"job_id": "1", "seed": 1}"#),
            ("token", r#"{"t": ",", "i": 0}"#),
            ("metrics", "{}"),
            (
                "end",
                r#"{"tokens_out": 7, "tokens_in": 4, "stop_reason": "eos", "receipt": {"output": {"blake3": "12"}}}"#,
            ),
        ];
        let got = answer(Endpoint::Execute, &events).unwrap();
        assert_eq!((got.text.as_str(), got.tokens(), got.tokens_in), (",", 7, Some(4)));
        assert_eq!((got.hash.as_deref(), got.finish.as_deref(), got.over), (Some("12"), Some("eos"), true));
        assert!(!answer(Endpoint::Execute, &events[..3]).unwrap().is_whole());
    }

    #[test]
    fn errors_are_told_by_their_code() {
        let told = |code: &str, message: &str| Err(Trouble::Told(code.to_owned(), message.to_owned()));
        let event = r#"{"error": {"message": "late", "type": "server_error", "code": null}}"#;
        assert_eq!(answer(Endpoint::Chat, &[("", event)]), told("server_error", "late"));
        let event = r#"{"error": {"message": "full", "code": 429}}"#;
        assert_eq!(answer(Endpoint::Completions, &[("", event)]), told("429", "full"));
        let event = r#"{"code": "CANCELLED", "message": "gone", "retriable": false}"#;
        assert_eq!(answer(Endpoint::Execute, &[("error", event)]), told("CANCELLED", "gone"));
        let body = json!({"errors": [{"field": "a", "message": "x"}, {"field": "b"}]});
        assert_eq!(Err::<(), _>(super::told(&body)), Err(Trouble::Told(String::new(), "a, b".to_owned())));
        for data in ["{", "7", "null", "[DONE", ""] {
            let got = answer(Endpoint::Chat, &[("", data)]);
            assert!(matches!(got, Err(Trouble::NotUnderstood(_))), "{data}: {got:?}");
        }
        let got = answer(Endpoint::Execute, &[("token", "{}")]);
        assert!(matches!(got, Err(Trouble::NotUnderstood(_))), "{got:?}");
    }
}
