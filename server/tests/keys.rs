//! Who is served where there are API keys.

mod common;

use common::{Events, PATIENCE, Server, begin, echo, end, serve, wait_for_cancel};
use runtime::engine::Next;
use serde_json::{Value, json};
use server::Config;
use tokio::time::timeout;

fn config() -> Config {
    Config { api_keys: vec!["first".to_owned(), "second".to_owned()], ..Config::default() }
}

async fn send(server: &Server, method: &str, path: &str, header: Option<(&str, &str)>) -> reqwest::Response {
    let mut request = server.client.request(method.parse().unwrap(), server.url(path));
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    if method == "POST" {
        request = request.body(json!({"job_id": "a"}).to_string());
    }
    timeout(PATIENCE, request.send()).await.expect("the server answers").unwrap()
}

#[tokio::test]
async fn without_a_key_there_are_probes_and_the_document_only() {
    let server = serve(Config { allow_shutdown: true, ..config() }, echo).await;
    for path in ["/health", "/ready", "/openapi.json"] {
        assert_eq!(send(&server, "GET", path, None).await.status(), 200, "{path}");
    }
    for (method, path) in
        [("POST", "/execute"), ("POST", "/cancel"), ("POST", "/shutdown"), ("GET", "/metrics")]
    {
        for header in [None, Some(("authorization", "Bearer third")), Some(("x-api-key", "firs"))] {
            let answer = send(&server, method, path, header).await;
            assert_eq!(answer.status(), 401, "{path}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            assert!(answer.headers().contains_key("x-correlation-id"));
            let body: Value = answer.text().await.unwrap().parse().unwrap();
            assert_eq!((&body["code"], &body["retriable"]), (&json!("UNAUTHORIZED"), &json!(false)));
        }
    }
    assert_eq!(server.get("/ready").await.status(), 200, "nothing was shut down");
}

#[tokio::test]
async fn each_key_opens_everything() {
    let server = serve(config(), echo).await;
    for header in [("authorization", "Bearer first"), ("x-api-key", "second")] {
        // The prompt is missing.
        assert_eq!(send(&server, "POST", "/execute", Some(header)).await.status(), 400);
        assert_eq!(send(&server, "POST", "/cancel", Some(header)).await.status(), 202);
        assert_eq!(send(&server, "POST", "/shutdown", Some(header)).await.status(), 404);
        assert_eq!(send(&server, "GET", "/metrics", Some(header)).await.status(), 200);
    }
}

#[tokio::test]
async fn a_job_is_cancelled_by_its_own_key_alone() {
    let (hold, released) = std::sync::mpsc::channel::<()>();
    let server = serve(config(), move |queue| {
        let jobs = [begin(&queue), begin(&queue)];
        // Both have the same id; the second key's was cancelled.
        wait_for_cancel(&queue, &jobs[1]);
        let Next::Work { cancelled, .. } = queue.next(0, 1) else { panic!("stopped") };
        assert_eq!(cancelled, []);
        released.recv_timeout(PATIENCE).unwrap();
        jobs.into_iter().for_each(|job| end(&queue, job, 0));
    })
    .await;
    let execute = |key: &'static str| {
        let body = json!({"job_id": "a", "prompt": "p"}).to_string();
        let request = server.client.post(server.url("/execute")).header("x-api-key", key).body(body);
        async { request.send().await.unwrap() }
    };
    let first = execute("first").await;
    let second = execute("second").await;
    assert_eq!((first.status(), second.status()), (200.try_into().unwrap(), 200.try_into().unwrap()));
    assert_eq!(execute("first").await.status(), 409);
    let (mut first, mut second) = (Events::of(first), Events::of(second));
    first.expect("started").await;
    second.expect("started").await;
    assert_eq!(send(&server, "POST", "/cancel", Some(("x-api-key", "second"))).await.status(), 202);
    hold.send(()).unwrap();
    first.expect("end").await;
    second.expect("end").await;
}
