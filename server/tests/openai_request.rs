//! OpenAI's API: what requests may say, and what the engine is asked then.

mod common;

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver};

use common::{CHAT, COMPLETIONS, KINDS, LIMITS, PATIENCE, Server, bytes, end, serve, take, with};
use runtime::request::{Request, Sampling};
use serde_json::{Value, json};
use server::Config;

/// A server whose engine ends every job at once and hands on what was asked for.
async fn listening(config: Config) -> (Server, Receiver<Request>) {
    let (tell, told) = mpsc::channel();
    let server = serve(config, move |queue| {
        while let Some(job) = take(&queue) {
            // Who is not interested any more has heard enough.
            let _ = tell.send(job.request.clone());
            end(&queue, job, 0);
        }
    })
    .await;
    (server, told)
}

/// What the engine is asked, without what differs from time to time.
async fn asked(server: &Server, told: &Receiver<Request>, path: &str, fields: &Value) -> Request {
    let answer = server.post(path, &with(path, fields)).await;
    assert_eq!(answer.status(), 200, "{path} {fields}: {}", answer.text().await.unwrap());
    answer.text().await.unwrap();
    let mut request = told.recv_timeout(PATIENCE).unwrap();
    let prefix = if path == COMPLETIONS { "cmpl-" } else { "chatcmpl-" };
    assert!(request.job_id.starts_with(prefix), "{}", request.job_id);
    assert_eq!(request.correlation_id.len(), 36);
    request.job_id.clear();
    request.correlation_id.clear();
    if fields["seed"].is_null() {
        assert!(request.sampling.seed < 1 << 53);
        request.sampling.seed = 0;
    }
    request
}

/// What is asked by who says no more than what is needed.
fn plain(path: &str) -> Request {
    let prompt = if path == COMPLETIONS { "pp" } else { "user: c\nassistant: " };
    let max_tokens = if path == COMPLETIONS { 16 } else { 2048 };
    Request {
        prompt: bytes(prompt),
        max_tokens: Some(max_tokens),
        sampling: Sampling { temperature: 1.0, ..Sampling::GREEDY },
        ..Request::default()
    }
}

/// Fields, and what they make of a request.
type Meaning = (Value, fn(&mut Request));

/// What both endpoints understand.
fn meanings() -> Vec<Meaning> {
    vec![
        (json!({}), |_| {}),
        (json!({"model": "tiny"}), |_| {}),
        (json!({"max_tokens": 7}), |request| request.max_tokens = Some(7)),
        (json!({"min_tokens": 3}), |request| request.min_tokens = 3),
        (json!({"ignore_eos": true}), |request| request.ignore_eos = true),
        (json!({"ignore_eos": false}), |_| {}),
        (json!({"temperature": 0}), |request| request.sampling.temperature = 0.0),
        (json!({"temperature": 2}), |request| request.sampling.temperature = 2.0),
        (json!({"top_p": 0.25}), |request| request.sampling.top_p = 0.25),
        (json!({"top_k": 5}), |request| request.sampling.top_k = 5),
        (json!({"top_k": 0}), |_| {}),
        (json!({"top_k": -1}), |_| {}),
        (json!({"min_p": 0.125}), |request| request.sampling.min_p = 0.125),
        (json!({"repetition_penalty": 1.5}), |request| request.sampling.repetition_penalty = 1.5),
        (json!({"repetition_penalty": 1e-9}), |request| request.sampling.repetition_penalty = 1e-6),
        (json!({"presence_penalty": -2}), |request| request.sampling.presence_penalty = -2.0),
        (json!({"frequency_penalty": 1.5}), |request| request.sampling.frequency_penalty = 1.5),
        (json!({"logit_bias": {"7": -100, "255": 1.5}}), |request| {
            request.sampling.logit_bias = vec![(7, -100.0), (255, 1.5)];
        }),
        (json!({"logit_bias": {}}), |_| {}),
        (json!({"seed": 11}), |request| request.sampling.seed = 11),
        (json!({"seed": u64::MAX}), |request| request.sampling.seed = u64::MAX),
        (json!({"seed": -1}), |request| request.sampling.seed = u64::MAX),
        (json!({"seed": i64::MIN}), |request| request.sampling.seed = 1 << 63),
        (json!({"stop": "x"}), |request| request.stop = vec!["x".to_owned()]),
        (json!({"stop": ["x", "yy"]}), |request| request.stop = vec!["x".to_owned(), "yy".to_owned()]),
        (json!({"stop": []}), |_| {}),
    ]
}

