//! A hub on this machine.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What it answers to every request.
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    /// Bytes that it promises.
    pub(crate) length: usize,
    /// Bytes that it gives before it closes the connection.
    pub(crate) body: Vec<u8>,
}

/// A server that answers until the test's process ends.
pub(crate) struct Hub {
    /// For `HF_ENDPOINT`.
    pub(crate) endpoint: String,
    requests: Arc<AtomicUsize>,
}

impl Hub {
    pub(crate) fn start(answer: Answer) -> io::Result<Hub> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                // A client that has seen enough hangs up; that is its right.
                let _ = reply(stream, &answer);
            }
        });
        Ok(Hub { endpoint, requests })
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn reply(mut stream: TcpStream, answer: &Answer) -> io::Result<()> {
    for line in BufReader::new(stream.try_clone()?).lines() {
        if line?.is_empty() {
            break;
        }
    }
    let Answer { status, length, body } = answer;
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body)
}
