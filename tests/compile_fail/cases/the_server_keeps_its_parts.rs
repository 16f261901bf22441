//! The server is one function over a worker and its limits.

use server::routes; // fails: E0603
use server::validate; // fails: E0603
use server::{Config, Worker, run}; // compiles

pub fn case() {}