/// What is sent by habit and changes nothing.
fn habits() -> Value {
    json!({"n": 1, "best_of": 1, "stream": false, "stream_options": null, "user": "somebody", "safety_identifier": "s",
        "prompt_cache_key": "k", "stop_token_ids": [], "use_beam_search": false, "length_penalty": 1.0,
        "skip_special_tokens": true, "spaces_between_special_tokens": true, "include_stop_str_in_output": false,
        "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": null, "stop": null, "seed": null})
}

/// What is about the answer, or has no effect at all, and so changes no request.
const NOT_THE_ENGINES: [&str; 14] = [
    "best_of",
    "include_stop_str_in_output",
    "length_penalty",
    "model",
    "n",
    "prompt_cache_key",
    "safety_identifier",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stop_token_ids",
    "stream",
    "stream_options",
    "use_beam_search",
    "user",
];

/// Asserts that these fields, and those that change no request, are all that the document knows.
async fn nothing_else_is_documented(
    server: &Server,
    schema: &str,
    changing: BTreeSet<String>,
    others: &[&str],
) {
    let document: Value = server.get("/openapi.json").await.text().await.unwrap().parse().unwrap();
    let properties = document["components"]["schemas"][schema]["properties"].as_object().unwrap();
    let others: BTreeSet<String> =
        NOT_THE_ENGINES.iter().chain(others).map(|&name| name.to_owned()).collect();
    assert_eq!(changing.intersection(&others).count(), 0);
    let known: BTreeSet<String> = properties.keys().cloned().collect();
    assert_eq!(changing.union(&others).cloned().collect::<BTreeSet<_>>(), known);
}

#[tokio::test]
async fn every_field_of_a_completion_reaches_the_engine() {
    let (server, told) = listening(Config::default()).await;
    let mut meanings = meanings();
    meanings.extend::<Vec<Meaning>>(vec![
        (json!({"prompt": "é"}), |request| request.prompt = vec![0xc3, 0xa9]),
        (json!({"prompt": ["one"]}), |request| request.prompt = bytes("one")),
        (json!({"prompt": [1, 255]}), |request| request.prompt = vec![1, 255]),
        (json!({"prompt": [[0, 2]]}), |request| request.prompt = vec![0, 2]),
        (json!({"logprobs": 0}), |request| request.logprobs = Some(0)),
        (json!({"logprobs": 20}), |request| request.logprobs = Some(20)),
        (json!({"echo": true}), |_| {}),
        // More than there would be.
        (json!({"min_tokens": 17}), |request| (request.min_tokens, request.max_tokens) = (17, Some(17))),
        (habits(), |_| {}),
        (json!({"suffix": ""}), |_| {}),
        (json!({"suffix": null, "logprobs": null, "max_tokens": null}), |_| {}),
    ]);
    let mut changing = BTreeSet::new();
    for (fields, meaning) in meanings {
        let mut expected = plain(COMPLETIONS);
        meaning(&mut expected);
        assert_eq!(asked(&server, &told, COMPLETIONS, &fields).await, expected, "{fields}");
        if expected != plain(COMPLETIONS) {
            changing.extend(fields.as_object().unwrap().keys().cloned());
        }
    }
    nothing_else_is_documented(&server, "CompletionRequest", changing, &["echo", "suffix"]).await;
}

/// A function as a request names it.
fn tool() -> Value {
    json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": true}})
}

/// The prompt that is told of it.
fn with_tools() -> Vec<u32> {
    bytes(&format!("tools: [{}]\nuser: c\nassistant: ", tool()))
}

