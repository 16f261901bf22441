//! What a shutdown does.

mod common;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{PATIENCE, begin, echo, end, fail, serve, take, token, wait_for_cancel};
use runtime::engine::JobQueue;
use runtime::request::JobError;
use serde_json::json;
use server::Config;

/// An engine whose only job gets its token once the test says so, and which is then told to stop.
fn one_token_when_told(gone: mpsc::Receiver<()>) -> impl FnOnce(JobQueue) + Send {
    move |queue| {
        let mut job = begin(&queue);
        gone.recv_timeout(PATIENCE).unwrap();
        token(&mut job, 0, "last");
        end(&queue, job, 1);
        assert!(take(&queue).is_none(), "told to stop");
    }
}

#[tokio::test]
async fn a_running_job_finishes_while_new_ones_are_refused() {
    let (go, gone) = mpsc::channel::<()>();
    let mut server = serve(Config::default(), one_token_when_told(gone)).await;
    let mut events = server.execute("a").await;
    events.expect("started").await;
    server.stop();
    while server.get("/ready").await.status() == 200 {}

    let refused = server.post("/execute", &json!({"job_id": "b", "prompt": "p"})).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");
    let body: serde_json::Value = refused.text().await.unwrap().parse().unwrap();
    assert_eq!((&body["code"], &body["retriable"]), (&json!("DRAINING"), &json!(true)));
    let health: serde_json::Value = server.get("/health").await.text().await.unwrap().parse().unwrap();
    assert_eq!(health["status"], "draining");

    go.send(()).unwrap();
    assert_eq!(events.expect("token").await["t"], "last");
    events.expect("end").await;
    assert_eq!(events.next().await, None);
    server.stopped().await;
}

#[tokio::test]
async fn a_job_that_outlasts_the_drain_is_cancelled_and_its_client_told() {
    let config = Config { drain_timeout: Duration::from_millis(100), ..Config::default() };
    let mut server = serve(config, |queue| {
        let job = begin(&queue);
        wait_for_cancel(&queue, &job);
        fail(&queue, job, JobError::Cancelled);
        assert!(take(&queue).is_none(), "told to stop");
    })
    .await;
    let mut events = server.execute("a").await;
    events.expect("started").await;
    server.stop();
    assert_eq!(events.expect("error").await["code"], "CANCELLED");
    server.stopped().await;
}

#[tokio::test]
async fn an_idle_server_stops_at_once_though_connections_are_open() {
    let mut server = serve(Config::default(), echo).await;
    assert_eq!(server.get("/ready").await.status(), 200);
    let start = Instant::now();
    server.stop();
    server.stopped().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_failed_engine_ends_the_server_within_seconds_and_its_client_is_told() {
    let server = serve(Config::default(), |queue| {
        let job = begin(&queue);
        fail(&queue, job, JobError::Device("CUDA_ERROR_ILLEGAL_ADDRESS".to_owned()));
        queue.fail("CUDA_ERROR_ILLEGAL_ADDRESS".to_owned());
    })
    .await;
    let start = Instant::now();
    let mut events = server.execute("a").await;
    events.expect("started").await;
    assert_eq!(events.expect("error").await["code"], "CUDA_ERROR");
    server.stopped().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn neither_a_stuck_engine_nor_a_stuck_reader_holds_up_the_exit() {
    let config = Config { drain_timeout: Duration::from_millis(100), ..Config::default() };
    let mut server = serve(config, |queue| {
        let mut job = begin(&queue);
        for index in 0..2000 {
            token(&mut job, index, &"x".repeat(16384));
        }
        std::thread::sleep(PATIENCE * 2);
    })
    .await;
    let _unread = server.execute("a").await;
    server.stop();
    server.stopped().await;
}

#[tokio::test]
async fn a_request_for_a_shutdown_does_what_a_signal_does() {
    let (go, gone) = mpsc::channel::<()>();
    let server = serve(Config { allow_shutdown: true, ..Config::default() }, one_token_when_told(gone)).await;
    let mut events = server.execute("a").await;
    events.expect("started").await;
    let answer = server.post("/shutdown", &json!({})).await;
    assert_eq!(answer.status(), 202);
    assert_eq!(answer.text().await.unwrap(), r#"{"status":"draining"}"#);
    while server.get("/ready").await.status() == 200 {}
    go.send(()).unwrap();
    assert_eq!(events.expect("token").await["t"], "last");
    events.expect("end").await;
    server.stopped().await;
}

#[tokio::test]
async fn a_shutdown_that_is_not_enabled_says_how_and_does_nothing() {
    let server = serve(Config::default(), echo).await;
    let answer = server.post("/shutdown", &json!({})).await;
    assert_eq!(answer.status(), 404);
    let body: serde_json::Value = answer.text().await.unwrap().parse().unwrap();
    assert_eq!(body["code"], "NOT_FOUND");
    assert!(body["message"].as_str().unwrap().contains("--allow-shutdown"), "{body}");
    server.execute("a").await.expect("started").await;
}
