//! What the tests of the executable share: where it and their data are, and what a machine may lack.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod paper;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

/// The executable: `WORKER_ORCD_EXE`, else the one that cargo built with the tests.
pub(crate) fn executable() -> PathBuf {
    std::env::var_os("WORKER_ORCD_EXE")
        .map_or_else(|| env!("CARGO_BIN_EXE_worker-orcd").into(), PathBuf::from)
}

/// A file of test data, in the folder `WORKER_ORCD_TEST_DATA`, else in the source tree.
pub(crate) fn data(name: &str) -> PathBuf {
    std::env::var_os("WORKER_ORCD_TEST_DATA")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden").into(), PathBuf::from)
        .join(name)
}

/// The golden data beside a model of the test data.
pub(crate) fn golden(name: &str) -> Result<serde_json::Value, Failed> {
    let path = data(&format!("{name}.json"));
    let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// Whether the lack of `what` is a failure: `WORKER_ORCD_REQUIRE` has the word.
pub(crate) fn required(what: &str) -> bool {
    std::env::var("WORKER_ORCD_REQUIRE").is_ok_and(|list| list.split(',').any(|word| word == what))
}

/// SmolLM2's file, or why it cannot be had. Asked of the catalogue, which fetches it if need be.
pub(crate) fn smollm2() -> Result<PathBuf, String> {
    let output = Command::new(executable()).args(["pull", "smollm2"]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(PathBuf::from(stdout(&output).trim_end()));
    }
    let reason = stderr(&output).lines().last().unwrap_or("no reason given").to_owned();
    eprintln!("the model cannot be fetched here: {reason}");
    Err(reason)
}

/// A trial with SmolLM2's file: ignored where there is none, unless `WORKER_ORCD_REQUIRE` has `model` or this is CI.
pub(crate) fn with_model(
    name: impl Into<String>,
    model: &Result<PathBuf, String>,
    test: impl FnOnce(&Path) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let ignored = model.is_err() && !required("model") && std::env::var_os("CI").is_none();
    let model = model.clone();
    Trial::test(name, move || test(&model?)).with_ignored_flag(ignored)
}

/// How long a process is waited for: far above what a slow, crowded machine takes, so that only a hang ends a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// What the command leaves when it ends by itself; one that does not is killed.
pub(crate) fn output(command: &mut Command) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            child.kill()?;
            let output = child.wait_with_output()?;
            return Err(io::Error::other(format!("still running after {PATIENCE:?}: {output:?}")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output()
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("output is UTF-8")
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("errors are UTF-8")
}

/// Asserts a failure as users know it: exit code 1, and beside JSON log lines one line on stderr that has all the
/// `parts`.
#[track_caller]
pub(crate) fn expect_error_line(output: &Output, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines: Vec<&str> = stderr(output).lines().filter(|line| !line.starts_with('{')).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("error: "), "{}", stderr(output));
    for part in parts {
        assert!(lines[0].contains(part), "no {part:?} in: {}", lines[0]);
    }
}
