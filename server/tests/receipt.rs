//! The receipt in the `end` event, and what becomes of the event where the model's hash is late or never comes.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::{CHAT, COMPLETIONS, Events, PATIENCE, Server, begin, blocks, bytes, end, loading, take, token};
use runtime::engine::{JobQueue, Next};
use runtime::receipt::{Digest, Ids};
use serde_json::{Value, json};
use server::{Config, ModelHash, Worker};
use tokio::sync::watch;

const HASH: ModelHash = ModelHash::Known(Digest([0xab; 32]));

/// A server whose model's hash is what the sender says.
async fn hashed(
    hash: ModelHash,
    config: Config,
    script: impl FnOnce(JobQueue) + Send + 'static,
) -> (Server, watch::Sender<ModelHash>) {
    let (tell, model_hash) = watch::channel(hash);
    let (server, load) = loading(config).await;
    let worker = server.worker(bytes, script);
    assert!(load.send(Worker { model_hash, ..worker }).is_ok());
    (server, tell)
}

/// One job of one token.
fn one(queue: &JobQueue) {
    let mut job = begin(queue);
    token(&mut job, 0, "x");
    end(queue, job, 1);
}

/// The engine of one job, which lives on.
fn once(queue: JobQueue) {
    one(&queue);
    assert!(take(&queue).is_none(), "no further job");
}

/// The events up to the last before the end.
async fn until_the_end(server: &Server) -> Events {
    let mut events = server.execute("a").await;
    events.expect("started").await;
    events.expect("token").await;
    events
}

#[tokio::test]
async fn the_end_tells_all_that_made_the_answer() {
    let (server, _tell) = hashed(HASH, Config::default(), once).await;
    let body = json!({
        "job_id": "a", "prompt": "s3cret", "max_tokens": 9, "temperature": 0.7, "top_p": 0.95, "top_k": 40,
        "min_p": 0.05, "repetition_penalty": 1.1, "stop": ["END", "\n"], "seed": u64::MAX,
    });
    let answer = server.post("/execute", &body).await;
    let events = Events::of(answer).rest().await;
    let receipt = events[2].1["receipt"].to_string();
    let prompt = Ids::of(&bytes("s3cret")).blake3.to_string();
    let want = json!({
        "format": 1,
        "model": {"name": "tiny", "blake3": "ab".repeat(32)},
        "ptx_sha256": "00ff",
        "numerics": "f32",
        "numerics_version": 4,
        "device": "cpu",
        "request": {
            "prompt": {"tokens": 6, "blake3": prompt},
            "max_tokens": 9,
            "min_tokens": 0,
            "ignore_eos": false,
            "stop": ["END", "\n"],
            "sampling": {
                "temperature": 0.7, "top_p": 0.95, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1,
                "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": [], "seed": u64::MAX,
            },
        },
        "output": {"tokens": 1, "blake3": "00".repeat(32)},
        "stop_reason": "max_tokens",
    });
    assert_eq!(receipt, want.to_string());
    assert!(!receipt.contains("s3cret"));
}

#[tokio::test]
async fn what_the_server_chose_for_the_client_is_told_too() {
    let (server, _tell) = hashed(HASH, Config { max_tokens: 77, ..Config::default() }, once).await;
    let events = server.execute("a").await.rest().await;
    let request = &events[2].1["receipt"]["request"];
    assert_eq!(request["max_tokens"], 77);
    assert_eq!(request["sampling"]["seed"], events[0].1["seed"]);
}

