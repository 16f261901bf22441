//! The worker as its command line sees it: subcommands, the model cache, and what a user is told.

pub mod bench;
pub mod cache;
pub mod catalogue;
pub mod cli;
pub mod doctor;
mod exit;
pub mod images;
pub mod inspect;
pub mod logging;
mod printable;
mod progress;
pub mod pull;
pub mod replay;
pub mod run;
pub mod serve;
mod sha256;
pub mod synth;
pub mod trace;

// Defines the driver's functions that `cust` calls.
use cuda_loader as _;
