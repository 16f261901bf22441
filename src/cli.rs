//! The command line. A subcommand is a module with `Args` and `run`, and an arm in [`Command`].

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{bench, doctor, inspect, logging, printable, pull, replay, run, serve, synth, trace};

/// Reads the command line and does what it says. Every failure, one of usage too, is one line on stderr and exit
/// code 1.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return fail(&one_line(&error)),
        Err(help) => return help.print().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
    };
    logging::init();
    match cli.command.run() {
        Ok(code) => code,
        // Whoever read the output has had enough of it.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        // It may quote a file or a server.
        Err(error) => fail(&printable::line(&format!("error: {error}"))),
    }
}

/// Runs large language models from Rust kernels, and serves them over HTTP.
#[derive(Debug, Parser)]
#[command(name = "worker-orcd", version, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Replay(replay::Args),
    Serve(Box<serve::Args>),
    Pull(pull::Args),
    Inspect(inspect::Args),
    Doctor(doctor::Args),
    Trace(trace::Args),
    Bench(bench::Args),
    Synth(synth::Args),
}

impl Command {
    fn run(self) -> Result<ExitCode, Error> {
        match self {
            Command::Run(args) => run::run(args),
            // Its verdict is its exit code.
            Command::Replay(args) => return replay::run(args),
            Command::Serve(args) => serve::run(*args),
            Command::Pull(args) => pull::run(args),
            Command::Inspect(args) => inspect::run(args),
            Command::Doctor(args) => doctor::run(args),
            Command::Trace(args) => trace::run(args),
            Command::Bench(args) => bench::run(args),
            Command::Synth(args) => synth::run(args),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

/// Why a subcommand failed; says what to do about it, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such model.
    #[error(transparent)]
    Model(#[from] crate::cache::ResolveError),
    /// The model could not be fetched.
    #[error(transparent)]
    Pull(#[from] pull::PullError),
    /// The cache of models cannot be used.
    #[error(transparent)]
    Cache(#[from] crate::cache::CacheError),
    /// A completion failed.
    #[error(transparent)]
    Run(#[from] run::RunError),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] serve::ServeError),
    /// A trace failed, or differs from its golden data.
    #[error(transparent)]
    Trace(#[from] trace::TraceError),
    /// Nothing could be measured.
    #[error(transparent)]
    Bench(#[from] bench::BenchFault),
    /// A synthetic model could not be written.
    #[error(transparent)]
    Synth(#[from] synth::SynthError),
    /// Nothing can be told of a file.
    #[error(transparent)]
    Inspect(#[from] inspect::InspectError),
    /// Standard output is closed or full.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

fn fail(line: &str) -> ExitCode {
    // Where stderr is closed, the exit code alone has to say it.
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::FAILURE
}

/// clap's message in one line, without the usage that it repeats and its own hint.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let told: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"))
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    format!("{}; see worker-orcd --help", told.join(" "))
}
