//! Clients that do not read their answers.

mod common;

use std::time::Duration;

use common::{PATIENCE, begin, end, serve, token, wait_for_cancel};
use server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// More than the system keeps for a socket.
const TOKENS: u32 = 1500;
const TEXT: usize = 16 * 1024;

/// Asks for a completion on a connection of its own, and reads nothing.
async fn ask(server: &common::Server) -> TcpStream {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let body = r#"{"job_id": "slow", "prompt": "p"}"#;
    let head = format!("POST /execute HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    socket.write_all((head + body).as_bytes()).await.unwrap();
    socket
}

#[tokio::test]
async fn who_takes_nothing_is_cut_off_and_its_job_cancelled() {
    let (cancelled, heard) = oneshot::channel();
    let config = Config { write_timeout: Duration::from_millis(300), ..Config::default() };
    let server = serve(config, move |queue| {
        let mut job = begin(&queue);
        for i in 0..TOKENS {
            token(&mut job, i, &"x".repeat(TEXT));
        }
        wait_for_cancel(&queue, &job);
        let _ = cancelled.send(());
    })
    .await;
    let mut socket = ask(&server).await;
    timeout(PATIENCE, heard).await.expect("the job is cancelled").unwrap();
    assert_eq!(server.get("/health").await.status(), 200);
    // What the system had taken for it, and no more.
    let mut taken = Vec::new();
    let read = timeout(PATIENCE, socket.read_to_end(&mut taken)).await.expect("the connection is closed");
    assert!(read.is_err() || taken.len() < TOKENS as usize * TEXT, "all of it came");
}

/// Asks for all of it, takes `step` bytes every `pause`, and gives what came and whether it was all.
async fn read(config: Config, step: usize, pause: Duration) -> (usize, bool) {
    let server = serve(config, |queue| {
        let mut job = begin(&queue);
        for i in 0..TOKENS {
            token(&mut job, i, &"x".repeat(TEXT));
        }
        end(&queue, job, TOKENS);
    })
    .await;
    let mut socket = ask(&server).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        sleep(pause).await;
        let mut part = vec![0; step];
        match timeout(PATIENCE, socket.read(&mut part)).await.expect("more comes") {
            Ok(count) if count > 0 => answer.extend_from_slice(&part[..count]),
            _ => return (answer.len(), false),
        }
    }
    (answer.len(), true)
}

#[tokio::test]
async fn who_is_slow_but_comes_to_the_end_in_time_gets_all() {
    let (bytes, all) = read(Config::default(), 1024 * 1024, Duration::from_millis(5)).await;
    assert!(all && bytes > TOKENS as usize * TEXT, "cut off after {bytes} bytes");
}

#[tokio::test]
async fn who_takes_a_few_bytes_at_a_time_is_cut_off() {
    // Half a megabyte a second, which is more than the server writes in each of its waits: it is never idle for long.
    let config = Config { write_timeout: Duration::from_millis(500), ..Config::default() };
    let (bytes, all) = read(config, 5 * 1024, Duration::from_millis(10)).await;
    assert!(!all && bytes < TOKENS as usize * TEXT, "all of it came");
}
