//! How the server starts: what it answers while it loads, whom it tells that it is ready, how signals end it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::callback::Callback;
use crate::common::{data, executable, with_model};
use crate::server::{Ended, Server, event, serve};

pub(crate) fn trials(model: &Result<PathBuf, String>) -> Vec<Trial> {
    vec![
        Trial::test("while_the_model_comes_the_server_says_that_it_starts", starting),
        Trial::test("a_signal_while_the_model_comes_ends_the_server", signal_while_starting),
        Trial::test("a_load_that_fails_ends_a_server_that_was_answering", load_fails),
        Trial::test("the_log_has_the_code_of_a_gpu_that_is_not_there", no_gpu),
        Trial::test("the_ready_callback_comes_from_a_server_that_is_ready", callback),
        Trial::test("the_ready_callback_is_repeated_until_it_is_taken", callback_repeated),
        Trial::test("a_ready_callback_that_nobody_takes_ends_the_server", callback_fails),
        Trial::test("a_key_of_the_operators_file_opens_the_server_and_no_other_does", keys),
        Trial::test("a_post_to_shutdown_ends_the_server_where_the_operator_allows_it", shutdown),
        Trial::test("no_request_gets_more_tokens_than_the_operator_allows", max_tokens_out),
        with_model("a_second_signal_ends_a_draining_server_at_once", model, second_signal),
    ]
}

/// A model with a context of 256 tokens, whose most likely ones do not end.
const MODEL: &str = "llama31-f32.gguf";
/// What ends at once ends within this on a machine that has much else to do.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A server that waits for its model: it is to be fetched from a hub that takes connections and never answers. `hub`
/// is where.
fn waits_for(hub: &TcpListener, cache: &Path) -> Result<Server, Failed> {
    let port = free_port()?;
    let mut command = Command::new(executable());
    command.args(["serve", "--device", "cpu", "--model", "smollm2", "--port", &port.to_string()]);
    command.env("HF_ENDPOINT", format!("http://{}", hub.local_addr()?)).env("WORKER_ORCD_CACHE", cache);
    // No proxy and no pip that knows another way.
    command.env("PATH", "").env("NO_PROXY", "*").env_remove("WORKER_ORCD_LOG");
    let mut server = Server::spawn(&mut command)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    server.url = format!("http://{address}");
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        if start.elapsed() > Duration::from_secs(60) {
            return Err("it never listened".into());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(server)
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, Failed> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn starting() -> Result<(), Failed> {
    let (hub, cache) = (TcpListener::bind("127.0.0.1:0")?, tempfile::tempdir()?);
    let server = waits_for(&hub, cache.path())?;
    let health = server.get("/health")?;
    assert_eq!((health.status, &health.body["status"]), (200, &json!("starting")), "{}", health.body);
    assert_eq!(health.body["model"], "smollm2");
    assert_eq!(server.get("/ready")?.status, 503);
    let answer = server.post("/execute", &json!({"job_id": "a", "prompt": "a"}))?;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("MODEL_LOADING")), "{}", answer.body);
    assert_eq!(answer.body["retriable"], true);
    Ok(())
}

fn signal_while_starting() -> Result<(), Failed> {
    let (hub, cache) = (TcpListener::bind("127.0.0.1:0")?, tempfile::tempdir()?);
    let server = waits_for(&hub, cache.path())?;
    let asked = Instant::now();
    server.terminate()?;
    let status = server.ended()?;
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    Ok(())
}

fn load_fails() -> Result<(), Failed> {
    let (hub, cache) = (TcpListener::bind("127.0.0.1:0")?, tempfile::tempdir()?);
    let server = waits_for(&hub, cache.path())?;
    assert_eq!(server.get("/health")?.body["status"], "starting");
    // Whoever asks the hub hears nothing any more, and the server has no other source.
    drop(hub);
    let Ended { status, log } = server.ended_with_log()?;
    assert_eq!(status.code(), Some(1), "{log:#?}");
    let last = log.last().ok_or("no log")?;
    assert!(last.starts_with("error: smollm2 could not be fetched"), "{log:#?}");
    let told = log.iter().filter_map(|line| event(line)).find(|(name, _)| name == "error");
    assert_eq!(told.ok_or("no event")?.1["code"], "MODEL_LOAD_FAILED");
    Ok(())
}

fn no_gpu() -> Result<(), Failed> {
    let mut command = Command::new(executable());
    command.args(["serve", "--port", "0", "--gpu-device", "4096", "--model"]).arg(data(MODEL));
    let Ended { status, log } = Server::spawn(command.env_remove("WORKER_ORCD_LOG"))?.ended_with_log()?;
    assert_eq!(status.code(), Some(1), "{log:#?}");
    let told: Vec<_> =
        log.iter().filter_map(|line| event(line)).filter(|(name, _)| name == "error").collect();
    assert_eq!(told.len(), 1, "{log:#?}");
    assert_eq!((&told[0].1["code"], &told[0].1["device"]), (&json!("DEVICE_NOT_FOUND"), &json!("cuda:4096")));
    Ok(())
}

const WORKER_ID: &str = "0b5e7d4e-3f4c-4a53-9f0b-6f6c1d2e3a4b";

/// A server that calls back.
fn calls(callback: &Callback) -> Result<Server, Failed> {
    Server::spawn(serve(&data(MODEL)).args(["--callback-url", &callback.url, "--worker-id", WORKER_ID]))
}

