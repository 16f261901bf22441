//! The executable as a server on a free port, ended when the test ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::common::executable;

/// What loading a model, and what ending, may take at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// `http://ADDRESS:PORT`, as the `ready` line tells it.
    pub(crate) url: String,
    log: Arc<Mutex<Vec<String>>>,
}

/// `serve` of a model on the CPU, on a free port.
pub(crate) fn serve(model: &Path) -> Command {
    let mut command = Command::new(executable());
    command.args(["serve", "--device", "cpu", "--port", "0", "--model"]).arg(model);
    command
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub(crate) fn start(command: &mut Command) -> Result<Server, Failed> {
        let child =
            command.env_remove("WORKER_ORCD_LOG").stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut server = Server { child, url: String::new(), log: Arc::default() };
        let stderr = server.child.stderr.take().ok_or("no stderr")?;
        let log = server.log.clone();
        let (ready, url) = mpsc::channel();
        // Reads to the end, so that the server never waits for its log to be read.
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(url) = url_of_ready(&line) {
                    drop(ready.send(url));
                }
                log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        server.url = url.recv_timeout(PATIENCE).map_err(|_| {
            let log = server.log().join("\n");
            format!("not ready after {PATIENCE:?}, or ended before:\n{log}")
        })?;
        Ok(server)
    }

    /// The lines of its log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) -> Result<(), Failed> {
        let kill = format!("kill -TERM {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("{kill}: {sent}").into()) }
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(mut self) -> Result<ExitStatus, Failed> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(format!("still running after {PATIENCE:?}").into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn url_of_ready(line: &str) -> Option<String> {
    let entry: Value = serde_json::from_str(line).ok()?;
    let message = (entry["event"] == "ready").then(|| entry["message"].as_str()).flatten()?;
    Some(message.strip_prefix("listening on ")?.to_owned())
}
