//! What a job leaves in the log.

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};

use common::{echo, serve};
use serde_json::{Value, json};
use server::Config;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// The only test of this file: the subscriber is the process's, because the engine's thread writes too.
#[tokio::test]
async fn a_job_is_logged_with_its_ids_and_without_its_prompt() {
    let buffer = Buffer::default();
    let writer = buffer.clone();
    tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).init();

    let server =
        serve(Config { worker_id: "w-1".to_owned(), model: "tiny".to_owned(), ..Config::default() }, echo)
            .await;
    let send_to = async |path: &str, body: Value| {
        let request = server.client.post(server.url(path)).header("X-Correlation-ID", "c-1");
        request.body(body.to_string()).send().await.unwrap().text().await.unwrap()
    };
    let send = async |body: Value| send_to("/execute", body).await;
    send(json!({"job_id": "a", "prompt": "s3cret"})).await;
    send(json!({"job_id": "", "prompt": "s3cret", "promt": "s3cret", "pronpt": 1})).await;
    let messages = json!([{"role": "user", "content": "s3cret"}]);
    send_to("/v1/chat/completions", json!({"messages": messages, "n": 2})).await;
    send_to("/v1/chat/completions", json!({"messages": messages, "s3cret": 1, "model": "tiny"})).await;
    send_to("/v1/completions", json!({"prompt": ["s3cret"], "model": "s3cret"})).await;
    server.engine.not_resident();
    send(json!({"job_id": "b", "prompt": "s3cret"})).await;

    let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| line.parse().unwrap()).collect();
    let theirs = ["execute_start", "execute_end", "error"];
    let of_server = lines.iter().filter(|line| theirs.iter().any(|&event| line["event"] == event));
    // Of the chat's two jobs, each its own; and a line for each refusal.
    assert_eq!(of_server.clone().count(), 4 + 2 * 2 + 2);
    for line in of_server {
        let ids = (&line["worker_id"], &line["correlation_id"], &line["model_ref"], &line["device"]);
        assert_eq!(ids, (&json!("w-1"), &json!("c-1"), &json!("tiny"), &json!("cpu")), "{line}");
    }
    let line = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap();

    let start = line("execute_start");
    for (name, value) in [
        ("job_id", json!("a")),
        ("correlation_id", json!("c-1")),
        ("model_ref", json!("tiny")),
        ("device", json!("cpu")),
        ("tokens_in", json!(6)),
        ("prompt_chars", json!(6)),
        ("prompt_sha256", json!("1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0")),
    ] {
        assert_eq!(start[name], value, "{name} in {start}");
    }
    let end = line("execute_end");
    assert_eq!((&end["job_id"], &end["correlation_id"]), (&json!("a"), &json!("c-1")));
    assert_eq!(
        (&end["tokens_in"], &end["tokens_out"], &end["decode_time_ms"]),
        (&json!(6), &json!(6), &json!(7))
    );
    assert!(end["first_token_ms"].is_u64() && end["vram_bytes"] == 1000, "{end}");
    let error = line("error");
    assert_eq!(error["code"], "INVALID_REQUEST");
    assert_eq!(
        (&error["level"], &error["faults"]),
        (&json!("WARN"), &json!("job_id: non_empty, known_field"))
    );
    let error = lines.iter().rfind(|line| line["event"] == "error").unwrap();
    assert_eq!((&error["level"], &error["code"]), (&json!("ERROR"), &json!("VRAM_RESIDENCY_FAILED")));
}