fn callback() -> Result<(), Failed> {
    let callback = Callback::listen(&[202])?;
    let server = calls(&callback)?;
    let call = callback.next()?;
    assert_eq!(call.head, "POST /v2/internal/workers/ready");
    assert_eq!(call.ready, Some(200), "it is ready when it says so");

    let ready = server.wait_for("ready")?;
    let message = ready["message"].as_str().unwrap_or_default();
    let uri = message.strip_prefix("listening on ").ok_or("ready without an address")?;
    let loaded = server.wait_for("model_load_complete")?;
    assert!(loaded["vram_bytes"].as_u64() > Some(100_000), "{loaded}");
    let expected = json!({"worker_id": WORKER_ID, "model_ref": data(MODEL).display().to_string(),
        "vram_bytes": loaded["vram_bytes"], "uri": uri, "memory_architecture": "host", "capabilities": ["text-gen"]});
    assert_eq!(call.body, expected);

    server.wait_for("ready_callback")?;
    server.terminate()?;
    assert!(server.ended()?.success());
    assert_eq!(callback.rest().len(), 0, "once");
    Ok(())
}

fn callback_repeated() -> Result<(), Failed> {
    let callback = Callback::listen(&[500, 500, 200])?;
    let mut server = calls(&callback)?;
    let first = callback.next()?.body;
    assert_eq!((&callback.next()?.body, &callback.next()?.body), (&first, &first));
    server.url = first["uri"].as_str().ok_or("no uri")?.to_owned();
    let job = json!({"job_id": "a", "prompt": "a", "max_tokens": 3, "temperature": 0.0});
    assert_eq!(server.complete(&job)?.last.0, "end", "it serves on");
    server.terminate()?;
    let Ended { status, log } = server.ended_with_log()?;
    assert!(status.success(), "{log:#?}");
    let attempts: Vec<_> =
        log.iter().filter_map(|line| event(line)).filter(|(name, _)| name == "ready_callback").collect();
    let attempts: Vec<_> = attempts.iter().map(|(_, entry)| (&entry["attempt"], &entry["level"])).collect();
    assert_eq!(
        attempts,
        [(&json!(1), &json!("WARN")), (&json!(2), &json!("WARN")), (&json!(3), &json!("INFO"))]
    );
    assert_eq!(callback.rest().len(), 0, "no call follows success");
    Ok(())
}

fn callback_fails() -> Result<(), Failed> {
    let callback = Callback::listen(&[503])?;
    let Ended { status, log } = calls(&callback)?.ended_with_log()?;
    assert_eq!(status.code(), Some(1), "{log:#?}");
    assert_eq!(callback.rest().len(), 5);
    let last = log.last().ok_or("no log")?;
    assert!(
        last.starts_with("error: the ready callback to http://127.0.0.1:") && last.contains("503"),
        "{last}"
    );
    let told = log.iter().filter_map(|line| event(line)).find(|(name, _)| name == "error");
    assert_eq!(told.ok_or("no event")?.1["code"], "CALLBACK_FAILED");
    Ok(())
}

fn max_tokens_out() -> Result<(), Failed> {
    let server = Server::start(serve(&data(MODEL)).args(["--max-tokens-out", "10"]))?;
    let more = server.post("/execute", &json!({"job_id": "a", "prompt": "a", "max_tokens": 11}))?;
    assert_eq!(more.status, 400, "{}", more.body);
    assert_eq!(more.body["errors"][0]["constraint"], "range(1..=10)", "{}", more.body);
    for request in [
        json!({"job_id": "a", "prompt": "a", "temperature": 0.0, "max_tokens": 10}),
        json!({"job_id": "a", "prompt": "a", "temperature": 0.0}),
    ] {
        let all = server.complete(&request)?;
        assert_eq!((all.last("tokens_out"), all.last("stop_reason")), (&json!(10), &json!("max_tokens")));
    }
    Ok(())
}

fn keys() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("keys");
    std::fs::write(&file, "# two\nk3y-one\n  k3y-two\n")?;
    let server =
        Server::start(serve(&data(MODEL)).arg("--api-key-file").arg(&file).env("WORKER_ORCD_LOG", "trace"))?;
    let job = json!({"job_id": "a", "prompt": "a", "max_tokens": 1}).to_string();
    for (key, status) in [("k3y-one", 200), ("k3y-two", 200), ("k3y-three", 401), ("# two", 401)] {
        let post = Server::agent()
            .post(format!("{}/execute", server.url))
            .header("authorization", format!("Bearer {key}"));
        let mut answer = post.send(&job)?;
        assert_eq!(answer.status(), status, "{key}");
        answer.body_mut().read_to_string()?;
    }
    assert_eq!(server.get("/health")?.status, 200, "health is open");
    server.terminate()?;
    let log = server.ended_with_log()?.log;
    assert!(!log.iter().any(|line| line.contains("k3y")), "no key is logged: {log:#?}");
    Ok(())
}

fn shutdown() -> Result<(), Failed> {
    let server = Server::start(serve(&data(MODEL)).arg("--allow-shutdown"))?;
    assert_eq!(server.post("/shutdown", &json!({}))?.status, 202);
    assert!(server.ended()?.success());
    let server = Server::start(&mut serve(&data(MODEL)))?;
    assert_eq!(server.post("/shutdown", &json!({}))?.status, 404);
    assert_eq!(server.get("/ready")?.status, 200, "it serves on");
    Ok(())
}

fn second_signal(model: &Path) -> Result<(), Failed> {
    for (second, code) in [("TERM", 143), ("INT", 130)] {
        let server = Server::start(serve(model).args(["--kv-cache-size-mb", "30"]))?;
        let mut events = server.execute(&json!({"job_id": "a", "prompt": "Once upon a time", "seed": 1}))?;
        events.expect("started")?;
        events.expect("token")?;
        server.terminate()?;
        while server.get("/health")?.body["status"] != "draining" {}
        let asked = Instant::now();
        server.signal(second)?;
        assert_eq!(server.ended()?.code(), Some(code));
        assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    }
    Ok(())
}
