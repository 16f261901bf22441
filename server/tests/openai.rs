//! OpenAI's API over a scripted engine, whose token is a byte.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{Events, LIMITS, PATIENCE, Server, begin, bytes, completion, echo, loading, serve, take};
use runtime::engine::{Job, JobQueue, Next};
use runtime::receipt::Digest;
use runtime::request::{Chosen, Event, JobError, Request, StopReason};
use serde_json::{Value, json};
use server::{Config, ModelHash, Worker};
use tokio::sync::watch;
use tokio::time::timeout;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

fn chosen(id: u8, logprob: Option<f32>) -> Chosen {
    let top = logprob.map_or(vec![], |logprob| vec![(id.into(), logprob), (b'z'.into(), -4.0)]);
    Chosen { id: id.into(), logprob, top }
}

fn say(job: &mut Job, index: u32, text: &str, tokens: Vec<Chosen>) {
    job.sink.send(Event::Token { index, text: text.to_owned(), tokens }).unwrap();
}

fn finish(queue: &JobQueue, mut job: Job, tokens: Vec<Chosen>, tokens_out: u32, reason: StopReason) {
    queue.finished(&job.request.job_id);
    let tokens_in = job.request.prompt.len() as u32;
    let mut completion = completion(tokens_in, tokens_out, Duration::ZERO, reason);
    completion.tokens = tokens;
    // The reader may be gone.
    let _ = job.sink.send(Event::End(completion));
}

/// Every job says "hi", byte by byte, with log-probabilities if they are asked for, and ends as its prompt's length says.
fn hi(queue: JobQueue) {
    while let Some(mut job) = take(&queue) {
        job.sink.send(Event::Started).unwrap();
        let logprob = job.request.logprobs.map(|_| -0.5);
        say(&mut job, 0, "h", vec![chosen(b'h', logprob)]);
        say(&mut job, 1, "i", vec![chosen(b'i', logprob)]);
        let reason = match job.request.prompt.len() {
            1 => StopReason::MaxTokens,
            2 => StopReason::StopSequence("END".to_owned()),
            _ => StopReason::EndOfSequence,
        };
        finish(&queue, job, vec![chosen(0xc3, logprob)], 3, reason);
    }
}

/// The answer's status and body, without what differs from run to run.
async fn ask(server: &Server, path: &str, body: Value) -> (u16, Value) {
    let answer = server.post(path, &body).await;
    let status = answer.status().as_u16();
    let mut body: Value = answer.text().await.unwrap().parse().unwrap();
    for name in ["id", "created"] {
        if let Some(body) = body.as_object_mut() {
            body.shift_remove(name);
        }
    }
    (status, body)
}

/// The chunks of a stream, without what they have in common; the last is what is no JSON.
async fn chunks(server: &Server, path: &str, body: Value) -> Vec<Value> {
    let answer = server.post(path, &body).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let mut events = Events::of(answer);
    let mut chunks = Vec::new();
    while let Some(block) = events.block().await {
        let data = block.strip_prefix("data: ").unwrap();
        chunks.push(match data.parse::<Value>() {
            Ok(mut chunk) => {
                for name in ["id", "created", "model", "system_fingerprint", "object"] {
                    chunk.as_object_mut().unwrap().shift_remove(name);
                }
                chunk
            }
            Err(_) => json!(data),
        });
    }
    chunks
}

fn user(content: &str) -> Value {
    json!([{"role": "user", "content": content}])
}

#[tokio::test]
async fn a_whole_chat() {
    let server = serve(Config::default(), hi).await;
    let (status, body) = ask(&server, CHAT, json!({"model": "tiny", "messages": user("a")})).await;
    let expected = json!({
        "object": "chat.completion", "model": "tiny", "system_fingerprint": "f32-00ff",
        "choices": [{
            "index": 0, "message": {"role": "assistant", "content": "hi", "refusal": null}, "logprobs": null,
            "finish_reason": "stop", "stop_reason": null
        }],
        // user: a, and the beginning of an answer.
        "usage": {"prompt_tokens": 19, "completion_tokens": 3, "total_tokens": 22}
    });
    assert_eq!((status, body), (200, expected));
}

