//! OpenAI's API: the jobs behind an answer, when not all goes well.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{
    CHAT, COMPLETIONS, Events, KINDS, LIMITS, PATIENCE, begin, begin_all, blocks, chunks, data, end, fail,
    serve, token, wait_for_cancel, with,
};
use runtime::engine::{Job, JobKey, JobQueue, Next};
use runtime::request::JobError;
use serde_json::{Value, json};
use server::Config;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Waits until each of these jobs was cancelled.
fn all_cancelled(queue: &JobQueue, mut jobs: Vec<Job>) {
    for _ in 0..PATIENCE.as_millis() {
        let Next::Work { cancelled, .. } = queue.next(0, 1) else { panic!("stopped") };
        jobs.retain(|job| !cancelled.contains(&JobKey::of(&job.request)));
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
    let body = with(COMPLETIONS, &json!({"stream": true, "n": 3, "echo": true}));
    let mut events = Events::of(server.post(COMPLETIONS, &body).await);
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
    let body = with(CHAT, &json!({"n": 3})).to_string();
    let request = server.client.post(server.url(CHAT)).body(body);
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
        end(&queue, running, 0);
        let waiting = begin(&queue);
        end(&queue, waiting, 0);
    })
    .await;
    let mut running = server.execute("running").await;
    running.expect("started").await;
    let waiting = server.execute("waiting").await;
    for path in KINDS {
        let answer = server.post(path, &with(path, &json!({"n": LIMITS.queue_depth}))).await;
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["retry-after"], "1");
        let error: Value = answer.text().await.unwrap().parse().unwrap();
        assert_eq!(error["error"]["code"], "rate_limit_exceeded");
        assert_eq!(error["error"]["type"], "rate_limit_error");
        // Not even those that would have had room.
        assert_eq!(server.engine.status().waiting, 1);
    }
    read.send(()).unwrap();
    assert_eq!(running.rest().await.last().unwrap().0, "end");
    assert_eq!(waiting.rest().await.last().unwrap().0, "end");
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
    let body = with(COMPLETIONS, &json!({"stream": true, "n": 2}));
    let blocks = blocks(Events::of(server.post(COMPLETIONS, &body).await)).await;
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
            let answer = server.post(path, &with(path, &json!({"n": 2}))).await;
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
    let body = with(CHAT, &json!({"stream": true}));
    let mut events = Events::of(server.post(CHAT, &body).await);
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
    let answer = server.post(COMPLETIONS, &body).await;
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
async fn a_talkative_choice_does_not_keep_the_others_waiting() {
    let (go, gone) = mpsc::channel::<()>();
    let (done, is_done) = mpsc::channel::<()>();
    let server = serve(Config::default(), move |queue| {
        gone.recv_timeout(PATIENCE).unwrap();
        let mut jobs = begin_all(&queue, 3);
        for index in 0..100 {
            token(&mut jobs[0], index, "x");
        }
        token(&mut jobs[2], 0, "y");
        jobs.into_iter().for_each(|job| end(&queue, job, 1));
        done.send(()).unwrap();
    })
    .await;
    let body = json!({"prompt": "p", "max_tokens": 100, "n": 3, "stream": true});
    let answer = server.post(COMPLETIONS, &body).await;
    // The server runs on this thread: while it waits, nothing leaves the jobs' channels.
    go.send(()).unwrap();
    is_done.recv_timeout(PATIENCE).unwrap();
    let chunks = chunks(answer).await;
    let at = chunks.iter().position(|chunk| chunk["choices"][0]["text"] == "y").unwrap();
    assert!(at < 4, "it came after {at} others");
}
