//! The executable as a server, watched from outside.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Options, Outcome};

/// What loading a model, and what ending, may take at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// `ADDRESS:PORT`.
    pub(crate) address: String,
    /// Lines of its log by event and code.
    log: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Server {
    /// Starts one on a free port and waits until it is ready.
    pub(crate) fn start(options: &Options) -> Outcome<Server> {
        let executable = std::env::var_os("WORKER_ORCD_EXE")
            .map_or_else(|| env!("CARGO_BIN_EXE_worker-orcd").into(), PathBuf::from);
        let mut command = Command::new(executable);
        command.args(["serve", "--port", "0", "--device", &options.device, "--model", &options.model]);
        command.args(options.serve.split_whitespace()).env_remove("WORKER_ORCD_LOG");
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().ok_or("no stderr")?;
        let log = Arc::default();
        let mut server = Server { child, address: String::new(), log: Arc::clone(&log) };
        let (ready, url) = mpsc::channel();
        // Reads to the end, so that the server never waits for its log to be read.
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| note(&line, &log, &ready))
        });
        server.address =
            url.recv_timeout(PATIENCE).map_err(|_| "the server did not become ready; see its log above")?;
        Ok(server)
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
    }

    /// Files and sockets that it holds open.
    pub(crate) fn open_files(&self) -> Outcome<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Its log's lines by event, errors by code.
    pub(crate) fn log(&self) -> BTreeMap<String, usize> {
        self.log.lock().expect("no thread panics with it").clone()
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Outcome<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(mut self) -> Outcome<ExitStatus> {
        Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status()?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("still running {PATIENCE:?} after SIGTERM").into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counts a line of the log; the one that says `ready` has the address.
fn note(line: &str, log: &Mutex<BTreeMap<String, usize>>, ready: &Sender<String>) {
    let Ok(entry) = serde_json::from_str::<Value>(line) else {
        // A panic's message, or the error that ends the program.
        eprintln!("server: {line}");
        *log.lock().expect("no thread panics with it").entry("not JSON".to_owned()).or_default() += 1;
        return;
    };
    let event = entry["event"].as_str().unwrap_or("none");
    let kind = entry["code"].as_str().map_or(event.to_owned(), |code| format!("{event} {code}"));
    *log.lock().expect("no thread panics with it").entry(kind).or_default() += 1;
    let url = entry["message"].as_str().and_then(|message| message.strip_prefix("listening on http://"));
    if let Some(address) = url {
        // Nobody waits for a second one.
        let _ = ready.send(address.to_owned());
    }
}
