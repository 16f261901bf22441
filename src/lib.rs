//! The worker as its command line sees it: subcommands, the model cache, and what a user is told.

pub mod cache;
pub mod catalogue;
pub mod cli;
pub mod doctor;
pub mod images;
pub mod logging;
pub mod pull;

// Defines the driver's functions that `cust` calls.
use cuda_loader as _;
