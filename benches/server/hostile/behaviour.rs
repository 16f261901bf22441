//! What one hostile connection does, byte by byte on a plain socket.

use std::io;
use std::time::Duration;

use rand_core::Rng;
use rand_pcg::Pcg64;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Behaviour {
    /// Opens and says nothing.
    Silent,
    /// Half of a head, then nothing.
    HalfHead,
    /// Random bytes.
    Garbage,
    /// Lines that look like a head and are none.
    BrokenHead,
    /// Headers without end.
    HugeHead,
    /// Half of the body that the head promises, then gone.
    HalfBody,
    /// A good request, a few bytes at a time, given up somewhere.
    SlowRequest,
    /// Chunks whose lengths are wrong.
    BrokenChunks,
    /// A whole request with a body of random bytes; reads the answer.
    WrongBody,
    /// Asks for `/health` many times at once and reads half of an answer.
    HalfRead,
    /// Starts a job and is gone before its first byte.
    Vanish,
    /// Starts a job, reads a little and leaves.
    Abandon,
    /// Starts a job and does not read.
    Stall,
}

use Behaviour::*;

/// Jobs are as rare as they are with bad clients, and would otherwise leave the others no turn.
const ALL: [Behaviour; 20] = [
    Silent,
    Silent,
    HalfHead,
    HalfHead,
    Garbage,
    Garbage,
    BrokenHead,
    BrokenHead,
    HugeHead,
    HugeHead,
    HalfBody,
    HalfBody,
    SlowRequest,
    BrokenChunks,
    WrongBody,
    HalfRead,
    HalfRead,
    Vanish,
    Abandon,
    Stall,
];

impl Behaviour {
    pub(super) fn any(random: &mut Pcg64) -> Behaviour {
        ALL[below(random, ALL.len())]
    }

    /// From the connection's beginning to its end: closed, or reset.
    pub(super) async fn happen(self, address: &str, job_id: &str, random: &mut Pcg64) -> io::Result<()> {
        let mut stream = TcpStream::connect(address).await?;
        if below(random, 2) == 0 {
            stream.set_zero_linger()?;
        }
        let stream = &mut stream;
        match self {
            Silent => {}
            HalfHead => stream.write_all(&part_of(random, head("POST /execute", 100).as_bytes())).await?,
            Garbage => stream.write_all(&bytes(random, 4096)).await?,
            BrokenHead => {
                const HEADS: [&str; 5] = [
                    "GET\r\n\r\n",
                    "GET /health HTTP/9.9\r\n\r\n",
                    "POST /execute HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                    "POST /execute HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
                    "GET /health HTTP/1.1\r\nNo colon here\r\n\r\n",
                ];
                stream.write_all(HEADS[below(random, HEADS.len())].as_bytes()).await?;
                read_some(stream, 4096).await?;
            }
            HugeHead => {
                stream.write_all(b"GET /health HTTP/1.1\r\n").await?;
                for i in 0..256 {
                    stream.write_all(format!("X-{i}: {}\r\n", "x".repeat(1000)).as_bytes()).await?;
                }
            }
            HalfBody => {
                stream.write_all(head("POST /execute", 10_000).as_bytes()).await?;
                stream.write_all(&bytes(random, 5_000)).await?;
            }
            SlowRequest => {
                let request = job(job_id, 8);
                for piece in part_of(random, request.as_bytes()).chunks(8) {
                    stream.write_all(piece).await?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            BrokenChunks => {
                stream
                    .write_all(b"POST /execute HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await?;
                stream.write_all(b"5\r\n{\"job\r\nffffffffffffffffff\r\n").await?;
                stream.write_all(&bytes(random, 100)).await?;
            }
            WrongBody => {
                let body = bytes(random, 2000);
                stream.write_all(head("POST /execute", body.len()).as_bytes()).await?;
                stream.write_all(&body).await?;
                read_some(stream, 1 << 16).await?;
            }
            HalfRead => {
                for _ in 0..20 {
                    stream.write_all(head("GET /health", 0).as_bytes()).await?;
                }
                read_some(stream, 200).await?;
            }
            Vanish => return stream.write_all(job(job_id, 64).as_bytes()).await,
            Abandon => {
                stream.write_all(job(job_id, 64).as_bytes()).await?;
                let some = 1 + below(random, 2000);
                return read_some(stream, some).await;
            }
            Stall => stream.write_all(job(job_id, 16).as_bytes()).await?,
        }
        tokio::time::sleep(Duration::from_millis(below(random, 4000) as u64)).await;
        Ok(())
    }
}

fn below(random: &mut Pcg64, n: usize) -> usize {
    random.next_u32() as usize % n
}

/// Up to `most` random bytes.
fn bytes(random: &mut Pcg64, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; 1 + below(random, most)];
    random.fill_bytes(&mut bytes);
    bytes
}

fn part_of(random: &mut Pcg64, whole: &[u8]) -> Vec<u8> {
    whole[..1 + below(random, whole.len() - 1)].to_vec()
}

fn head(line: &str, length: usize) -> String {
    format!(
        "{line} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// A request that is taken.
fn job(job_id: &str, max_tokens: u32) -> String {
    let body = json!({"job_id": job_id, "prompt": "Once upon a time", "max_tokens": max_tokens}).to_string();
    head("POST /execute", body.len()) + &body
}

/// Reads up to `most` bytes, or to the end.
async fn read_some(stream: &mut TcpStream, most: usize) -> io::Result<()> {
    let mut left = most;
    let mut buffer = [0; 1024];
    while left > 0 {
        let size = left.min(buffer.len());
        match stream.read(&mut buffer[..size]).await? {
            0 => break,
            n => left -= n,
        }
    }
    Ok(())
}
