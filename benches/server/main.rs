//! Load for the server: starts the executable with a model and drives it over loopback.
//!
//!   cargo bench --bench server -- hostile --model smollm2 --device cpu --seconds 120 --connections 500
//!   cargo bench --bench server -- cancel --model smollm2 --cancels 100
//!   cargo bench --bench server -- leak --model tests/golden/llama31-f32.gguf --requests 10000
//!
//! Times are reported and never judged. A wrong answer, a job that is left over, a server that died and memory that grew
//! are faults: each is told, and the exit code is 1.

mod cancel;
mod client;
mod hostile;
mod leak;
mod manners;
mod report;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use report::Report;
use server::Server;

/// Any failure of the program itself, in words.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// Cargo passes this to every bench
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Mode {
    /// Connections that open, half read, stall, vanish or send garbage, beside one well-behaved client
    Hostile,
    /// Jobs cancelled at random moments, beside others that must not notice
    Cancel,
    /// Many short requests, and what memory they leave behind
    Leak,
}

/// What all modes share; a mode takes its part.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A GGUF file, or a name of the catalogue
    #[arg(long, global = true, default_value = "smollm2")]
    pub(crate) model: String,
    /// auto, cpu or cuda:N
    #[arg(long, global = true, default_value = "auto")]
    pub(crate) device: String,
    /// How long the hostile connections come
    #[arg(long, global = true, default_value_t = 120)]
    pub(crate) seconds: u64,
    /// Connections at a time; 500 hostile ones, 16 that cancel or 8 that ask, unless given
    #[arg(long, global = true)]
    pub(crate) connections: Option<usize>,
    /// Jobs to cancel
    #[arg(long, global = true, default_value_t = 100)]
    pub(crate) cancels: usize,
    /// Short requests
    #[arg(long, global = true, default_value_t = 10_000)]
    pub(crate) requests: usize,
    /// What everything random is drawn from
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) seed: u64,
    /// What the server's memory may grow by from the middle third of the time to the last
    #[arg(long, global = true, default_value_t = 8)]
    pub(crate) growth_mb: u64,
    /// Writes all numbers to a file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// More arguments for `serve`, separated by spaces
    #[arg(long, global = true, default_value = "", allow_hyphen_values = true)]
    pub(crate) serve: String,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let Some(mode) = cli.mode else {
        println!("no load was asked for: hostile, cancel or leak; see --help");
        return ExitCode::SUCCESS;
    };
    match run(mode, &cli.options) {
        Ok(report) if report.faults.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mode: Mode, options: &Options) -> Outcome<Report> {
    let mut report = Report::default();
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut server = Server::start(options)?;
    let driven = tokio.block_on(async {
        match mode {
            Mode::Hostile => hostile::run(&mut server, options, &mut report).await,
            Mode::Cancel => cancel::run(&mut server, options, &mut report).await,
            Mode::Leak => leak::run(&mut server, options, &mut report).await,
        }
    });
    // What a dead server made fail is no news beside its death.
    match (server.has_ended()?, driven) {
        (Some(status), _) => report.fault(format!("the server died: {status}")),
        (None, driven) => {
            driven?;
            tokio.block_on(manners::leaves_nothing(&server, &mut report))?;
            let status = server.stop()?;
            if !status.success() {
                report.fault(format!("the server did not end well after SIGTERM: {status}"));
            }
        }
    }
    report.print(options)?;
    Ok(report)
}