#[tokio::test]
async fn a_whole_completion_of_several_prompts_and_choices() {
    let server = serve(Config::default(), hi).await;
    let body = json!({"prompt": ["a", [98, 99], "def"], "n": 2, "echo": true});
    let (status, body) = ask(&server, COMPLETIONS, body).await;
    let choice = |index: usize, text: &str, reason: &str, stop: Value| json!({"index": index, "text": text, "logprobs": null, "finish_reason": reason, "stop_reason": stop});
    let expected: Vec<Value> =
        [("ahi", "length", json!(null)), ("bchi", "stop", json!("END")), ("defhi", "stop", json!(null))]
            .into_iter()
            .enumerate()
            .flat_map(|(i, (text, reason, stop))| {
                [0, 1].map(|n| choice(2 * i + n, text, reason, stop.clone()))
            })
            .collect();
    assert_eq!((status, &body["choices"]), (200, &json!(expected)));
    // Each prompt once, and all choices.
    assert_eq!(body["usage"], json!({"prompt_tokens": 6, "completion_tokens": 18, "total_tokens": 24}));
}

#[tokio::test]
async fn the_chunks_of_a_chat() {
    let server = serve(Config::default(), hi).await;
    let body = json!({"messages": user("a"), "stream": true, "stream_options": {"include_usage": true}});
    let chunk = |delta: Value| json!({"choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}], "usage": null});
    let end = json!({
        "choices": [{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop", "stop_reason": null}],
        "usage": null
    });
    let usage =
        json!({"choices": [], "usage": {"prompt_tokens": 19, "completion_tokens": 3, "total_tokens": 22}});
    let expected = [
        chunk(json!({"role": "assistant", "content": ""})),
        chunk(json!({"content": "h"})),
        chunk(json!({"content": "i"})),
        end,
        usage,
        json!("[DONE]"),
    ];
    assert_eq!(chunks(&server, CHAT, body).await, expected);
}

#[tokio::test]
async fn the_bytes_of_a_completions_chunk() {
    let server = serve(Config::default(), hi).await;
    let mut events =
        Events::of(server.post(COMPLETIONS, &json!({"prompt": "a", "stream": true, "echo": true})).await);
    let block = events.block().await.unwrap();
    let (start, rest) = block.split_once("\"created\":").unwrap();
    let (_, rest) = rest.split_once(',').unwrap();
    assert!(
        start.starts_with(r#"data: {"id":"cmpl-"#) && start.ends_with(r#"","object":"text_completion","#),
        "{start}"
    );
    let expected = concat!(
        r#""model":"tiny","system_fingerprint":"f32-00ff","#,
        r#""choices":[{"index":0,"text":"a","logprobs":null,"finish_reason":null}]}"#
    );
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn log_probabilities_in_both_dialects_streamed_and_whole() {
    let server = serve(Config::default(), hi).await;
    // The last token is a part of a character, and came without text.
    let expected = json!({
        "tokens": ["h", "i", "bytes:\\xc3"], "token_logprobs": [-0.5, -0.5, -0.5],
        "top_logprobs": [{"h": -0.5, "z": -4.0}, {"i": -0.5, "z": -4.0}, {"bytes:\\xc3": -0.5, "z": -4.0}],
        "text_offset": [0, 1, 2]
    });
    let body = json!({"prompt": "abc", "logprobs": 2});
    assert_eq!(ask(&server, COMPLETIONS, body).await.1["choices"][0]["logprobs"], expected);

    let body = json!({"messages": user("a"), "logprobs": true, "top_logprobs": 2});
    let (_, whole) = ask(&server, CHAT, body.clone()).await;
    let content = whole["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let top =
        |token: &str, bytes: Value, logprob: f64| json!({"token": token, "logprob": logprob, "bytes": bytes});
    let mut first = top("h", json!([104]), -0.5);
    first["top_logprobs"] = json!([top("h", json!([104]), -0.5), top("z", json!([122]), -4.0)]);
    assert_eq!(content[0], first);
    assert_eq!((&content[2]["token"], &content[2]["bytes"]), (&json!("\u{fffd}"), &json!([0xc3])));
    assert_eq!(content.len(), 3);

    let mut body = body;
    body["stream"] = json!(true);
    let streamed: Vec<Value> = chunks(&server, CHAT, body)
        .await
        .iter()
        .flat_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default())
        .collect();
    assert_eq!(streamed, content);
}

#[tokio::test]
async fn an_error_ends_a_stream_without_done() {
    let server = serve(Config::default(), |queue| {
        let mut job = begin(&queue);
        say(&mut job, 0, "h", vec![chosen(b'h', None)]);
        common::fail(&queue, job, JobError::Timeout(Duration::from_secs(3)));
        let job = begin(&queue);
        common::fail(&queue, job, JobError::Timeout(Duration::from_secs(3)));
    })
    .await;
    let body = json!({"prompt": "a", "stream": true});
    let told = chunks(&server, COMPLETIONS, body).await;
    let error = json!({"error": {
        "message": "the job ran longer than 3 s", "type": "server_error", "param": null, "code": "inference_timeout"
    }});
    assert_eq!((told.len(), &told[1]), (2, &error));
    assert_eq!(ask(&server, COMPLETIONS, json!({"prompt": "a"})).await, (504, error));
}

/// The request that a body becomes.
async fn becomes(path: &str, body: Value) -> Request {
    let (tell, told) = mpsc::channel();
    let server = serve(Config::default(), move |queue| {
        let job = begin(&queue);
        tell.send(job.request.clone()).unwrap();
        finish(&queue, job, vec![], 0, StopReason::EndOfSequence);
    })
    .await;
    let (status, answer) = ask(&server, path, body).await;
    assert_eq!(status, 200, "{answer}");
    let mut request = told.recv_timeout(PATIENCE).unwrap();
    request.job_id.clear();
    request.correlation_id.clear();
    request
}

/// A field, its value, and what it changes.
type Case = (&'static str, Value, fn(&mut Request));

#[tokio::test]
async fn each_parameter_reaches_the_engine() {
    let plain = becomes(COMPLETIONS, json!({"prompt": "a", "seed": 5})).await;
    assert_eq!((plain.max_tokens, plain.sampling.temperature, plain.sampling.seed), (Some(16), 1.0, 5));
    let set: [Case; 15] = [
        ("temperature", json!(0.5), |r| r.sampling.temperature = 0.5),
        ("top_p", json!(0.5), |r| r.sampling.top_p = 0.5),
        ("top_k", json!(7), |r| r.sampling.top_k = 7),
        ("top_k", json!(-1), |r| r.sampling.top_k = 0),
        ("min_p", json!(0.25), |r| r.sampling.min_p = 0.25),
        ("repetition_penalty", json!(1.5), |r| r.sampling.repetition_penalty = 1.5),
        ("presence_penalty", json!(-1.5), |r| r.sampling.presence_penalty = -1.5),
        ("frequency_penalty", json!(2), |r| r.sampling.frequency_penalty = 2.0),
        ("logit_bias", json!({"7": -100, "0": 2.5}), |r| r.sampling.logit_bias = vec![(7, -100.0), (0, 2.5)]),
        ("seed", json!(-1), |r| r.sampling.seed = u64::MAX),
        ("max_tokens", json!(3), |r| r.max_tokens = Some(3)),
        ("min_tokens", json!(20), |r| (r.min_tokens, r.max_tokens) = (20, Some(20))),
        ("ignore_eos", json!(true), |r| r.ignore_eos = true),
        ("stop", json!("x"), |r| r.stop = vec!["x".to_owned()]),
        ("logprobs", json!(3), |r| r.logprobs = Some(3)),
    ];
    for (name, value, change) in set {
        let mut body = json!({"prompt": "a", "seed": 5});
        body[name] = value;
        let mut expected = plain.clone();
        change(&mut expected);
        assert_eq!(becomes(COMPLETIONS, body).await, expected, "{name}");
    }
    let room = LIMITS.context as u32 - 19;
    let most = room.min(Config::default().max_tokens);
    let chat = |more: Value| {
        let mut body = json!({"messages": user("a"), "seed": 5});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        becomes(CHAT, body)
    };
    let plain = chat(json!({})).await;
    assert_eq!((plain.prompt.len(), plain.max_tokens, plain.logprobs), (19, Some(most), None));
    assert_eq!(chat(json!({"max_completion_tokens": 4})).await.max_tokens, Some(4));
    assert_eq!(chat(json!({"max_tokens": 4})).await.max_tokens, Some(4));
    assert_eq!(chat(json!({"logprobs": true})).await.logprobs, Some(0));
    assert_eq!(chat(json!({"logprobs": true, "top_logprobs": 9})).await.logprobs, Some(9));
    assert_eq!(chat(json!({"add_generation_prompt": false})).await.prompt.len(), 8);
    // What is there by habit changes nothing.
    let habits = json!({"user": "u", "n": 1, "stream": false, "tools": [], "tool_choice": "auto", "store": false,
        "response_format": {"type": "text"}, "metadata": {"a": "b"}, "parallel_tool_calls": true, "logit_bias": null,
        "service_tier": "auto", "modalities": ["text"]});
    assert_eq!(chat(habits).await, plain);
}

#[tokio::test]
async fn choices_have_seeds_of_their_own() {
    let (tell, told) = mpsc::channel();
    let server = serve(Config::default(), move |queue| {
        while let Some(job) = take(&queue) {
            tell.send((job.request.sampling.seed, job.request.job_id.clone())).unwrap();
            finish(&queue, job, vec![], 0, StopReason::EndOfSequence);
        }
    })
    .await;
    let body = json!({"prompt": "a", "n": 2, "seed": u64::MAX});
    assert_eq!(ask(&server, COMPLETIONS, body).await.0, 200);
    let (first, second) = (told.recv().unwrap(), told.recv().unwrap());
    assert_eq!((first.0, second.0), (u64::MAX, 0));
    assert_ne!(first.1, second.1);
}

#[tokio::test]
async fn what_is_not_supported_is_told_by_name() {
    let server = serve(Config::default(), echo).await;
    let chat = |name: &str, value: Value| {
        let mut body = json!({"messages": user("a")});
        body[name] = value;
        (CHAT, name.to_owned(), body)
    };
    let completions = |name: &str, value: Value| {
        let mut body = json!({"prompt": "a"});
        body[name] = value;
        (COMPLETIONS, name.to_owned(), body)
    };
    let mut cases = vec![
        chat("tools", json!([{"type": "function"}])),
        chat("tool_choice", json!("required")),
        chat("response_format", json!({"type": "json_object"})),
        chat("modalities", json!(["text", "audio"])),
        chat("store", json!(true)),
        chat("reasoning_effort", json!("low")),
        chat("top_logprobs", json!(2)),
        chat("messages", json!([])),
        chat("n", json!(17)),
        completions("suffix", json!("x")),
        completions("best_of", json!(2)),
        completions("logprobs", json!(21)),
        completions("max_tokens", json!(0)),
        completions("temperature", json!(2.5)),
        completions("top_k", json!(-2)),
        completions("presence_penalty", json!(2.5)),
        completions("stream_options", json!({"include_usage": true})),
        completions("stop", json!(["a", "b", "c", "d", "e"])),
        completions("prompt", json!("")),
        completions("prompt", json!([])),
        completions("colour", json!(null)),
    ];
    let path = |(at, _, body), name: &str| (at, name.to_owned(), body);
    cases.push(path(
        chat("messages", json!([{"role": "user", "content": [{"type": "image_url"}]}])),
        "messages[0].content[0]",
    ));
    cases.push(path(chat("messages", json!([{"role": "tool", "content": "a"}])), "messages"));
    cases.push(path(completions("prompt", json!([[1, 256]])), "prompt[1]"));
    cases.push(path(completions("prompt", json!(["a", []])), "prompt[1]"));
    cases.push(path(completions("logit_bias", json!({"256": 1})), "logit_bias[0]"));
    cases.push(path(completions("logit_bias", json!({"1": 101})), "logit_bias[0]"));
    for (at, name, body) in cases {
        let (status, answer) = ask(&server, at, body.clone()).await;
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(name)), "{body}: {answer}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(&name) || name == "messages", "{message}");
    }
    // All at once.
    let body = json!({"prompt": "a", "echo": true, "logprobs": 1, "n": 0, "min_p": 3, "x": 1});
    let (_, answer) = ask(&server, COMPLETIONS, body).await;
    let fields: Vec<&str> =
        answer["errors"].as_array().unwrap().iter().map(|fault| fault["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["n", "min_p", "echo", "x"]);
    let body = json!({"messages": user("a"), "max_tokens": 3, "max_completion_tokens": 4});
    assert_eq!(ask(&server, CHAT, body).await.1["error"]["param"], "max_tokens");
}

#[tokio::test]
async fn errors_have_openais_shape() {
    let server = serve(Config { api_keys: vec!["k".to_owned()], ..Config::default() }, echo).await;
    let (status, answer) = ask(&server, CHAT, json!({"messages": user("a")})).await;
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("invalid_api_key")));
    assert_eq!(server.get("/v1/models").await.status(), 401);

    let server = serve(Config::default(), echo).await;
    let (status, answer) = ask(&server, CHAT, json!({"messages": user("a"), "model": "other"})).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("model_not_found")));
    let body = json!({"prompt": vec![1; LIMITS.context], "max_tokens": 5});
    let (status, answer) = ask(&server, COMPLETIONS, body).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("context_length_exceeded")));
    let answer = server.post(COMPLETIONS, &json!({"prompt": "x".repeat(1 << 20)})).await;
    assert_eq!(answer.status(), 413);

    let (server, _load) = loading(Config::default()).await;
    let (status, answer) = ask(&server, COMPLETIONS, json!({"prompt": "a"})).await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("model_loading")));
}

