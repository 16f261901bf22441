//! Logs go to stderr: JSON lines for machines, plain text on a terminal.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The environment variable that sets what is logged, such as `debug` or `server=debug,info`.
pub const LOG_VARIABLE: &str = "WORKER_ORCD_LOG";

/// Starts logging for the process: level `info` unless [`LOG_VARIABLE`] says otherwise.
pub fn init() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var(LOG_VARIABLE)
        .from_env_lossy();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        logs.init();
    } else {
        logs.json().flatten_event(true).init();
    }
}
