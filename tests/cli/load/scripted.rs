//! A server of OpenAI's API whose answers a test writes, byte by byte.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Answers until the test's process ends. `GET /v1/models` tells of the model `scripted`.
pub(crate) struct Scripted {
    /// For `--url`.
    pub(crate) url: String,
    pub(crate) seen: Arc<Seen>,
}

/// What has been asked.
#[derive(Default)]
pub(crate) struct Seen {
    requests: Mutex<Vec<Request>>,
    running: AtomicUsize,
}

/// A request that was posted.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Counts requests from 0.
    pub(crate) number: usize,
    pub(crate) path: String,
    pub(crate) key: Option<String>,
    pub(crate) body: Value,
}

/// Writes an answer.
pub(crate) struct Reply {
    stream: TcpStream,
    seen: Arc<Seen>,
    /// The request is counted as running.
    running: bool,
}

impl Seen {
    pub(crate) fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The requests' bodies, in the order in which they came.
    pub(crate) fn bodies(&self) -> Vec<Value> {
        self.requests().iter().map(|request| request.body.clone()).collect()
    }
}

impl Scripted {
    /// The script answers a request; where it fails, or has not ended its answer, the connection is closed.
    pub(crate) fn start(
        script: impl Fn(&Request, &mut Reply) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Scripted> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let (seen, script) = (Arc::new(Seen::default()), Arc::new(script));
        let kept = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, script) = (kept.clone(), script.clone());
                thread::spawn(move || serve(stream, &seen, &*script));
            }
        });
        Ok(Scripted { url, seen })
    }
}

/// The requests of a connection.
fn serve(
    stream: TcpStream,
    seen: &Arc<Seen>,
    script: &dyn Fn(&Request, &mut Reply) -> io::Result<()>,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    stream.set_nodelay(true)?;
    let mut reply = Reply { stream, seen: seen.clone(), running: false };
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        if first.starts_with("GET ") {
            let (status, body) = match path.as_str() {
                "/v1/models" => ("200 OK", json!({"data": [{"id": "scripted"}, {"id": "other"}]})),
                _ => ("404 Not Found", json!({})),
            };
            reply.whole(status, &body.to_string())?;
            continue;
        }
        let request = {
            let mut requests = seen.requests();
            let key = headers.get("authorization").cloned();
            let number = requests.len();
            requests.push(Request { number, path, key, body: serde_json::from_slice(&body)? });
            requests[number].clone()
        };
        seen.running.fetch_add(1, Ordering::SeqCst);
        reply.running = true;
        let done = script(&request, &mut reply);
        reply.over();
        done?;
    }
}

impl Reply {
    /// The request runs no more. Before its last bytes are sent: whoever has them may send the next.
    fn over(&mut self) {
        if std::mem::take(&mut self.running) {
            self.seen.running.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// An answer in one piece.
    pub(crate) fn whole(&mut self, status: &str, body: &str) -> io::Result<()> {
        self.over();
        let length = body.len();
        write!(self.stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")
    }

    /// Begins a stream of events.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        self.stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
    }

    /// Bytes of the stream, in a chunk of their own.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        write!(self.stream, "{:x}\r\n", bytes.len())?;
        self.stream.write_all(bytes)?;
        self.stream.write_all(b"\r\n")
    }

    pub(crate) fn event(&mut self, data: &Value) -> io::Result<()> {
        self.bytes(format!("data: {data}\n\n").as_bytes())
    }

    /// An event with text.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.event(&choice(text))
    }

    /// The reason, the usage, `[DONE]`, and the end of the stream.
    pub(crate) fn end(&mut self, tokens_in: u64, tokens_out: u64) -> io::Result<()> {
        self.over();
        self.event(&json!({"choices": [{"text": "", "finish_reason": "length"}]}))?;
        let usage = json!({"prompt_tokens": tokens_in, "completion_tokens": tokens_out});
        self.event(&json!({"choices": [], "usage": usage}))?;
        self.bytes(b"data: [DONE]\n\n")?;
        self.close()
    }

    /// The end of the stream alone.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.stream.write_all(b"0\r\n\r\n")
    }

    /// Waits until so many requests are running, or for a while; whether they are.
    pub(crate) fn company(&self, running: usize, patience: Duration) -> bool {
        within(patience, || self.seen.running.load(Ordering::SeqCst) >= running)
    }

    /// Waits until so many requests have come in all; whether they have.
    pub(crate) fn asked(&self, requests: usize) -> bool {
        within(Duration::from_secs(20), || self.seen.requests().len() >= requests)
    }
}

fn within(patience: Duration, is_so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > patience {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

pub(crate) fn choice(text: &str) -> Value {
    json!({"choices": [{"index": 0, "text": text, "finish_reason": null}]})
}
