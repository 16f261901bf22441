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

#[tokio::test]
async fn who_takes_a_little_at_a_time_gets_all() {
    let config = Config { write_timeout: Duration::from_millis(500), ..Config::default() };
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
    // Longer in all than the server waits for one.
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        sleep(Duration::from_millis(50)).await;
        let mut part = vec![0; 1024 * 1024];
        let count = timeout(PATIENCE, socket.read(&mut part)).await.expect("more comes").unwrap();
        assert!(count > 0, "cut off after {} bytes", answer.len());
        answer.extend_from_slice(&part[..count]);
    }
    assert!(answer.len() > TOKENS as usize * TEXT);
}
