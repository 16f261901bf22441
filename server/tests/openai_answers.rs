//! OpenAI's API: answers, whole and in chunks.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{
    CHAT, COMPLETIONS, Events, KINDS, LIMITS, PATIENCE, Server, begin_all, chunks, completion, data, end,
    serve, take, token, with,
};
use runtime::engine::{Job, JobKey, JobQueue};
use runtime::request::{Chosen, Event, StopReason};
use serde_json::{Value, json};
use server::Config;

/// Ends a job as the engine does.
fn end_with(queue: &JobQueue, mut job: Job, tokens: Vec<Chosen>, tokens_out: u32, reason: StopReason) {
    queue.finished(&JobKey::of(&job.request));
    let tokens_in = job.request.prompt.len() as u32;
    let mut completion = completion(tokens_in, tokens_out, Duration::from_millis(7), reason);
    completion.tokens = tokens;
    job.sink.send(Event::End(completion)).unwrap();
}

/// An engine that says `ab`, in two pieces, to everybody.
fn ab(queue: JobQueue) {
    while let Some(mut job) = take(&queue) {
        job.sink.send(Event::Started).unwrap();
        token(&mut job, 0, "a");
        token(&mut job, 1, "b");
        end_with(&queue, job, Vec::new(), 2, StopReason::EndOfSequence);
    }
}

/// An answer's bytes, in which what differs from run to run has a name in its place.
async fn exact(answer: reqwest::Response) -> String {
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    let start = text.find('{').unwrap();
    let first: Value =
        serde_json::Deserializer::from_str(&text[start..]).into_iter().next().unwrap().unwrap();
    let (id, created) = (first["id"].as_str().unwrap(), first["created"].as_u64().unwrap());
    let (kind, uuid) = id.split_once('-').unwrap();
    assert!(uuid.len() == 32 && uuid.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now - 60..=now).contains(&created), "{created}");
    text.replace(id, &format!("{kind}-ID")).replace(&format!("\"created\":{created}"), "\"created\":NOW")
}

async fn whole(server: &Server, path: &str, body: &Value) -> Value {
    let answer = server.post(path, body).await;
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap().parse().unwrap()
}

const HEAD: &str = r#""created":NOW,"model":"tiny","system_fingerprint":"f32-00ff""#;

#[tokio::test]
async fn a_completion_in_bytes() {
    let server = serve(Config::default(), ab).await;
    let answer = server.post(COMPLETIONS, &with(COMPLETIONS, &json!({}))).await;
    assert_eq!(answer.headers()["content-type"], "application/json");
    let expected = format!(
        r#"{{"id":"cmpl-ID","object":"text_completion",{HEAD},"choices":[{{"index":0,"text":"ab","logprobs":null,"finish_reason":"stop","stop_reason":null}}],"usage":{{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}}}"#
    );
    assert_eq!(exact(answer).await, expected);
}

#[tokio::test]
async fn a_chat_in_bytes() {
    let server = serve(Config::default(), ab).await;
    let answer = server.post(CHAT, &with(CHAT, &json!({}))).await;
    let expected = format!(
        r#"{{"id":"chatcmpl-ID","object":"chat.completion",{HEAD},"choices":[{{"index":0,"message":{{"role":"assistant","content":"ab","refusal":null}},"logprobs":null,"finish_reason":"stop","stop_reason":null}}],"usage":{{"prompt_tokens":19,"completion_tokens":2,"total_tokens":21}}}}"#
    );
    assert_eq!(exact(answer).await, expected);
}

