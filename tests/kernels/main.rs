//! The kernel suite: every kernel against a naive f64 oracle and, bit by bit, against itself on every device.
//!
//! A trial's name says where it runs: `host` (the baseline against the oracle, AVX2 and threads against the baseline),
//! `check` (the checking team), `cuda` (against the host). Without a GPU the `cuda` trials are ignored; with `cuda` among
//! the comma-separated words of `WORKER_ORCD_REQUIRE` they fail.

mod barrier;
#[allow(dead_code, reason = "the benches use the rest")]
mod cases;
mod golden;
mod rows;
mod statistics;
mod trials;

use cases::elementwise::Op;
use cases::matmul::Input;
use cases::rope::Pairing;
use cases::stored::Stored;
use libtest_mimic::{Arguments, Trial};
use trials::suite;

fn main() {
    let mut trials = vec![
        Trial::test("a_missing_barrier_is_caught", barrier::a_missing_barrier_is_caught),
        Trial::test("a_barrier_satisfies_the_checking_team", barrier::a_barrier_satisfies_the_checking_team),
        Trial::test("draws_follow_the_softmax", statistics::draws_follow_the_softmax),
    ];
    for stored in Stored::ALL {
        let name = stored.name();
        trials.extend(suite(&format!("embed/{name}"), move |scale| cases::embed::cases(stored, scale)));
        trials.extend(suite(&format!("draw/{name}"), move |scale| cases::draw::cases(stored, scale)));
        trials.extend(suite(&format!("matvec/{name}"), move |scale| cases::matvec::cases(stored, scale)));
        trials.push(Trial::test(format!("matvec/{name}/a_row_has_the_same_bits_alone"), move || {
            rows::a_row_has_the_same_bits_alone(stored)
        }));
        trials.push(match stored {
            Stored::F32 | Stored::F16 | Stored::Bf16 => {
                Trial::test(format!("embed/{name}/widens_exactly"), move || {
                    golden::plain_types_widen_exactly(stored)
                })
            }
            _ => {
                Trial::test(format!("embed/{name}/golden"), move || golden::dequantises_as_the_oracle(stored))
            }
        });
    }
    for (name, op) in [("add", Op::Add), ("add_bias", Op::AddBias), ("swiglu", Op::Swiglu)] {
        trials.extend(suite(&format!("elementwise/{name}"), move |_| cases::elementwise::cases(op)));
    }
    for (name, pairing) in [("interleaved", Pairing::Interleaved), ("split_half", Pairing::SplitHalf)] {
        trials.extend(suite(&format!("rope/{name}"), move |_| cases::rope::cases(pairing)));
    }
    for (name, input) in [("bf16", Input::Bf16), ("f16", Input::F16)] {
        trials.extend(suite(&format!("matmul/{name}"), move |scale| cases::matmul::cases(input, scale)));
    }
    trials.extend(suite("compare/draw", cases::compare::draw_cases));
    trials.extend(suite("compare/count", |_| cases::compare::count_cases()));
    trials.extend(suite("norm/rms", |_| cases::norm::cases()));
    trials.extend(suite("kv/write_f32", |_| cases::kv::cases()));
    trials.extend(suite("attention/f32", cases::attention::cases));
    trials.extend(suite("sample/token", cases::sample::cases));
    trials.extend(suite("sample/penalty", cases::sample::penalty_cases));

    trials::introduce_gpu();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
