//! The real executable, called as a user calls it. Sources are stood in for by a server on this machine and by a
//! made-up pip, except where a test says that it fetches.

mod bench;
mod commits;
#[path = "../common/mod.rs"]
mod common;
mod folder;
mod hub;
mod inspect;
mod load;
mod numerics;
mod paper;
mod pip;
mod pull;
mod repository;
mod serve;
mod site;
mod synth;
mod usage;

use std::path::Path;
use std::process::{Command, Output};

use common::{executable, stderr, stdout};
use libtest_mimic::Arguments;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = usage::trials();
    trials.extend(serve::trials());
    trials.extend(pull::trials());
    trials.extend(repository::trials());
    trials.extend(commits::trials());
    trials.extend(inspect::trials());
    trials.extend(bench::trials());
    trials.extend(load::trials());
    trials.extend(synth::trials());
    trials.extend(folder::trials());
    trials.extend(numerics::trials());
    trials.extend(paper::trials());
    trials.extend(pull::trials_with_the_model(!arguments.list));
    libtest_mimic::run(&arguments, trials).exit();
}

/// The executable, with a cache of its own and a hub that refuses connections.
fn worker(cache: &Path) -> Command {
    let mut command = Command::new(executable());
    // Nothing listens on port 1.
    command.env("WORKER_ORCD_CACHE", cache).env("HF_ENDPOINT", "http://127.0.0.1:1");
    command
}

/// Asserts a failure as users know it: exit code 1, nothing on stdout, and a last line that has all the `parts`.
#[track_caller]
fn expect_failure(output: &Output, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(stdout(output), "");
    let last = stderr(output).lines().last().unwrap_or_default();
    assert!(last.starts_with("error: "), "{}", stderr(output));
    for part in parts {
        assert!(last.contains(part), "no {part:?} in: {last}");
    }
}