#[tokio::test]
async fn a_streamed_completion_in_bytes() {
    let server = serve(Config::default(), ab).await;
    let options = json!({"stream": true, "echo": true, "stream_options": {"include_usage": true}});
    let answer = server.post(COMPLETIONS, &with(COMPLETIONS, &options)).await;
    let choice = |text: &str, end: &str| {
        format!(
            r#"data: {{"id":"cmpl-ID","object":"text_completion",{HEAD},"choices":[{{"index":0,"text":"{text}","logprobs":null,"finish_reason":{end}}}],"usage":null}}"#
        ) + "\n\n"
    };
    let usage = format!(
        r#"data: {{"id":"cmpl-ID","object":"text_completion",{HEAD},"choices":[],"usage":{{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}}}"#
    ) + "\n\n";
    let expected = choice("pp", "null")
        + &choice("a", "null")
        + &choice("b", "null")
        + &choice("", r#""stop","stop_reason":null"#)
        + &usage
        + "data: [DONE]\n\n";
    assert_eq!(exact(answer).await, expected);
}

#[tokio::test]
async fn a_streamed_chat_in_bytes() {
    let server = serve(Config::default(), ab).await;
    let answer = server.post(CHAT, &with(CHAT, &json!({"stream": true}))).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["cache-control"], "no-cache");
    let choice = |delta: &str, end: &str| {
        format!(
            r#"data: {{"id":"chatcmpl-ID","object":"chat.completion.chunk",{HEAD},"choices":[{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":{end}}}]}}"#
        ) + "\n\n"
    };
    let expected = choice(r#""role":"assistant","content":"""#, "null")
        + &choice(r#""content":"a""#, "null")
        + &choice(r#""content":"b""#, "null")
        + &choice("", r#""stop","stop_reason":null"#)
        + "data: [DONE]\n\n";
    assert_eq!(exact(answer).await, expected);
}

#[tokio::test]
async fn it_says_why_a_choice_ended() {
    let reasons = [
        (StopReason::MaxTokens, "length", Value::Null),
        (StopReason::EndOfSequence, "stop", Value::Null),
        (StopReason::StopSequence("END".to_owned()), "stop", json!("END")),
    ];
    let told: Vec<StopReason> = reasons.iter().map(|reason| reason.0.clone()).collect();
    let server = serve(Config::default(), move |queue| {
        for reason in told.into_iter().cycle() {
            let Some(job) = take(&queue) else { return };
            end_with(&queue, job, Vec::new(), 0, reason);
        }
    })
    .await;
    for path in KINDS {
        for (_, finish, stop) in &reasons {
            let answer = whole(&server, path, &with(path, &json!({}))).await;
            let choice = &answer["choices"][0];
            assert_eq!((&choice["finish_reason"], &choice["stop_reason"]), (&json!(finish), stop));
        }
    }
}

/// Answers each job with what tells it from the others: its prompt and its seed.
fn prompt_and_seed(queue: JobQueue) {
    while let Some(mut job) = take(&queue) {
        job.sink.send(Event::Started).unwrap();
        let prompt: Vec<u8> = job.request.prompt.iter().map(|&id| id as u8).collect();
        let text = format!("{}:{};", String::from_utf8(prompt).unwrap(), job.request.sampling.seed);
        token(&mut job, 0, &text);
        end(&queue, job, 3);
    }
}

#[tokio::test]
async fn each_prompt_has_its_choices_each_with_a_seed_of_its_own() {
    let server = serve(Config::default(), prompt_and_seed).await;
    let seed = u64::MAX;
    let body = json!({"prompt": ["one", [116, 119, 111]], "n": 2, "seed": seed, "echo": true});
    let answer = whole(&server, COMPLETIONS, &body).await;
    let texts: Vec<&str> =
        answer["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    let expected = [
        format!("oneone:{seed};"),
        "oneone:0;".to_owned(),
        format!("twotwo:{seed};"),
        "twotwo:0;".to_owned(),
    ];
    assert_eq!(texts, expected);
    let indices: Vec<u64> = answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    // A prompt is counted once, however many choices it has.
    let usage = json!({"prompt_tokens": 6, "completion_tokens": 12, "total_tokens": 18});
    assert_eq!(answer["usage"], usage);

    let mut streamed = body;
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let mut texts = vec![String::new(); 4];
    let chunks = chunks(server.post(COMPLETIONS, &streamed).await).await;
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
        texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    assert_eq!(texts, expected);
    assert_eq!(chunks.last().unwrap()["usage"], usage);
}

#[tokio::test]
async fn choices_come_as_they_are_made() {
    let (read, was_read) = mpsc::channel::<()>();
    let order = [1, 0, 0, 2, 1];
    let server = serve(Config::default(), move |queue| {
        let mut jobs = begin_all(&queue, 3);
        was_read.recv_timeout(PATIENCE).expect("all that has begun is told");
        for (index, &choice) in order.iter().enumerate() {
            token(&mut jobs[choice], index as u32, "x");
            was_read.recv_timeout(PATIENCE).expect("a chunk leaves at once");
        }
        for job in jobs.into_iter().rev() {
            end(&queue, job, 1);
            was_read.recv_timeout(PATIENCE).expect("an end leaves at once");
        }
    })
    .await;
    let body = with(CHAT, &json!({"stream": true, "n": 3}));
    let mut events = Events::of(server.post(CHAT, &body).await);
    for _ in 0..3 {
        assert_eq!(data(&events.block().await.unwrap())["choices"][0]["delta"]["role"], "assistant");
    }
    read.send(()).unwrap();
    for choice in order {
        let chunk = data(&events.block().await.unwrap());
        assert_eq!(chunk["choices"][0]["index"], choice);
        assert_eq!(chunk["choices"][0]["delta"], json!({"content": "x"}));
        read.send(()).unwrap();
    }
    for choice in [2, 1, 0] {
        let chunk = data(&events.block().await.unwrap());
        assert_eq!(chunk["choices"][0]["index"], choice);
        assert_eq!(chunk["choices"][0]["finish_reason"], "length");
        read.send(()).unwrap();
    }
    assert_eq!(events.block().await.as_deref(), Some("data: [DONE]"));
    assert_eq!(events.block().await, None);
}

fn chosen(id: u32, logprob: f32, top: &[(u32, f32)]) -> Chosen {
    Chosen { id, logprob: Some(logprob), top: top.to_vec() }
}

/// Says `a`, then `é` in two tokens, then `z`, then the token of a stop string that has no text.
fn with_logprobs(queue: JobQueue) {
    while let Some(mut job) = take(&queue) {
        assert_eq!(job.request.logprobs, Some(2));
        job.sink.send(Event::Started).unwrap();
        let mut say = |index, text: &str, tokens| {
            job.sink.send(Event::Token { index, text: text.to_owned(), tokens }).unwrap();
        };
        say(0, "a", vec![chosen(97, -0.5, &[(98, -0.25), (97, -0.5)])]);
        say(1, "é", vec![chosen(0xc3, -1.0, &[(0xc3, -1.0)]), chosen(0xa9, -2.0, &[])]);
        say(2, "z", vec![chosen(122, f32::NEG_INFINITY, &[])]);
        let reason = StopReason::StopSequence(".".to_owned());
        end_with(&queue, job, vec![chosen(46, -4.0, &[])], 5, reason);
    }
}

#[tokio::test]
async fn log_probabilities_of_a_completion() {
    let server = serve(Config::default(), with_logprobs).await;
    let body = with(COMPLETIONS, &json!({"logprobs": 2}));
    let answer = whole(&server, COMPLETIONS, &body).await;
    let expected = json!({
        "tokens": ["a", "bytes:\\xc3", "bytes:\\xa9", "z", "."],
        "token_logprobs": [-0.5, -1.0, -2.0, -9999.0, -4.0],
        "top_logprobs": [
            {"b": -0.25, "a": -0.5}, {"bytes:\\xc3": -1.0}, {"bytes:\\xa9": -2.0}, {"z": -9999.0}, {".": -4.0},
        ],
        "text_offset": [0, 1, 1, 2, 3],
    });
    assert_eq!(answer["choices"][0]["logprobs"], expected);

    let mut streamed = body;
    streamed["stream"] = json!(true);
    let chunks = chunks(server.post(COMPLETIONS, &streamed).await).await;
    let all = |name: &str| -> Vec<&Value> {
        chunks.iter().flat_map(|chunk| chunk["choices"][0]["logprobs"][name].as_array().unwrap()).collect()
    };
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(all(name), expected[name].as_array().unwrap().iter().collect::<Vec<_>>(), "{name}");
    }
}

#[tokio::test]
async fn log_probabilities_of_a_chat() {
    let server = serve(Config::default(), with_logprobs).await;
    let body = with(CHAT, &json!({"logprobs": true, "top_logprobs": 2}));
    let answer = whole(&server, CHAT, &body).await;
    let told =
        |token: &str, logprob: f32, bytes: &[u8]| json!({"token": token, "logprob": logprob, "bytes": bytes});
    let with_top = |mut token: Value, top: Value| {
        token["top_logprobs"] = top;
        token
    };
    let expected = [
        with_top(told("a", -0.5, b"a"), json!([told("b", -0.25, b"b"), told("a", -0.5, b"a")])),
        with_top(told("\u{fffd}", -1.0, b"\xc3"), json!([told("\u{fffd}", -1.0, b"\xc3")])),
        with_top(told("\u{fffd}", -2.0, b"\xa9"), json!([])),
        with_top(told("z", -9999.0, b"z"), json!([])),
        with_top(told(".", -4.0, b"."), json!([])),
    ];
    assert_eq!(answer["choices"][0]["logprobs"]["content"], json!(expected));
    assert_eq!(answer["choices"][0]["message"]["content"], "aéz");

    let mut streamed = body;
    streamed["stream"] = json!(true);
    let chunks = chunks(server.post(CHAT, &streamed).await).await;
    let per_chunk: Vec<usize> = chunks
        .iter()
        .map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array().map_or(0, Vec::len))
        .collect();
    // The role; a text with each of three; the end.
    assert_eq!(per_chunk, [0, 1, 2, 1, 1]);
    let all: Vec<Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(all, expected);
}

#[tokio::test]
async fn the_model_is_listed_and_found_by_its_name() {
    let server = serve(Config::default(), ab).await;
    let list: Value = server.get("/v1/models").await.text().await.unwrap().parse().unwrap();
    let mut model = list["data"][0].clone();
    assert!(model.as_object_mut().unwrap().remove("created").unwrap().is_u64());
    assert_eq!(
        model,
        json!({"id": "tiny", "object": "model", "owned_by": "worker-orcd", "max_model_len": LIMITS.context})
    );
    assert_eq!((&list["object"], list["data"].as_array().unwrap().len()), (&json!("list"), 1));
    for name in ["tiny", "t%69ny"] {
        let found: Value =
            server.get(&format!("/v1/models/{name}")).await.text().await.unwrap().parse().unwrap();
        assert_eq!(found["id"], "tiny");
    }
    let answer = server.get("/v1/models/other").await;
    assert_eq!(answer.status(), 404);
    let error: Value = answer.text().await.unwrap().parse().unwrap();
    assert_eq!(error["error"]["code"], "model_not_found");
}
