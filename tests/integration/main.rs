//! The executable as a server, over a real socket: what its clients get, how jobs end, and how it starts and stops.
//!
//! Most trials take a tiny model; those whose jobs must last take SmolLM2 and are ignored where it cannot be had.

mod client;
#[path = "../common/mod.rs"]
mod common;
mod ends;
mod liveness;
mod refuses;
mod server;
mod text;

use libtest_mimic::Arguments;

fn main() {
    let arguments = Arguments::from_args();
    let model = if arguments.list { Err("not fetched".to_owned()) } else { common::smollm2() };
    let mut trials = text::trials(&model);
    trials.extend(ends::trials(&model));
    trials.extend(refuses::trials());
    trials.extend(liveness::trials(&model));
    libtest_mimic::run(&arguments, trials).exit();
}
