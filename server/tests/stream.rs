//! The event stream of `/execute`.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{Events, PATIENCE, begin, completion, echo, end, fail, serve, take, token, wait_for_cancel};
use runtime::engine::{EngineState, JobKey, Next, Status};
use runtime::request::{Event, JobError, StopReason};
use serde_json::json;
use server::Config;

#[tokio::test]
async fn the_bytes_of_a_stream_are_these() {
    let server = serve(Config::default(), |queue| {
        let mut job = begin(&queue);
        token(&mut job, 0, "two\nlines");
        token(&mut job, 1, "é\"");
        let stop_reason = StopReason::StopSequence("END".to_owned());
        let decode_time = Duration::from_micros(12_900);
        job.sink.send(Event::End(completion(2, 3, decode_time, stop_reason))).unwrap();
    })
    .await;
    let body = json!({"job_id": "a", "prompt": "hi", "seed": u64::MAX, "stop": ["END"]}).to_string();
    let request = server.client.post(server.url("/execute")).header("X-Correlation-ID", "c-1").body(body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["cache-control"], "no-cache");
    assert_eq!(answer.headers()["x-correlation-id"], "c-1");

    let text = answer.text().await.unwrap();
    let (head, rest) = text.split_once("\"started_at\":\"").unwrap();
    let (started_at, rest) = rest.split_once('"').unwrap();
    assert_eq!((started_at.len(), &started_at[10..11], &started_at[23..]), (24, "T", "Z"), "{started_at}");
    assert_eq!(head, "event: started\ndata: {\"job_id\":\"a\",\"model\":\"tiny\",");
    assert_eq!(
        rest,
        concat!(
            ",\"seed\":18446744073709551615,\"correlation_id\":\"c-1\"}\n\n",
            "event: token\ndata: {\"t\":\"two\\nlines\",\"i\":0}\n\n",
            "event: token\ndata: {\"t\":\"é\\\"\",\"i\":1}\n\n",
            "event: end\ndata: {\"tokens_out\":3,\"tokens_in\":2,\"decode_time_ms\":12,",
            "\"stop_reason\":\"stop_sequence\",\"stop_sequence_matched\":\"END\",\"seed\":18446744073709551615}\n\n",
        )
    );
}

