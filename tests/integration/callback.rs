//! Somebody who is called back: a small HTTP server that keeps what it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use libtest_mimic::Failed;
use serde_json::Value;
use ureq::Agent;

use crate::common::PATIENCE;

/// Listens until the test ends.
pub(crate) struct Callback {
    pub(crate) url: String,
    calls: Receiver<Call>,
}

/// What was told.
#[derive(Debug)]
pub(crate) struct Call {
    /// Method and path.
    pub(crate) head: String,
    pub(crate) body: Value,
    /// The status of the caller's `/ready` while it called.
    pub(crate) ready: Option<u16>,
}

impl Callback {
    /// Answers the first calls with these statuses, and all later ones with the last of them.
    pub(crate) fn listen(statuses: &[u16]) -> Result<Callback, Failed> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut statuses = VecDeque::from(statuses.to_vec());
        let (tell, calls) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let status =
                    if statuses.len() > 1 { statuses.pop_front() } else { statuses.front().copied() };
                let call = answer(stream, status.unwrap_or(200));
                // Nobody waits any more: the test has ended.
                if call.is_ok_and(|call| tell.send(call).is_err()) {
                    return;
                }
            }
        });
        Ok(Callback { url, calls })
    }

    /// The next call.
    pub(crate) fn next(&self) -> Result<Call, Failed> {
        Ok(self.calls.recv_timeout(PATIENCE)?)
    }

    /// The calls that have come and were not asked for.
    pub(crate) fn rest(&self) -> Vec<Call> {
        self.calls.try_iter().collect()
    }
}

fn answer(stream: TcpStream, status: u16) -> Result<Call, Failed> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let length = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    });
    let mut body = vec![0; length.ok_or("no length")?];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body)?;
    let ready = body["uri"].as_str().and_then(|uri| {
        let agent: Agent = Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        Some(agent.get(format!("{uri}/ready")).call().ok()?.status().as_u16())
    });
    let head = lines.first().map(|line| line.trim_end_matches(" HTTP/1.1").to_owned()).unwrap_or_default();
    write!(reader.get_mut(), "HTTP/1.1 {status} Told\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    Ok(Call { head, body, ready })
}
