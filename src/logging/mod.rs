//! Logs go to stderr: JSON lines for machines, plain text on a terminal.

mod line;

use std::io::{self, IsTerminal};
use std::sync::{Mutex, MutexGuard};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The environment variable that sets what is logged, such as `debug` or `server=debug,info`.
pub const LOG_VARIABLE: &str = "WORKER_ORCD_LOG";

/// What every JSON line of this process tells, beside its own fields.
static IDENTITY: Mutex<Vec<(&str, String)>> = Mutex::new(Vec::new());

/// Starts logging for the process: level `info` unless [`LOG_VARIABLE`] says otherwise.
pub fn init() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var(LOG_VARIABLE)
        .from_env_lossy();
    // Without the complaint about a line that could not be written: that goes to stderr as well, and panics there.
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    if is_json() {
        logs.event_format(line::JsonLine).init();
    } else {
        logs.init();
    }
}

/// From now on a panic is an event that says where it was. What panics say may quote the text that they came upon, and
/// no text of a request belongs in a log.
pub(crate) fn hide_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |location| format!(" at {location}"));
        tracing::error!(
            event = "error",
            severity = "CRITICAL",
            code = "INTERNAL",
            "a thread panicked{place}"
        );
    }));
}

/// Whether logs are JSON lines.
pub(crate) fn is_json() -> bool {
    !io::stderr().is_terminal()
}

/// From now on every JSON line has this field, unless its event has another value for it.
pub(crate) fn identify(field: &'static str, value: impl Into<String>) {
    let mut identity = identity();
    identity.retain(|(other, _)| *other != field);
    identity.push((field, value.into()));
}

fn identity() -> MutexGuard<'static, Vec<(&'static str, String)>> {
    IDENTITY.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