#[tokio::test]
async fn models_are_listed_and_found_by_name() {
    let server = serve(Config::default(), echo).await;
    let list: Value = server.get("/v1/models").await.text().await.unwrap().parse().unwrap();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("tiny")));
    assert_eq!(list["data"][0]["max_model_len"], LIMITS.context);
    let found: Value = server.get("/v1/models/t%69ny").await.text().await.unwrap().parse().unwrap();
    assert_eq!(found, list["data"][0]);
    assert_eq!(server.get("/v1/models/other/one").await.status(), 404);
    assert_eq!(server.get("/v1/models/").await.status(), 404);
}

#[tokio::test]
async fn all_jobs_of_a_request_are_cancelled_with_it() {
    for stream in [true, false] {
        let (tell, told) = mpsc::channel();
        let server = serve(Config::default(), move |queue| {
            let jobs = [begin(&queue), begin(&queue)];
            tell.send(()).unwrap();
            let mut left: Vec<String> = jobs.iter().map(|job| job.request.job_id.clone()).collect();
            while !left.is_empty() {
                let Next::Work { cancelled, .. } = queue.next(0, 2) else { return };
                left.retain(|id| !cancelled.contains(id));
                std::thread::sleep(Duration::from_millis(2));
            }
            tell.send(()).unwrap();
        })
        .await;
        let body = json!({"prompt": "a", "n": 2, "stream": stream});
        let request = server.client.post(server.url(COMPLETIONS)).body(body.to_string());
        let asked = tokio::spawn(async move {
            let mut answer = request.send().await.unwrap();
            while answer.chunk().await.unwrap().is_some() {}
        });
        let told = tokio::task::spawn_blocking(move || {
            told.recv_timeout(PATIENCE).unwrap();
            told
        });
        let told = told.await.unwrap();
        asked.abort();
        let cancelled = tokio::task::spawn_blocking(move || told.recv_timeout(PATIENCE));
        assert!(cancelled.await.unwrap().is_ok(), "stream: {stream}");
    }
}

#[tokio::test]
async fn a_choice_has_its_receipt() {
    let (_tell, model_hash) = watch::channel(ModelHash::Known(Digest([0xab; 32])));
    let (server, load) = loading(Config::default()).await;
    let worker = server.worker(bytes, hi);
    assert!(load.send(Worker { model_hash, ..worker }).is_ok());
    let ready = async {
        while server.get("/ready").await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ready).await.unwrap();
    let (_, body) = ask(&server, COMPLETIONS, json!({"prompt": "a", "n": 2, "seed": 8})).await;
    for (i, seed) in [(0, 8), (1, 9)] {
        let receipt = &body["choices"][i]["receipt"];
        assert_eq!(receipt["request"]["sampling"]["seed"], seed);
        assert_eq!(receipt["model"]["blake3"], "ab".repeat(32));
    }
    let told = chunks(&server, CHAT, json!({"messages": user("a"), "stream": true})).await;
    assert!(told[3]["choices"][0]["receipt"].is_object(), "{}", told[3]);
}
