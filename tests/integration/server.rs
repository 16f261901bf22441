//! The executable as a server on a free port, ended when the test ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::common::{PATIENCE, executable};

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    log: Log,
    /// `http://ADDRESS:PORT`, as the `ready` line tells it.
    pub(crate) url: String,
}

/// What the server has written to stderr.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    /// The server has closed it.
    whole: bool,
}

/// A server that has ended by itself.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// All that it wrote to stderr.
    pub(crate) log: Vec<String>,
}

/// `serve` of a model on the CPU, on a free port.
pub(crate) fn serve(model: &Path) -> Command {
    let mut command = Command::new(executable());
    command.env_remove("WORKER_ORCD_LOG");
    command.args(["serve", "--device", "cpu", "--port", "0", "--model"]).arg(model);
    command
}

impl Log {
    fn lines<T>(&self, with: impl FnOnce(&mut Written) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

/// The JSON line's event, if it has one.
pub(crate) fn event(line: &str) -> Option<(String, Value)> {
    let entry: Value = serde_json::from_str(line).ok()?;
    Some((entry["event"].as_str()?.to_owned(), entry))
}

/// The address in a `ready` line.
fn address(ready: &Value) -> Result<String, Failed> {
    let message = ready["message"].as_str().unwrap_or_default();
    Ok(message.strip_prefix("listening on ").ok_or("ready without an address")?.to_owned())
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub(crate) fn start(command: &mut Command) -> Result<Server, Failed> {
        let mut server = Server::spawn(command)?;
        let ready = server.wait_for("ready")?;
        server.url = address(&ready)?;
        Ok(server)
    }

    /// Starts a server, and closes its log once it is ready.
    pub(crate) fn start_unread(command: &mut Command) -> Result<Server, Failed> {
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut server = Server { child, log: Log::default(), url: String::new() };
        let stderr = server.child.stderr.take().ok_or("no stderr")?;
        server.log.lines(|written| written.whole = true);
        let mut events = BufReader::new(stderr).lines().map_while(Result::ok).filter_map(|line| event(&line));
        let (_, ready) = events.find(|(name, _)| name == "ready").ok_or("ended without ready")?;
        server.url = address(&ready)?;
        Ok(server)
    }

    /// Starts a server and does not wait. It has no address yet.
    pub(crate) fn spawn(command: &mut Command) -> Result<Server, Failed> {
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut server = Server { child, log: Log::default(), url: String::new() };
        let stderr = server.child.stderr.take().ok_or("no stderr")?;
        let log = server.log.clone();
        // Reads to the end, so that the server never waits for its log to be read.
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.lines(|written| written.lines.push(line));
            }
            log.lines(|written| written.whole = true);
        });
        Ok(server)
    }

    /// The first log line of an event, which is waited for.
    pub(crate) fn wait_for(&self, name: &str) -> Result<Value, Failed> {
        self.wait_until(name, |_| true)
    }

    /// The first log line of an event that `is_it`, which is waited for.
    pub(crate) fn wait_until(&self, name: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value, Failed> {
        let start = Instant::now();
        let mut seen = 0;
        while start.elapsed() < PATIENCE {
            let (new, whole) = self.log.lines(|written| (written.lines[seen..].to_vec(), written.whole));
            seen += new.len();
            let found = new
                .iter()
                .filter_map(|line| event(line))
                .find(|(found, entry)| found == name && is_it(entry));
            if let Some((_, entry)) = found {
                return Ok(entry);
            }
            if whole {
                let log = self.log.lines(|written| written.lines.join("\n"));
                return Err(format!("ended without {name}:\n{log}").into());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(format!("no {name} after {PATIENCE:?}").into())
    }

    /// The lines of its log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lines(|written| written.lines.clone())
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) -> Result<(), Failed> {
        self.signal("TERM")
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) fn signal(&self, name: &str) -> Result<(), Failed> {
        let kill = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("{kill}: {sent}").into()) }
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(self) -> Result<ExitStatus, Failed> {
        Ok(self.ended_with_log()?.status)
    }

    /// Waits until it has ended by itself, and its log is whole.
    pub(crate) fn ended_with_log(mut self) -> Result<Ended, Failed> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()?
                && let Some(log) =
                    self.log.lines(|written| written.whole.then(|| std::mem::take(&mut written.lines)))
            {
                return Ok(Ended { status, log });
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
