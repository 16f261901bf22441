//! The executable as a server, over a real socket: what its clients get, how jobs end, how it starts and stops, and what
//! becomes of it when the device fails.
//!
//! The framework: [`server::Server`] is `worker-orcd serve` as a child process on a port that the system chooses, killed
//! when the trial ends; `client.rs` adds requests and event streams to it, read as they come and checked for their order.
//! [`place::Room`] says where a server runs, on the CPU, on the paper GPU (`crates/paper_cuda`, a driver whose GPU is the
//! host) or on `cuda:0`, and gives each trial a folder of its own, so that none sees another's files. Nothing waits for
//! longer than a minute: not a load, not an exchange, not an end. `faults` makes calls of the driver fail.
//!
//! Most trials take a tiny model; those whose jobs must last take SmolLM2 and are ignored where it cannot be had. Those on
//! `cuda:0` are ignored where there is no GPU, and those of `faults` without the feature `fault-injection`. See
//! `WORKER_ORCD_REQUIRE` in ARCHITECTURE.md.

mod callback;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod determinism;
mod ends;
mod faults;
mod liveness;
mod load;
mod logs;
mod memory;
mod place;
mod receipts;
mod refuses;
mod server;
mod starts;
mod text;

use libtest_mimic::Arguments;

fn main() {
    let arguments = Arguments::from_args();
    let model = if arguments.list { Err("not fetched".to_owned()) } else { common::smollm2() };
    let mut trials = text::trials(&model);
    trials.extend(ends::trials(&model));
    trials.extend(refuses::trials());
    trials.extend(memory::trials());
    trials.extend(determinism::trials(&model));
    trials.extend(receipts::trials());
    trials.extend(faults::trials());
    trials.extend(starts::trials(&model));
    trials.extend(load::trials());
    trials.extend(logs::trials());
    trials.extend(liveness::trials(&model));
    libtest_mimic::run(&arguments, trials).exit();
}
