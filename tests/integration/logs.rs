//! What the server's log tells, and what it does not.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::common::data;
use crate::server::{Ended, Server, event, serve};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("the_log_tells_a_servers_life_in_order", life),
        Trial::test("no_text_of_a_request_is_in_the_log_at_any_level", secrets),
        Trial::test("a_server_outlives_whoever_reads_its_log", unread),
    ]
}

const MODEL: &str = "llama31-f32.gguf";
const WORKER_ID: &str = "0b5e7d4e-3f4c-4a53-9f0b-6f6c1d2e3a4b";

fn life() -> Result<(), Failed> {
    let server = Server::start(serve(&data(MODEL)).args(["--worker-id", WORKER_ID]))?;
    let job = json!({"job_id": "a", "prompt": "the book", "max_tokens": 5, "temperature": 0.0});
    server.complete(&job)?;
    assert_eq!(server.post("/execute", &json!({}))?.status, 400);
    server.terminate()?;
    let Ended { status, log } = server.ended_with_log()?;
    assert!(status.success());

    let mut entries = Vec::new();
    for line in &log {
        let entry: Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        assert_eq!(entry["worker_id"], WORKER_ID, "{line}");
        assert_eq!(entry["model_ref"], data(MODEL).display().to_string(), "{line}");
        assert_eq!(entry["device"], "cpu", "{line}");
        assert!(
            entry["span"].is_null() && entry["fields"].is_null(),
            "all fields stand side by side: {line}"
        );
        entries.push(entry);
    }
    let of = |name: &str| entries.iter().filter(|entry| entry["event"] == name).collect::<Vec<_>>();
    let order = [
        "startup",
        "model_load_start",
        "model_load_progress",
        "model_load_complete",
        "ready",
        "execute_start",
        "execute_end",
        "error",
        "shutdown",
    ];
    let place = |name: &&str| entries.iter().position(|entry| entry["event"] == *name);
    let places: Vec<_> = order.iter().map(place).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}: {log:#?}");
    assert_eq!(place(&"startup"), Some(0), "the first line says which device was taken");

    let percents: Vec<_> =
        of("model_load_progress").iter().filter_map(|entry| entry["percent"].as_u64()).collect();
    assert!(percents.iter().all(|percent| percent % 10 == 0), "{percents:?}");
    assert!(percents.is_sorted_by(|a, b| a < b) && percents.last() == Some(&100), "{percents:?}");
    for (name, fields) in [
        ("execute_start", &["job_id", "correlation_id", "tokens_in"][..]),
        (
            "execute_end",
            &[
                "job_id",
                "correlation_id",
                "tokens_in",
                "tokens_out",
                "first_token_ms",
                "decode_time_ms",
                "vram_bytes",
            ],
        ),
        ("error", &["correlation_id", "code", "message"]),
    ] {
        let entries = of(name);
        assert_eq!(entries.len(), 1, "{name}: {log:#?}");
        for field in fields {
            assert!(!entries[0][field].is_null(), "no {field}: {}", entries[0]);
        }
    }
    assert_eq!(of("execute_end")[0]["tokens_out"], 5);
    Ok(())
}

/// A word that no log line has by itself.
const SECRET: &str = "xyzzy7f3c";

fn secrets() -> Result<(), Failed> {
    let mut command = serve(&data(MODEL));
    command.args(["--residency-interval-sec", "1"]).env("WORKER_ORCD_LOG", "trace");
    let server = Server::start(&mut command)?;
    let job = |changes: Value| {
        let mut job = json!({"job_id": "a", "prompt": "a", "max_tokens": 2, "temperature": 0.0});
        let fields = job.as_object_mut().zip(changes.as_object().cloned());
        if let Some((job, changes)) = fields {
            job.extend(changes);
        }
        job
    };
    // Taken ones: the job runs, and the text of its tokens is not logged either.
    let done = server.complete(&job(json!({"prompt": format!("say {SECRET}"), "stop": [SECRET]})))?;
    assert_eq!(done.last.0, "end");
    // Refused ones.
    let long = SECRET.repeat(40);
    let over_context = SECRET.repeat(400);
    for (request, status) in [
        (job(json!({"prompt": [SECRET]})), 400),
        (job(json!({"stop": ["", &long]})), 400),
        (job(json!({"max_tokens": SECRET, "seed": SECRET, "top_p": {SECRET: SECRET}})), 400),
        (job(json!({SECRET: 1, "Prompt": SECRET})), 400),
        (job(json!({"prompt": over_context})), 400),
        (json!([SECRET]), 400),
        (json!(SECRET), 400),
    ] {
        assert_eq!(server.post("/execute", &request)?.status, status, "{request}");
    }
    for body in [
        format!("{{\"job_id\": \"a\", \"prompt\": \"{SECRET}"),
        format!("{{\"job_id\": \"a\", {SECRET}}}"),
        format!("{SECRET} is no JSON"),
    ] {
        let whole = format!(
            "POST /execute HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = raw(&server, &whole, false)?;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    // Bodies that end early, or in chunks that are none.
    raw(
        &server,
        &format!("POST /execute HTTP/1.1\r\nhost: a\r\ncontent-length: 4000\r\n\r\n{SECRET}"),
        true,
    )?;
    let chunked = "POST /execute HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    raw(&server, &format!("{chunked}{SECRET}\r\n{SECRET}"), true)?;

    // The log is as verbose as it was told to be, and the interval is the operator's.
    server.wait_until("residency", |entry| entry["level"] == "DEBUG")?;
    server.terminate()?;
    let Ended { status, log } = server.ended_with_log()?;
    assert!(status.success());
    let told = log.iter().filter_map(|line| event(line)).filter(|(name, _)| name == "error").count();
    assert!(told >= 10, "refusals are logged: {log:#?}");
    let leaks: Vec<_> = log.iter().filter(|line| line.contains(SECRET)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
    Ok(())
}

/// Sends bytes and reads all that comes back; `end` ends the sending side before.
fn raw(server: &Server, bytes: &str, end: bool) -> Result<String, Failed> {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://"))?;
    stream.write_all(bytes.as_bytes())?;
    if end {
        stream.shutdown(Shutdown::Write)?;
    }
    let mut answer = Vec::new();
    // A server that closes while something was unread resets the connection.
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn unread() -> Result<(), Failed> {
    let server = Server::start_unread(&mut serve(&data(MODEL)))?;
    server.complete(&json!({"job_id": "a", "prompt": "the book", "max_tokens": 2}))?;
    assert_eq!(server.post("/execute", &json!({}))?.status, 400);
    server.terminate()?;
    assert!(server.ended()?.success());
    Ok(())
}
