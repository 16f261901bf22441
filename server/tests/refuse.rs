//! Requests that get no stream.

mod common;

use std::time::Duration;

use common::{LIMITS, PATIENCE, Server, begin, echo, serve, take};
use serde_json::{Value, json};
use server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Sends bytes and reads until the server closes.
async fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // A server that has read enough may close before all is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes");
    String::from_utf8(answer).unwrap()
}

async fn expect_error(answer: reqwest::Response, status: u16, code: &str, retriable: bool) -> String {
    assert_eq!(answer.status(), status, "{code}");
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert!(answer.headers().contains_key("x-correlation-id"), "{code}");
    let body: Value = answer.text().await.unwrap().parse().unwrap();
    assert_eq!((&body["code"], &body["retriable"]), (&json!(code), &json!(retriable)));
    assert_eq!(body.as_object().unwrap().len(), 3);
    body["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn all_faults_are_told_at_once() {
    let server = serve(Config::default(), echo).await;
    let body = json!({"job_id": "", "max_tokens": 9999, "temperature": "hot", "colour": "secret", "stop": ["ok", ""]});
    let answer = server.post("/execute", &body).await;
    assert_eq!(answer.status(), 400);
    assert!(answer.headers().contains_key("x-correlation-id"));
    let told: Value = answer.text().await.unwrap().parse().unwrap();
    let expected = json!({"errors": [
        {"field": "job_id", "constraint": "non_empty", "message": "job_id must not be empty"},
        {"field": "prompt", "constraint": "required", "message": "prompt is missing"},
        {"field": "max_tokens", "constraint": "range(1..=2048)",
            "message": "max_tokens must be a whole number from 1 to 2048", "value": 9999},
        {"field": "temperature", "constraint": "type(number)",
            "message": "temperature must be of type number, not a string"},
        {"field": "stop[1]", "constraint": "non_empty", "message": "stop[1] must not be empty"},
        {"field": "colour", "constraint": "known_field", "message": "there is no such field"},
    ]});
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_body_that_is_no_json_is_a_fault_of_the_body() {
    let server = serve(Config::default(), echo).await;
    for path in ["/execute", "/cancel"] {
        let answer = server.client.post(server.url(path)).body("{").send().await.unwrap();
        assert_eq!(answer.status(), 400);
        let told: Value = answer.text().await.unwrap().parse().unwrap();
        assert_eq!(told["errors"][0]["field"], "body");
        assert_eq!(told["errors"][0]["constraint"], "valid_json");
    }
    assert_eq!(server.post("/cancel", &json!({})).await.status(), 400);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_or_without_a_length() {
    let server = serve(Config { body_limit: 1000, ..Config::default() }, echo).await;
    let long = json!({"job_id": "a", "prompt": "x".repeat(1000)});
    expect_error(server.post("/execute", &long).await, 413, "PAYLOAD_TOO_LARGE", false).await;
    expect_error(server.post("/cancel", &long).await, 413, "PAYLOAD_TOO_LARGE", false).await;

    let mut chunked = b"POST /execute HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..3 {
        chunked.extend_from_slice(b"190\r\n");
        chunked.extend_from_slice(&[b' '; 0x190]);
        chunked.extend_from_slice(b"\r\n");
    }
    let answer = raw(&server, &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn the_longest_prompt_fits_the_body_limit_in_any_encoding() {
    let server = serve(Config::default(), echo).await;
    let prompt = r"\ud83d\ude00".repeat(32768);
    let body = format!(r#"{{"job_id": "a", "prompt": "{prompt}"}}"#);
    let answer = server.client.post(server.url("/execute")).body(body).send().await.unwrap();
    // It passes every check of the body; only this small context refuses it.
    expect_error(answer, 400, "CONTEXT_OVERFLOW", false).await;
}

#[tokio::test]
async fn a_request_that_does_not_arrive_is_given_up() {
    let server = serve(Config { read_timeout: Duration::from_millis(50), ..Config::default() }, echo).await;
    let answer = raw(&server, b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{").await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("REQUEST_TIMEOUT"), "{answer}");
    // A head that stays unfinished, and no head at all: the connection is closed.
    raw(&server, b"POST /execute HTTP/1.1\r\nHo").await;
    raw(&server, b"").await;
}

#[tokio::test]
async fn a_huge_head_is_refused() {
    let server = serve(Config::default(), echo).await;
    let request = format!("GET /health HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = raw(&server, request.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn an_id_that_is_in_use_conflicts_until_its_job_has_ended() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let server = serve(Config::default(), move |queue| {
        let job = begin(&queue);
        gone.recv_timeout(PATIENCE).unwrap();
        common::end(&queue, job, 0);
        echo(queue);
    })
    .await;
    let mut first = server.execute("a").await;
    first.expect("started").await;
    let second = server.post("/execute", &json!({"job_id": "a", "prompt": "p"})).await;
    let message = expect_error(second, 409, "DUPLICATE_JOB", false).await;
    assert!(message.contains("\"a\""), "{message}");
    go.send(()).unwrap();
    first.expect("end").await;
    assert_eq!(server.execute("a").await.rest().await.last().unwrap().0, "end");
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let server = serve(Config::default(), |queue| {
        let _running = begin(&queue);
        std::thread::sleep(PATIENCE);
    })
    .await;
    let mut running = server.execute("running").await;
    running.expect("started").await;
    let mut waiting = Vec::new();
    for index in 0..LIMITS.queue_depth {
        waiting.push(server.execute(&index.to_string()).await);
    }
    let answer = server.post("/execute", &json!({"job_id": "one more", "prompt": "p"})).await;
    assert_eq!(answer.headers()["retry-after"], "1");
    expect_error(answer, 429, "QUEUE_FULL", true).await;
}

#[tokio::test]
async fn what_exceeds_the_context_is_refused() {
    let server = serve(Config::default(), echo).await;
    let long = json!({"job_id": "a", "prompt": "x".repeat(LIMITS.context)});
    expect_error(server.post("/execute", &long).await, 400, "CONTEXT_OVERFLOW", false).await;
    let greedy = json!({"job_id": "a", "prompt": "x".repeat(LIMITS.context - 10), "max_tokens": 11});
    expect_error(server.post("/execute", &greedy).await, 400, "CONTEXT_OVERFLOW", false).await;
    // The same prompt without a number takes what the context leaves.
    let modest = json!({"job_id": "a", "prompt": "x".repeat(LIMITS.context - 1)});
    assert_eq!(server.post("/execute", &modest).await.status(), 200);
}

#[tokio::test]
async fn a_failed_engine_refuses_work_and_is_not_ready() {
    let server = serve(Config::default(), |queue| {
        take(&queue);
        queue.fail("CUDA_ERROR_ILLEGAL_ADDRESS".to_owned());
    })
    .await;
    let events = server.execute("a").await.rest().await;
    assert_eq!(events[0].1["code"], "INTERNAL");
    let answer = server.post("/execute", &json!({"job_id": "b", "prompt": "p"})).await;
    let message = expect_error(answer, 500, "INTERNAL", false).await;
    assert!(message.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{message}");
    let ready = server.get("/ready").await;
    assert_eq!(ready.status(), 503);
    assert_eq!(ready.text().await.unwrap(), r#"{"ready":false,"status":"failed"}"#);
    let health = server.get("/health").await;
    assert_eq!(health.status(), 200);
    assert!(health.text().await.unwrap().starts_with(r#"{"status":"failed","resident":false,"#));
}

#[tokio::test]
async fn a_tokenizer_that_panics_is_an_error_without_the_prompt() {
    let server = common::serve_with(Config::default(), |text| panic!("cannot encode {text}"), echo).await;
    let answer = server.post("/execute", &json!({"job_id": "a", "prompt": "s3cret", "stop": ["x"]})).await;
    let message = expect_error(answer, 500, "INTERNAL", false).await;
    assert!(!message.contains("s3cret"), "{message}");
}

#[tokio::test]
async fn a_prompt_of_no_tokens_is_a_fault_of_the_prompt() {
    let server = common::serve_with(Config::default(), |_| Vec::new(), echo).await;
    let answer = server.post("/execute", &json!({"job_id": "a", "prompt": "?"})).await;
    assert_eq!(answer.status(), 400);
    let told: Value = answer.text().await.unwrap().parse().unwrap();
    assert_eq!(
        (&told["errors"][0]["field"], &told["errors"][0]["constraint"]),
        (&json!("prompt"), &json!("non_empty"))
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_json_errors() {
    let server = serve(Config::default(), echo).await;
    expect_error(server.get("/nowhere").await, 404, "NOT_FOUND", false).await;
    expect_error(server.get("/execute/more").await, 404, "NOT_FOUND", false).await;
    for (path, allow) in [("/execute", "POST"), ("/cancel", "POST")] {
        let answer = server.get(path).await;
        assert_eq!(answer.headers()["allow"], allow);
        expect_error(answer, 405, "METHOD_NOT_ALLOWED", false).await;
    }
    for path in ["/health", "/ready"] {
        let answer = server.post(path, &json!({})).await;
        assert_eq!(answer.headers()["allow"], "GET, HEAD");
        expect_error(answer, 405, "METHOD_NOT_ALLOWED", false).await;
        assert_eq!(server.client.head(server.url(path)).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn every_answer_carries_the_clients_correlation_id_if_it_is_valid() {
    let server = serve(Config::default(), echo).await;
    for path in ["/health", "/ready", "/execute", "/nowhere"] {
        for (sent, taken) in [("abc-123", true), ("no spaces", false)] {
            let answer =
                server.client.get(server.url(path)).header("X-Correlation-ID", sent).send().await.unwrap();
            assert_eq!(answer.headers()["x-correlation-id"] == sent, taken, "{path} {sent}");
        }
    }
}

#[tokio::test]
async fn health_describes_the_model() {
    let server = serve(Config::default(), echo).await;
    let mut health: Value = server.get("/health").await.text().await.unwrap().parse().unwrap();
    assert!(health.as_object_mut().unwrap().remove("uptime_seconds").unwrap().is_u64());
    let expected = json!({
        "status": "ready", "resident": true, "model": "tiny", "architecture": "llama", "quant_kind": "Q8_0",
        "tokenizer_kind": "bytes", "vocab_size": 256, "context_length": 4096, "vram_bytes_used": 1000,
        "vram_bytes_total": 4000, "device": "cpu", "sm": "sm_90",
        "driver_version": "13.0", "numerics": "f32", "capabilities": ["text-gen"], "protocol": "sse",
    });
    assert_eq!(health, expected);
    assert_eq!(server.get("/ready").await.text().await.unwrap(), r#"{"ready":true,"status":"ready"}"#);
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let server = serve(Config { max_connections: 1, ..Config::default() }, echo).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    first.read_u8().await.unwrap();
    let second = tokio::spawn(server.client.get(server.url("/ready")).send());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished(), "the only place is taken");
    drop(first);
    assert_eq!(timeout(PATIENCE, second).await.unwrap().unwrap().unwrap().status(), 200);
}