#[tokio::test]
async fn the_end_waits_for_the_hash_and_the_tokens_do_not() {
    let config = Config { keep_alive: Duration::from_millis(20), ..Config::default() };
    let (server, tell) = hashed(ModelHash::Pending, config, once).await;
    let mut events = server.execute("a").await;
    let mut named = Vec::new();
    while named.len() < 2 {
        named.extend(events.block().await.filter(|block| !block.starts_with(':')));
    }
    assert!(named[1].starts_with("event: token\n"), "{named:?}");
    // The end is there, as is nobody's hash.
    for _ in 0..3 {
        assert_eq!(events.block().await.unwrap(), ": keep-alive");
    }
    tell.send_replace(HASH);
    loop {
        let block = events.block().await.unwrap();
        if block != ": keep-alive" {
            assert!(block.starts_with("event: end\n") && block.contains(&"ab".repeat(32)), "{block}");
            break;
        }
    }
    assert_eq!(events.block().await, None);
}

#[tokio::test]
async fn without_the_models_hash_there_is_no_receipt() {
    for gone in [true, false] {
        let (server, tell) = hashed(ModelHash::Pending, Config::default(), once).await;
        let mut events = until_the_end(&server).await;
        if gone {
            drop(tell);
        } else {
            tell.send_replace(ModelHash::Unknown);
        }
        let end = events.expect("end").await;
        assert_eq!((&end["tokens_out"], end.get("receipt")), (&json!(1), None));
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_the_hash() {
    let (mut server, _tell) = hashed(ModelHash::Pending, Config::default(), once).await;
    let mut events = until_the_end(&server).await;
    server.stop();
    assert_eq!(events.expect("end").await.get("receipt"), None);
    assert_eq!(events.next().await, None);
    server.stopped().await;
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let config = Config { receipt_timeout: Duration::from_millis(20), ..Config::default() };
    let (server, _tell) = hashed(ModelHash::Pending, config, once).await;
    let mut events = until_the_end(&server).await;
    assert_eq!(events.expect("end").await.get("receipt"), None);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn each_choice_has_its_receipt() {
    let (server, _tell) = hashed(HASH, Config::default(), |queue| (0..3).for_each(|_| one(&queue))).await;
    let answer = server.post(COMPLETIONS, &json!({"prompt": "a", "n": 2, "seed": 8})).await;
    let answer: Value = answer.text().await.unwrap().parse().unwrap();
    for (i, seed) in [(0, 8), (1, 9)] {
        let receipt = &answer["choices"][i]["receipt"];
        assert_eq!(receipt["request"]["sampling"]["seed"], seed);
        assert_eq!(receipt["model"]["blake3"], "ab".repeat(32));
    }
    let chat = json!({"messages": [{"role": "user", "content": "a"}], "stream": true});
    let told = blocks(Events::of(server.post(CHAT, &chat).await)).await;
    let receipts: Vec<bool> = told.iter().map(|block| block.contains("\"receipt\":{")).collect();
    // The role, a token, the end, and [DONE].
    assert_eq!(receipts, [false, false, true, false], "{told:?}");
}

#[tokio::test]
async fn who_leaves_while_the_hash_is_awaited_cancels_nobody() {
    let (dropped, was_dropped) = mpsc::channel::<()>();
    let (watched, was_watched) = tokio::sync::oneshot::channel();
    let (server, tell) = hashed(ModelHash::Pending, Config::default(), move |queue| {
        one(&queue);
        // The same id again, and the first stream is dropped meanwhile.
        let job = begin(&queue);
        was_dropped.recv_timeout(PATIENCE).unwrap();
        for _ in 0..50 {
            let Next::Work { cancelled, .. } = queue.next(0, 1) else { panic!("stopped") };
            assert_eq!(cancelled, []);
            std::thread::sleep(Duration::from_millis(1));
        }
        watched.send(()).unwrap();
        end(&queue, job, 1);
        assert!(take(&queue).is_none(), "no further job");
    })
    .await;
    let first = until_the_end(&server).await;
    let mut second = server.execute("a").await;
    second.expect("started").await;
    drop(first);
    dropped.send(()).unwrap();
    // Only then: the first stream must not end by itself.
    tokio::time::timeout(PATIENCE, was_watched).await.unwrap().expect("nobody was cancelled");
    tell.send_replace(HASH);
    assert!(second.expect("end").await["receipt"].is_object());
}
