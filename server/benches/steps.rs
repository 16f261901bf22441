//! What a step costs beside the model where its streams are served over HTTP: from one step's tokens to the next step, on the
//! engine's thread. The model computes nothing for two milliseconds a step, as a GPU's host would wait; clients read all.
//!
//! ```sh
//! cargo bench -p server --bench steps
//! ```

#[path = "../tests/common/mod.rs"]
mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{COMPLETIONS, LIMITS, bytes, loading_within};
use runtime::bench::serve_null;
use runtime::engine::Limits;
use serde_json::json;
use server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const PAUSE: Duration = Duration::from_millis(2);
const TOKENS: usize = 1500;

fn main() {
    // The server has two threads, as `worker-orcd serve` gives it.
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let tokio = tokio.expect("threads");
    for streams in [1, 8, 64, 128] {
        let mut between = tokio.block_on(measure(streams));
        between.sort_unstable();
        let at = |share: usize| between[(between.len() - 1) * share / 100].as_secs_f64() * 1e6;
        println!(
            "{streams:3} streams: {:5.1} us between steps (p95 {:.1}, p99 {:.1}; {} steps)",
            at(50),
            at(95),
            at(99),
            between.len()
        );
    }
}

/// What lay between the steps in which all streams took part.
async fn measure(streams: usize) -> Vec<Duration> {
    let limits = Limits { queue_depth: streams, pages: streams * 60, ..LIMITS };
    let (mut server, load) = loading_within(Config::default(), limits).await;
    let measured = Arc::new(Mutex::new(Vec::with_capacity(2 * TOKENS)));
    let to = measured.clone();
    let worker = server.worker(bytes, move |queue| {
        serve_null(queue, streams, PAUSE, move |rows, between| {
            if rows == streams {
                to.lock().expect("nobody panics").push(between);
            }
        });
    });
    assert!(load.send(worker).is_ok());
    while server.get("/ready").await.status() != 200 {
        tokio::time::sleep(PAUSE).await;
    }
    // Clients on threads of their own: they are others' machines.
    let address = server.address;
    let clients = std::thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a thread");
        tokio.block_on(async {
            let mut clients: JoinSet<usize> = (0..streams).map(|_| read(address)).collect();
            while let Some(bytes) = clients.join_next().await {
                assert!(bytes.expect("no panic") > 100 * TOKENS, "a stream was cut short");
            }
        });
    });
    tokio::task::spawn_blocking(|| clients.join()).await.expect("a thread").expect("all was read");
    server.stop();
    server.stopped().await;
    let mut measured = measured.lock().expect("nobody panics");
    std::mem::take(&mut measured)
}

/// Asks for a stream and reads it to its end.
async fn read(address: SocketAddr) -> usize {
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    let body =
        json!({"prompt": "a prompt", "max_tokens": TOKENS, "stream": true, "stop": ["\n\n"]}).to_string();
    let head = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all((head + &body).as_bytes()).await.expect("it is taken");
    let (mut buffer, mut bytes) = (vec![0; 1 << 16], 0);
    loop {
        match socket.read(&mut buffer).await.expect("more, or the end") {
            0 => return bytes,
            count => bytes += count,
        }
    }
}
