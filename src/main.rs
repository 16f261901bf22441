//! `worker-orcd`: see [`worker_orcd::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    worker_orcd::cli::main()
}
