//! OpenAI's API: answers, whole and in chunks.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{
    Events, LIMITS, PATIENCE, Server, begin, completion, end, fail, serve, take, token, wait_for_cancel,
};
use runtime::engine::{Job, JobQueue};
use runtime::request::{Chosen, Event, JobError, StopReason};
use serde_json::{Value, json};
use server::Config;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Takes so many jobs, in the order of their choices.
fn begin_all(queue: &JobQueue, count: usize) -> Vec<Job> {
    let mut jobs: Vec<Job> = (0..count).map(|_| begin(queue)).collect();
    jobs.sort_by_key(|job| job.request.job_id.rsplit_once('-').unwrap().1.parse::<usize>().unwrap());
    jobs
}

/// Ends a job as the engine does.
fn end_with(queue: &JobQueue, mut job: Job, tokens: Vec<Chosen>, tokens_out: u32, reason: StopReason) {
    queue.finished(&job.request.job_id);
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

/// A stream's chunks, which it says are all.
async fn chunks(answer: reqwest::Response) -> Vec<Value> {
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut chunks = blocks(Events::of(answer)).await;
    assert_eq!(chunks.pop().as_deref(), Some("data: [DONE]"));
    chunks.iter().map(|chunk| data(chunk)).collect()
}

async fn blocks(mut events: Events) -> Vec<String> {
    let mut blocks = Vec::new();
    while let Some(block) = events.block().await {
        blocks.push(block);
    }
    blocks
}

fn data(block: &str) -> Value {
    block.strip_prefix("data: ").expect("a chunk").parse().unwrap()
}

async fn whole(server: &Server, path: &str, body: Value) -> Value {
    let answer = server.post(path, &body).await;
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap().parse().unwrap()
}

/// A request of both kinds, which asks for the same.
const KINDS: [&str; 2] = ["/v1/completions", "/v1/chat/completions"];

fn body(path: &str) -> Value {
    match path {
        "/v1/completions" => json!({"model": "tiny", "prompt": "pp", "max_tokens": 4}),
        _ => json!({"model": "tiny", "messages": [{"role": "user", "content": "c"}], "max_tokens": 4}),
    }
}

fn with(path: &str, fields: Value) -> Value {
    let mut body = body(path);
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

const HEAD: &str = r#""created":NOW,"model":"tiny","system_fingerprint":"f32-00ff""#;

#[tokio::test]
async fn a_completion_in_bytes() {
    let server = serve(Config::default(), ab).await;
    let answer = server.post("/v1/completions", &body("/v1/completions")).await;
    assert_eq!(answer.headers()["content-type"], "application/json");
    let expected = format!(
        r#"{{"id":"cmpl-ID","object":"text_completion",{HEAD},"choices":[{{"index":0,"text":"ab","logprobs":null,"finish_reason":"stop","stop_reason":null}}],"usage":{{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}}}"#
    );
    assert_eq!(exact(answer).await, expected);
}

#[tokio::test]
async fn a_chat_in_bytes() {
    let server = serve(Config::default(), ab).await;
    let answer = server.post("/v1/chat/completions", &body("/v1/chat/completions")).await;
    let expected = format!(
        r#"{{"id":"chatcmpl-ID","object":"chat.completion",{HEAD},"choices":[{{"index":0,"message":{{"role":"assistant","content":"ab","refusal":null}},"logprobs":null,"finish_reason":"stop","stop_reason":null}}],"usage":{{"prompt_tokens":19,"completion_tokens":2,"total_tokens":21}}}}"#
    );
    assert_eq!(exact(answer).await, expected);
}

#[tokio::test]
async fn a_streamed_completion_in_bytes() {
    let server = serve(Config::default(), ab).await;
    let options = json!({"stream": true, "echo": true, "stream_options": {"include_usage": true}});
    let answer = server.post("/v1/completions", &with("/v1/completions", options)).await;
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
    let answer =
        server.post("/v1/chat/completions", &with("/v1/chat/completions", json!({"stream": true}))).await;
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
            let answer = whole(&server, path, body(path)).await;
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
    let answer = whole(&server, "/v1/completions", body.clone()).await;
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
    let chunks = chunks(server.post("/v1/completions", &streamed).await).await;
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
    let body = with("/v1/chat/completions", json!({"stream": true, "n": 3}));
    let mut events = Events::of(server.post("/v1/chat/completions", &body).await);
    for _ in 0..3 {
        assert_eq!(data(&events.block().await.unwrap())["choices"][0]["delta"]["role"], "assistant");
    }
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
    let body = with("/v1/completions", json!({"logprobs": 2}));
    let answer = whole(&server, "/v1/completions", body.clone()).await;
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
    let chunks = chunks(server.post("/v1/completions", &streamed).await).await;
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
    let body = with("/v1/chat/completions", json!({"logprobs": true, "top_logprobs": 2}));
    let answer = whole(&server, "/v1/chat/completions", body.clone()).await;
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
    let chunks = chunks(server.post("/v1/chat/completions", &streamed).await).await;
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

/// Waits until each of these jobs was cancelled.
fn all_cancelled(queue: &JobQueue, mut jobs: Vec<Job>) {
    for _ in 0..PATIENCE.as_millis() {
        let runtime::engine::Next::Work { cancelled, .. } = queue.next(0, 1) else { panic!("stopped") };
        jobs.retain(|job| !cancelled.contains(&job.request.job_id));
        if jobs.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{} jobs were never cancelled", jobs.len());
}

#[tokio::test]
async fn a_closed_stream_cancels_all_its_jobs() {
    let (done, is_done) = oneshot::channel();
    let server = serve(Config::default(), |queue| {
        let jobs = begin_all(&queue, 3);
        all_cancelled(&queue, jobs);
        done.send(()).unwrap();
    })
    .await;
    let body = with("/v1/completions", json!({"stream": true, "n": 3, "echo": true}));
    let mut events = Events::of(server.post("/v1/completions", &body).await);
    for _ in 0..3 {
        events.block().await.unwrap();
    }
    drop(events);
    timeout(PATIENCE, is_done).await.unwrap().expect("cancelled while the engine was silent");
}

#[tokio::test]
async fn who_leaves_before_a_whole_answer_cancels_its_jobs() {
    let (begun, has_begun) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    let server = serve(Config::default(), |queue| {
        let jobs = begin_all(&queue, 3);
        begun.send(()).unwrap();
        all_cancelled(&queue, jobs);
        done.send(()).unwrap();
    })
    .await;
    let body = with("/v1/chat/completions", json!({"n": 3})).to_string();
    let request = server.client.post(server.url("/v1/chat/completions")).body(body);
    let asks = tokio::spawn(request.send());
    timeout(PATIENCE, has_begun).await.unwrap().unwrap();
    asks.abort();
    timeout(PATIENCE, is_done).await.unwrap().expect("cancelled while the engine was silent");
}

#[tokio::test]
async fn all_jobs_are_taken_or_none() {
    let (read, was_read) = mpsc::channel::<()>();
    let server = serve(Config::default(), move |queue| {
        let running = begin(&queue);
        was_read.recv_timeout(PATIENCE).unwrap();
        // Those that found room are gone, before the engine took them.
        for _ in 0..LIMITS.queue_depth {
            let runtime::engine::Next::Work { jobs, cancelled } = queue.next(0, 1) else { panic!("stopped") };
            assert_eq!(jobs.len(), cancelled.len());
            for job in jobs {
                fail(&queue, job, JobError::Cancelled);
            }
        }
        end(&queue, running, 0);
    })
    .await;
    let mut running = server.execute("running").await;
    running.expect("started").await;
    for path in KINDS {
        let body = with(path, json!({"n": LIMITS.queue_depth + 1}));
        let answer = server.post(path, &body).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (429, &"1".parse().unwrap())
        );
        let error: Value = answer.text().await.unwrap().parse().unwrap();
        assert_eq!(error["error"]["code"], "rate_limit_exceeded");
        if path == KINDS[0] {
            // The engine takes the cancelled ones out of the queue when it looks next.
            assert_eq!(server.engine.status().waiting, LIMITS.queue_depth);
        }
    }
    read.send(()).unwrap();
    assert_eq!(running.rest().await.last().unwrap().0, "end");
    assert_eq!(server.engine.status().waiting, 0);
}

#[tokio::test]
async fn a_failure_ends_a_stream_without_done_and_cancels_the_rest() {
    let (done, is_done) = oneshot::channel();
    let server = serve(Config::default(), |queue| {
        let mut jobs = begin_all(&queue, 2);
        token(&mut jobs[0], 0, "a");
        fail(&queue, jobs.pop().unwrap(), JobError::Timeout(Duration::from_secs(300)));
        let other = jobs.pop().unwrap();
        wait_for_cancel(&queue, &other);
        done.send(()).unwrap();
    })
    .await;
    let body = with("/v1/completions", json!({"stream": true, "n": 2}));
    let blocks = blocks(Events::of(server.post("/v1/completions", &body).await)).await;
    let error = data(blocks.last().unwrap());
    let expected = json!({"error": {"message": "the job ran longer than 300 s", "type": "server_error",
        "param": null, "code": "inference_timeout"}});
    assert_eq!(error, expected);
    // The other's text may have come before.
    assert!(blocks.len() <= 2, "{blocks:?}");
    timeout(PATIENCE, is_done).await.unwrap().expect("the other choice was cancelled");
}

#[tokio::test]
async fn a_failure_of_one_choice_is_the_whole_answers() {
    let cases = [
        (JobError::Cancelled, 499, "server_error", "cancelled"),
        (JobError::Timeout(Duration::from_secs(300)), 504, "server_error", "inference_timeout"),
        (JobError::OutOfMemory("9 bytes needed".to_owned()), 503, "server_error", "vram_oom"),
        (JobError::Internal("a bug".to_owned()), 500, "server_error", "internal"),
    ];
    let errors: Vec<JobError> = cases.iter().map(|case| case.0.clone()).collect();
    let server = serve(Config::default(), move |queue| {
        for error in errors.into_iter().flat_map(|error| [error.clone(), error]) {
            let mut jobs = begin_all(&queue, 2);
            fail(&queue, jobs.pop().unwrap(), error);
            let other = jobs.pop().unwrap();
            wait_for_cancel(&queue, &other);
            fail(&queue, other, JobError::Cancelled);
        }
    })
    .await;
    for (error, status, kind, code) in cases {
        for path in KINDS {
            let answer = server.post(path, &with(path, json!({"n": 2}))).await;
            assert_eq!(answer.status(), status);
            let told: Value = answer.text().await.unwrap().parse().unwrap();
            let expected =
                json!({"error": {"message": error.to_string(), "type": kind, "param": null, "code": code}});
            assert_eq!(told, expected);
        }
    }
}

#[tokio::test]
async fn an_idle_stream_is_kept_alive_by_comments() {
    let config = Config { keep_alive: Duration::from_millis(20), ..Config::default() };
    let (read, was_read) = mpsc::channel::<()>();
    let server = serve(config, move |queue| {
        let job = begin(&queue);
        was_read.recv_timeout(PATIENCE).unwrap();
        end(&queue, job, 0);
    })
    .await;
    let body = with("/v1/chat/completions", json!({"stream": true}));
    let mut events = Events::of(server.post("/v1/chat/completions", &body).await);
    while events.block().await.unwrap().starts_with(':') {}
    assert_eq!(events.block().await.unwrap(), ": keep-alive");
    assert_eq!(events.block().await.unwrap(), ": keep-alive");
    read.send(()).unwrap();
    let rest = blocks(events).await;
    assert_eq!(rest.last().unwrap(), "data: [DONE]");
}

#[tokio::test]
async fn a_slow_reader_of_many_choices_loses_nothing() {
    let (done, is_done) = oneshot::channel();
    let long = "x".repeat(16384);
    let server = serve(Config::default(), {
        let long = long.clone();
        move |queue| {
            let mut jobs = begin_all(&queue, 3);
            for index in 0..700 {
                jobs.iter_mut().for_each(|job| token(job, index, &long));
            }
            jobs.into_iter().for_each(|job| end(&queue, job, 700));
            done.send(()).unwrap();
        }
    })
    .await;
    let body = json!({"prompt": "p", "max_tokens": 700, "n": 3, "stream": true});
    let answer = server.post("/v1/completions", &body).await;
    timeout(PATIENCE, is_done).await.expect("the engine does not wait").unwrap();
    sleep(Duration::from_millis(50)).await;
    let mut chars = [0; 3];
    for chunk in chunks(answer).await {
        let choice = &chunk["choices"][0];
        chars[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap().len();
    }
    assert_eq!(chars, [700 * long.len(); 3]);
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