#[tokio::test]
async fn each_token_arrives_before_the_next_is_computed() {
    let (read, was_read) = mpsc::channel::<u32>();
    let server = serve(Config::default(), move |queue| {
        let mut job = begin(&queue);
        for index in 0..20 {
            token(&mut job, index, "x");
            assert_eq!(was_read.recv_timeout(PATIENCE), Ok(index), "the client reads a token at once");
        }
        end(&queue, job, 20);
    })
    .await;
    let mut events = server.execute("a").await;
    events.expect("started").await;
    for index in 0..20 {
        assert_eq!(events.expect("token").await, json!({"t": "x", "i": index}));
        read.send(index).unwrap();
    }
    assert_eq!(events.expect("end").await["tokens_out"], 20);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_drawn_seed_is_told_at_the_start_and_at_the_end() {
    let server = serve(Config::default(), echo).await;
    let events = server.execute("a").await.rest().await;
    let (started, end) = (&events.first().unwrap().1, &events.last().unwrap().1);
    assert!(started["seed"].is_u64());
    assert_eq!(started["seed"], end["seed"]);
}

#[tokio::test]
async fn the_headers_do_not_wait_for_the_engine() {
    let server = serve(Config::default(), |queue| {
        take(&queue);
        std::thread::sleep(PATIENCE);
    })
    .await;
    // Returns as soon as the head has arrived; the engine never sends anything.
    let _events = server.execute("a").await;
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
    let mut events = server.execute("a").await;
    while events.block().await.unwrap().starts_with(':') {}
    assert_eq!(events.block().await.unwrap(), ": keep-alive");
    assert_eq!(events.block().await.unwrap(), ": keep-alive");
    read.send(()).unwrap();
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_and_does_not_hold_up_the_engine() {
    let (done, is_done) = tokio::sync::oneshot::channel();
    let long = "x".repeat(16384);
    let server = serve(Config::default(), {
        let long = long.clone();
        move |queue| {
            let mut job = begin(&queue);
            for index in 0..2048 {
                token(&mut job, index, &long);
            }
            end(&queue, job, 2048);
            done.send(()).unwrap();
        }
    })
    .await;
    // 32 MB, more than the sockets hold: nothing is read until the engine has done all its work.
    let mut events = server.execute("a").await;
    tokio::time::timeout(PATIENCE, is_done).await.expect("the engine does not wait").unwrap();
    events.expect("started").await;
    for index in 0..2048 {
        assert_eq!(events.expect("token").await, json!({"t": long, "i": index}));
    }
    events.expect("end").await;
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_closed_connection_cancels_a_job_that_runs() {
    let (done, is_done) = tokio::sync::oneshot::channel();
    let server = serve(Config::default(), |queue| {
        let job = begin(&queue);
        wait_for_cancel(&queue, &job);
        done.send(()).unwrap();
    })
    .await;
    let mut events = server.execute("a").await;
    events.expect("started").await;
    drop(events);
    tokio::time::timeout(PATIENCE, is_done).await.unwrap().expect("cancelled while the engine was silent");
}

#[tokio::test]
async fn a_closed_connection_cancels_a_job_that_waits() {
    let (done, is_done) = tokio::sync::oneshot::channel();
    let server = serve(Config::default(), |queue| {
        let _running = begin(&queue);
        for _ in 0..PATIENCE.as_millis() {
            // Without room: only a job that is over is taken.
            let Next::Work { jobs, cancelled } = queue.next(0, 1) else { panic!("stopped") };
            if let [job] = &jobs[..] {
                done.send((JobKey::of(&job.request), cancelled)).unwrap();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
    .await;
    let mut first = server.execute("a").await;
    first.expect("started").await;
    let second = server.execute("b").await;
    drop(second);
    let taken =
        tokio::time::timeout(PATIENCE, is_done).await.unwrap().expect("the waiting job was cancelled");
    let key = JobKey { client: 0, id: "b".to_owned() };
    assert_eq!(taken, (key.clone(), vec![key]));
}

#[tokio::test]
async fn a_stream_read_to_its_end_cancels_nothing() {
    let server = serve(Config::default(), |queue| {
        let job = begin(&queue);
        end(&queue, job, 0);
        // The same id again, and the first stream is dropped meanwhile.
        let job = begin(&queue);
        for _ in 0..50 {
            let Next::Work { cancelled, .. } = queue.next(0, 1) else { panic!("stopped") };
            assert_eq!(cancelled, []);
            std::thread::sleep(Duration::from_millis(1));
        }
        end(&queue, job, 1);
    })
    .await;
    let first = server.execute("a").await.rest().await;
    assert_eq!(first.last().unwrap().0, "end");
    let second = server.execute("a").await.rest().await;
    assert_eq!(second.last().unwrap().1["tokens_out"], 1);
}

#[tokio::test]
async fn a_finished_job_whose_stream_was_not_read_does_not_cancel_its_successor() {
    let (dropped, was_dropped) = mpsc::channel::<()>();
    let server = serve(Config::default(), move |queue| {
        let mut job = begin(&queue);
        // More than the sockets hold, so that the end stays unread.
        for index in 0..2046 {
            token(&mut job, index, &"x".repeat(16384));
        }
        end(&queue, job, 2046);
        let job = begin(&queue);
        was_dropped.recv_timeout(PATIENCE).unwrap();
        for _ in 0..50 {
            let Next::Work { cancelled, .. } = queue.next(0, 1) else { panic!("stopped") };
            assert_eq!(cancelled, []);
            std::thread::sleep(Duration::from_millis(1));
        }
        end(&queue, job, 1);
    })
    .await;
    let first = server.execute("a").await;
    let unfinished = |status: Status| status.waiting + status.running > 0;
    while unfinished(server.engine.status()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut second = server.execute("a").await;
    second.expect("started").await;
    drop(first);
    dropped.send(()).unwrap();
    assert_eq!(second.rest().await.last().unwrap().0, "end");
}

#[tokio::test]
async fn each_failure_of_a_job_has_its_code() {
    let cases = [
        (JobError::Cancelled, "CANCELLED", false),
        (JobError::Timeout(Duration::from_secs(300)), "INFERENCE_TIMEOUT", true),
        (JobError::OutOfMemory("9 bytes needed, 1 free".to_owned()), "VRAM_OOM", true),
        (JobError::Launch("cuLaunchKernel".to_owned()), "KERNEL_LAUNCH_FAILED", false),
        (JobError::NotResident("elsewhere".to_owned()), "VRAM_RESIDENCY_FAILED", false),
        (JobError::Device("CUDA_ERROR_ILLEGAL_ADDRESS".to_owned()), "CUDA_ERROR", false),
        (JobError::Internal("a bug".to_owned()), "INTERNAL", false),
    ];
    let errors: Vec<JobError> = cases.iter().map(|case| case.0.clone()).collect();
    let server = serve(Config::default(), move |queue| {
        for error in errors {
            let job = begin(&queue);
            fail(&queue, job, error);
        }
    })
    .await;
    for (error, code, retriable) in cases {
        let events = server.execute("a").await.rest().await;
        let (name, data) = events.last().unwrap();
        assert_eq!(name, "error");
        assert_eq!(*data, json!({"code": code, "message": error.to_string(), "retriable": retriable}));
        assert_eq!(events.len(), 2, "started, then error: {events:?}");
    }
}

#[tokio::test]
async fn a_stream_whose_engine_died_ends_with_an_error() {
    let server = serve(Config::default(), |queue| {
        let mut job = begin(&queue);
        token(&mut job, 0, "x");
    })
    .await;
    let events = server.execute("a").await.rest().await;
    let names: Vec<&str> = events.iter().map(|event| event.0.as_str()).collect();
    assert_eq!(names, ["started", "token", "error"]);
    assert_eq!(events[2].1["code"], "INTERNAL");
}

#[tokio::test]
async fn cancel_ends_the_stream_with_cancelled() {
    let server = serve(Config::default(), |queue| {
        let job = begin(&queue);
        wait_for_cancel(&queue, &job);
        fail(&queue, job, JobError::Cancelled);
    })
    .await;
    let mut events = server.execute("a").await;
    events.expect("started").await;
    for _ in 0..2 {
        let answer = server.post("/cancel", &json!({"job_id": "a"})).await;
        assert_eq!(answer.status(), 202);
        assert_eq!(answer.text().await.unwrap(), r#"{"status":"cancelling","job_id":"a"}"#);
    }
    assert_eq!(events.expect("error").await["code"], "CANCELLED");
    assert_eq!(server.post("/cancel", &json!({"job_id": "never heard of"})).await.status(), 202);
}

#[tokio::test]
async fn probes_answer_while_a_stream_runs() {
    let (probed, was_probed) = mpsc::channel::<()>();
    let server = serve(Config::default(), move |queue| {
        let job = begin(&queue);
        was_probed.recv_timeout(PATIENCE).unwrap();
        end(&queue, job, 0);
        take(&queue);
    })
    .await;
    let mut events: Events = server.execute("a").await;
    events.expect("started").await;
    assert_eq!(server.engine.status().state, EngineState::Busy);
    let health: serde_json::Value = server.get("/health").await.text().await.unwrap().parse().unwrap();
    assert_eq!((&health["status"], &health["resident"]), (&json!("busy"), &json!(true)));
    assert_eq!(server.get("/ready").await.status(), 200);
    probed.send(()).unwrap();
    events.expect("end").await;
}

#[tokio::test]
async fn all_that_a_job_can_send_fits_a_stream_that_is_not_read_at_all() {
    let (go, gone) = mpsc::channel::<()>();
    let (done, is_done) = mpsc::channel::<()>();
    let server = serve(Config::default(), move |queue| {
        let mut job = take(&queue).unwrap();
        gone.recv_timeout(PATIENCE).unwrap();
        job.sink.send(Event::Started).unwrap();
        for index in 0..3 {
            token(&mut job, index, "x");
        }
        let (decode_time, stop_reason) = (Duration::ZERO, StopReason::MaxTokens);
        job.sink.send(Event::End(completion(1, 3, decode_time, stop_reason))).unwrap();
        done.send(()).unwrap();
    })
    .await;
    let answer = server.post("/execute", &json!({"job_id": "a", "prompt": "p", "max_tokens": 3})).await;
    // The server runs on this thread: while it waits, nothing leaves the job's channel.
    go.send(()).unwrap();
    is_done.recv_timeout(PATIENCE).expect("the engine does not wait, and loses nothing");
    let names: Vec<String> = Events::of(answer).rest().await.into_iter().map(|event| event.0).collect();
    assert_eq!(names, ["started", "token", "token", "token", "end"]);
}
