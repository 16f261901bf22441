//! What the server answers while the model is being loaded.

mod common;

use std::time::Duration;

use common::{PATIENCE, bytes, echo, loading};
use serde_json::{Value, json};
use server::Config;
use tokio::time::timeout;

fn config() -> Config {
    Config { model: "tiny".to_owned(), ..Config::default() }
}

#[tokio::test]
async fn a_loading_server_answers_and_serves_once_the_model_is_there() {
    let (server, load) = loading(config()).await;
    let mut health: Value = server.get("/health").await.text().await.unwrap().parse().unwrap();
    assert!(health.as_object_mut().unwrap().remove("uptime_seconds").unwrap().is_u64());
    let expected = json!({
        "status": "starting", "resident": false, "model": "tiny", "architecture": null, "quant_kind": null,
        "tokenizer_kind": null, "vocab_size": null, "context_length": null, "vram_bytes_used": 0,
        "vram_bytes_total": 0, "device": null, "sm": null, "driver_version": null, "numerics": null,
        "capabilities": ["text-gen"], "protocol": "sse",
    });
    assert_eq!(health, expected);
    let ready = server.get("/ready").await;
    assert_eq!(ready.status(), 503);
    assert_eq!(ready.text().await.unwrap(), r#"{"ready":false,"status":"starting"}"#);

    let request = json!({"job_id": "a", "prompt": "hello"});
    let refused = server.post("/execute", &request).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"5".parse().unwrap()));
    let body: Value = refused.text().await.unwrap().parse().unwrap();
    assert_eq!(
        body,
        json!({"code": "MODEL_LOADING", "message": "the model is being loaded", "retriable": true})
    );
    assert_eq!(server.post("/cancel", &json!({"job_id": "a"})).await.status(), 202);

    assert!(load.send(server.worker(bytes, echo)).is_ok());
    while server.get("/ready").await.status() != 200 {}
    assert_eq!(server.post("/execute", &request).await.status(), 200);
}

#[tokio::test]
async fn a_failed_load_ends_the_server() {
    let (server, load) = loading(config()).await;
    // A connection that is kept open does not hold it up.
    assert_eq!(server.get("/ready").await.status(), 503);
    drop(load);
    timeout(Duration::from_secs(5), server.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_the_load() {
    let (mut server, load) = loading(config()).await;
    assert_eq!(server.get("/ready").await.status(), 503);
    server.stop();
    timeout(PATIENCE, server.stopped()).await.unwrap();
    assert!(load.is_closed(), "nobody waits for the model any more");
}
