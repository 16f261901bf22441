//! What `/metrics` counts.

mod common;

use std::collections::BTreeMap;
use std::sync::mpsc;

use common::{
    LIMITS, PATIENCE, Server, begin, bytes, completion, echo, end, fail, loading, serve, token,
    wait_for_cancel,
};
use runtime::engine::{CacheUse, JobKey};
use runtime::request::{Event, JobError, StopReason};
use serde_json::json;
use server::Config;

/// Each sample's value by its name and labels.
async fn scrape(server: &Server) -> BTreeMap<String, f64> {
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4");
    let text = answer.text().await.unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// The samples must be these; absent ones are -1.
#[track_caller]
fn expect(samples: &BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    for &(name, value) in expected {
        assert_eq!(samples.get(name).copied().unwrap_or(-1.0), value, "{name} in {samples:#?}");
    }
}

#[tokio::test]
async fn a_completed_job_is_counted_once() {
    let server = serve(Config::default(), echo).await;
    // Five bytes are five tokens, there and back.
    for _ in 0..2 {
        server.execute("a").await.rest().await;
    }
    let samples = scrape(&server).await;
    expect(
        &samples,
        &[
            (r#"worker_requests_total{outcome="max_tokens"}"#, 2.0),
            ("worker_tokens_in_total", 10.0),
            ("worker_tokens_generated_total", 10.0),
            ("worker_time_to_first_token_seconds_count", 2.0),
            ("worker_inter_token_seconds_count", 8.0),
            ("worker_inference_duration_ms_count", 2.0),
        ],
    );
    assert!(samples["worker_inter_token_seconds_sum"] < 10.0);
}

#[tokio::test]
async fn a_text_is_no_token_and_the_account_at_the_end_is_right() {
    let server = serve(Config::default(), |queue| {
        // Two tokens, and a third text with the token that ends the sequence.
        let mut job = begin(&queue);
        for index in 0..3 {
            token(&mut job, index, "x");
        }
        end(&queue, job, 2);
        // Nine tokens in one text.
        let mut job = begin(&queue);
        token(&mut job, 0, "x");
        queue.finished(&JobKey::of(&job.request));
        let stop_reason = StopReason::EndOfSequence;
        let decode_time = PATIENCE;
        job.sink.send(Event::End(completion(5, 9, decode_time, stop_reason))).unwrap();
        // Four texts, then a failure.
        let mut job = begin(&queue);
        for index in 0..4 {
            token(&mut job, index, "x");
        }
        fail(&queue, job, JobError::Timeout(PATIENCE));
        // A failure before any text.
        let job = begin(&queue);
        fail(&queue, job, JobError::OutOfMemory("none".to_owned()));
    })
    .await;
    for _ in 0..4 {
        server.execute("a").await.rest().await;
    }
    expect(
        &scrape(&server).await,
        &[
            ("worker_tokens_generated_total", 2.0 + 9.0 + 4.0),
            ("worker_tokens_in_total", 20.0),
            ("worker_inference_duration_ms_count", 2.0),
            (r#"worker_requests_total{outcome="max_tokens"}"#, 1.0),
            (r#"worker_requests_total{outcome="eos"}"#, 1.0),
            (r#"worker_requests_total{outcome="inference_timeout"}"#, 1.0),
            (r#"worker_requests_total{outcome="vram_oom"}"#, 1.0),
        ],
    );
}

#[tokio::test]
async fn refused_requests_are_counted_and_other_paths_are_not() {
    let server = serve(Config { body_limit: 1000, ..Config::default() }, echo).await;
    server.post("/execute", &json!({})).await;
    server.post("/execute", &json!({"job_id": "a", "prompt": "x".repeat(2000)})).await;
    server.post("/cancel", &json!({})).await;
    server.post("/nowhere", &json!({})).await;
    let samples = scrape(&server).await;
    expect(
        &samples,
        &[
            (r#"worker_requests_total{outcome="invalid_request"}"#, 1.0),
            (r#"worker_requests_total{outcome="payload_too_large"}"#, 1.0),
        ],
    );
    assert_eq!(samples.keys().filter(|name| name.starts_with("worker_requests_total")).count(), 2);
}

#[tokio::test]
async fn a_job_whose_reader_left_is_counted_once_as_cancelled() {
    let (done, is_done) = mpsc::channel::<()>();
    let server = serve(Config::default(), move |queue| {
        // The engine tells the first job, and finds the second's reader gone by itself.
        let job = begin(&queue);
        wait_for_cancel(&queue, &job);
        fail(&queue, job, JobError::Cancelled);
        let job = begin(&queue);
        wait_for_cancel(&queue, &job);
        queue.finished(&JobKey::of(&job.request));
        drop(job);
        done.send(()).unwrap();
        echo(queue);
    })
    .await;
    for _ in 0..2 {
        let mut events = server.execute("a").await;
        events.expect("started").await;
        drop(events);
        while server.engine.status().running > 0 {
            tokio::task::yield_now().await;
        }
    }
    tokio::task::spawn_blocking(move || is_done.recv_timeout(PATIENCE)).await.unwrap().unwrap();
    expect(&scrape(&server).await, &[(r#"worker_requests_total{outcome="cancelled"}"#, 2.0)]);
}

#[tokio::test]
async fn gauges_are_the_engines_cached_state() {
    let (server, load) = loading(Config::default()).await;
    let samples = scrape(&server).await;
    expect(&samples, &[("worker_resident", 0.0), ("worker_vram_bytes{purpose=\"weights\"}", -1.0)]);
    let (go, gone) = mpsc::channel::<()>();
    let script = move |queue: runtime::engine::JobQueue| {
        let job = begin(&queue);
        queue.publish(CacheUse { pages_used: 3, pages_cached: 5, cached_tokens: 96, preemptions: 2 });
        gone.recv_timeout(PATIENCE).unwrap();
        end(&queue, job, 0);
        gone.recv_timeout(PATIENCE).unwrap();
    };
    assert!(load.send(server.worker(bytes, script)).is_ok());
    while server.get("/ready").await.status() != 200 {}
    let mut running = server.execute("a").await;
    running.expect("started").await;
    let _waiting = server.execute("b").await;
    while server.engine.status().kv_pages_used == 0 {}
    expect(
        &scrape(&server).await,
        &[
            ("worker_resident", 1.0),
            (r#"worker_vram_bytes{purpose="weights"}"#, 600.0),
            (r#"worker_vram_bytes{purpose="kv_cache"}"#, 400.0),
            ("worker_running", 1.0),
            ("worker_queue_depth", 1.0),
            (r#"worker_kv_pages{state="used"}"#, 3.0),
            (r#"worker_kv_pages{state="free"}"#, LIMITS.pages as f64 - 8.0),
            (r#"worker_kv_pages{state="cached"}"#, 5.0),
            ("worker_prompt_tokens_cached_total", 96.0),
            ("worker_preemptions_total", 2.0),
        ],
    );
    server.engine.not_resident();
    expect(&scrape(&server).await, &[("worker_resident", 0.0)]);
    go.send(()).unwrap();
    go.send(()).unwrap();
}