#[tokio::test]
async fn every_field_of_a_chat_reaches_the_engine() {
    let (server, told) = listening(Config::default()).await;
    let mut meanings = meanings();
    meanings.extend::<Vec<Meaning>>(vec![
        (json!({"max_completion_tokens": 9}), |request| request.max_tokens = Some(9)),
        (json!({"max_completion_tokens": 9, "max_tokens": 9}), |request| request.max_tokens = Some(9)),
        (json!({"logprobs": false}), |_| {}),
        (json!({"logprobs": true}), |request| request.logprobs = Some(0)),
        (json!({"logprobs": true, "top_logprobs": 20}), |request| request.logprobs = Some(20)),
        (json!({"add_generation_prompt": false}), |request| request.prompt = bytes("user: c\n")),
        (
            json!({"messages": [
                {"role": "system", "content": "s"},
                {"role": "developer", "content": [{"type": "text", "text": "d"}, {"type": "text", "text": "e"}]},
                {"role": "user", "content": "", "name": "n"},
                // As a client sends an answer back.
                {"role": "assistant", "content": "a", "refusal": null, "annotations": [], "tool_calls": null,
                    "reasoning_content": null},
            ]}),
            |request| request.prompt = bytes("system: s\ndeveloper: d\ne\nuser: \nassistant: a\nassistant: "),
        ),
        (habits(), |_| {}),
        (
            json!({"store": false, "metadata": {"a": "b"}, "tools": [], "functions": [], "tool_choice": "auto",
                "function_call": "none", "parallel_tool_calls": true, "response_format": {"type": "text"},
                "modalities": ["text"], "service_tier": "auto"}),
            |_| {},
        ),
        (json!({"tools": null, "tool_choice": "none", "service_tier": "default"}), |_| {}),
        (
            json!({"messages": [
                {"role": "user", "content": "u", "reasoning_content": "r"},
                {"role": "assistant", "content": null, "thinking": "t", "reasoning": ""},
            ]}),
            |request| {
                let told = "user reasoning_content: r\nuser: u\nassistant thinking: t\nassistant reasoning: \nassistant: \n";
                request.prompt = bytes(&format!("{told}assistant: "));
            },
        ),
        (json!({"tools": [tool()]}), |request| request.prompt = with_tools()),
        (json!({"tools": [tool()], "tool_choice": "auto"}), |request| request.prompt = with_tools()),
        (json!({"tools": [tool()], "tool_choice": "none"}), |_| {}),
    ]);
    let mut changing = BTreeSet::new();
    for (fields, meaning) in meanings {
        let mut expected = plain(CHAT);
        meaning(&mut expected);
        assert_eq!(asked(&server, &told, CHAT, &fields).await, expected, "{fields}");
        if expected != plain(CHAT) {
            changing.extend(fields.as_object().unwrap().keys().cloned());
        }
    }
    nothing_else_is_documented(
        &server,
        "ChatRequest",
        changing,
        &[
            "function_call",
            "functions",
            "metadata",
            "modalities",
            "parallel_tool_calls",
            "response_format",
            "service_tier",
            "store",
        ],
    )
    .await;
    // What the context leaves, where that is less than a request may ask for.
    let long = "x".repeat(LIMITS.context - 100 - plain(CHAT).prompt.len() + 1);
    let fields = json!({"messages": [{"role": "user", "content": long}]});
    assert_eq!(asked(&server, &told, CHAT, &fields).await.max_tokens, Some(100));
}

#[tokio::test]
async fn no_default_is_more_than_the_server_allows() {
    let (server, told) = listening(Config { max_tokens: 8, ..Config::default() }).await;
    for path in KINDS {
        assert_eq!(asked(&server, &told, path, &json!({})).await.max_tokens, Some(8), "{path}");
    }
}

#[tokio::test]
async fn the_engine_hears_whose_key_it_is() {
    let keys = vec!["first".to_owned(), "second".to_owned()];
    let (server, told) = listening(Config { api_keys: keys, ..Config::default() }).await;
    for path in KINDS.into_iter().chain(["/execute"]) {
        let body =
            if path == "/execute" { json!({"job_id": "a", "prompt": "p"}) } else { with(path, &json!({})) };
        for (key, client) in [("first", 1), ("second", 2)] {
            let request = server.client.post(server.url(path)).bearer_auth(key).body(body.to_string());
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.text().await.unwrap();
            assert_eq!(told.recv_timeout(PATIENCE).unwrap().client, client);
        }
    }
}
