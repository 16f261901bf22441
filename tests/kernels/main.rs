//! The kernel suite: every kernel against a naive f64 oracle and, bit by bit, against itself on every device.
//!
//! A trial's name says where it runs: `host` (the baseline against the oracle, AVX2 and threads against the baseline),
//! `check` (the checking team), `cuda` (against the host). Without a GPU the `cuda` trials are ignored; with `cuda` among
//! the comma-separated words of `WORKER_ORCD_REQUIRE` they fail.

mod barrier;
#[allow(dead_code, reason = "the benches use the rest")]
mod cases;
mod golden;
mod paths;
mod rows;
mod statistics;
mod trials;

use cases::flash::Path;
use cases::float::Float;
use cases::rope::Pairing;
use cases::sample::Way;
use cases::stored::{Layout, Stored};
use libtest_mimic::{Arguments, Trial};
use runtime::device::Device;
use trials::{relation, suite, suite_where};

fn main() {
    let mut trials = vec![
        Trial::test("a_missing_barrier_is_caught", barrier::a_missing_barrier_is_caught),
        Trial::test("a_barrier_satisfies_the_checking_team", barrier::a_barrier_satisfies_the_checking_team),
    ];
    for way in statistics::WAYS {
        let test = move |device: &Device| statistics::draws_follow(way, device);
        trials.extend(relation(&format!("sample/draws_follow_{}", way.0), test));
    }
    trials.extend(relation("sample/ties_go_to_the_lowest_id", statistics::ties_go_to_the_lowest_id));
    trials.extend(Stored::ALL.iter().copied().flat_map(of_weights));
    trials.extend(Float::ALL.into_iter().flat_map(of_floats));
    trials.extend(Float::HALVES.into_iter().flat_map(of_halves));
    trials.extend(suite("compare/draw", cases::compare::draw_cases));
    trials.extend(suite("compare/count", |_| cases::compare::count_cases()));
    trials.extend(suite("residual/add", |_| cases::residual::cases()));
    trials.extend(suite("logits/finish", |_| cases::logits::cases()));
    trials.extend(suite("router/choose", |_| cases::router::choices()));
    trials.extend(suite("router/group", |_| cases::router::groupings()));
    trials.extend(relation("router/a_token_chooses_alone", rows::of_choice));
    trials.extend(suite("expert_sum/sum", |_| cases::expert_rows::sums()));
    trials.extend(relation("expert_sum/a_token_has_the_same_bits_alone", rows::of_expert_sum));
    trials.extend(suite("attention/f32", cases::attention::cases));
    trials.extend(suite("merge", |_| cases::merge::cases()));
    trials.extend(suite("sample/token", cases::sample::cases));
    trials.extend(suite("sample/adjust", |scale| cases::sample::change_cases(Way::Adjust, scale)));
    trials.extend(suite("sample/restore", |scale| cases::sample::change_cases(Way::Restore, scale)));
    trials.extend(suite("logprobs/top", cases::logprobs::cases));

    trials::introduce_gpu();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// What there is for each stored type of weights.
fn of_weights(stored: Stored) -> Vec<Trial> {
    let name = stored.lower();
    let mut trials = suite(&format!("embed/{name}"), move |scale| cases::embed::cases(stored, scale));
    trials.extend(suite(&format!("draw/{name}"), move |scale| cases::draw::cases(stored, scale)));
    trials.extend(suite(&format!("matvec/{name}"), move |scale| cases::matvec::cases(stored, scale)));
    trials.extend(relation(&format!("matvec/{name}/a_row_has_the_same_bits_alone"), move |device| {
        rows::of_matvec(stored, device)
    }));
    trials.extend(of_experts(stored));
    if stored != Stored::F32 {
        trials.extend(suite(&format!("qmatmul/{name}"), move |scale| cases::qmatmul::cases(stored, scale)));
        trials.extend(relation(&format!("qmatmul/{name}/a_row_has_the_same_bits_alone"), move |device| {
            rows::of_qmatmul(stored, device)
        }));
    }
    if !stored.is_quantised() {
        trials.push(Trial::test(format!("embed/{name}/widens_exactly"), move || {
            golden::plain_types_widen_exactly(stored)
        }));
        return trials;
    }
    trials.extend(relation(&format!("qmatmul/{name}/gated_at_once_is_gated_afterwards"), move |device| {
        rows::gated_at_once_is_gated_afterwards(stored, device)
    }));
    trials
        .push(Trial::test(format!("embed/{name}/golden"), move || golden::dequantises_as_the_oracle(stored)));
    trials.extend(suite(&format!("dequantise/{name}"), move |scale| cases::dequantise::cases(stored, scale)));
    trials.extend(suite(&format!("relay/{name}"), move |scale| cases::qmatmul::relay_cases(stored, scale)));
    if kernels::warpgroup::of(stored, usize::MAX, 128).is_some() {
        let cases = move |scale| cases::qmatmul::group_cases(stored, scale);
        trials.extend(suite_where(&format!("warpgroup/{name}"), cases, Device::has_warpgroups));
    }
    if kernels::broad::of(stored, cases::qmatmul::UNEVEN_ROWS, 128).is_some() {
        let cases = move |scale| cases::qmatmul::broad_cases(stored, scale);
        trials.extend(suite_where(&format!("broad/{name}"), cases, Device::has_warpgroups));
        trials.push(Trial::test(
            format!("broad/{name}/has_whole_blocks_for_most_multiprocessors"),
            move || rows::whole_blocks_for_most_multiprocessors(stored),
        ));
    }
    trials.extend(relation(&format!("qmatmul/{name}/is_dequantise_then_matmul"), move |device| {
        rows::dequantised_before_is_dequantised_on_the_way(stored, device)
    }));
    trials
}

/// What there is for each stored type of a mixture's weights.
fn of_experts(stored: Stored) -> Vec<Trial> {
    let name = stored.lower();
    let mut trials = Vec::new();
    for (family, tensor_core) in [("expert_matvec", false), ("expert_matmul", true)] {
        let there = if tensor_core {
            kernels::expert_matmul::of(stored, 8).is_some()
        } else {
            kernels::expert_matvec::of(stored, 8).is_some()
        };
        if !there {
            continue;
        }
        trials.extend(suite(&format!("{family}/{name}"), move |scale| {
            cases::mixture::cases(stored, tensor_core, scale)
        }));
        trials.extend(relation(
            &format!("{family}/{name}/is_a_product_of_the_experts_matrix"),
            move |device| rows::of_mixture(stored, tensor_core, device),
        ));
    }
    trials
}

/// What there is for each form of rows and each type of the KV cache.
fn of_floats(float: Float) -> Vec<Trial> {
    let name = float.name();
    let mut trials = suite(&format!("expert_swiglu/{name}"), move |_| cases::expert_rows::activations(float));
    trials.extend(suite(&format!("norm/rms_{name}"), move |_| cases::norm::cases(float)));
    trials.extend(suite(&format!("layer_norm/{name}"), move |_| cases::layer_norm::cases(float)));
    trials.extend(suite(&format!("swiglu/{name}"), move |_| cases::swiglu::cases(float)));
    trials.extend(suite(&format!("gelu/{name}"), move |_| cases::gelu::cases(float)));
    trials
        .extend(suite(&format!("rope/normed_split_half_{name}"), move |_| cases::rope::normed_cases(float)));
    for (pairing_name, pairing) in [("interleaved", Pairing::Interleaved), ("split_half", Pairing::SplitHalf)]
    {
        trials.extend(suite(&format!("rope/{pairing_name}_{name}"), move |_| {
            cases::rope::cases(pairing, float)
        }));
    }
    trials.extend(relation(&format!("norm/rms_{name}/a_row_has_the_same_bits_alone"), move |device| {
        rows::of_norm(float, device)
    }));
    trials.extend(relation(&format!("layer_norm/{name}/a_row_has_the_same_bits_alone"), move |device| {
        rows::of_layer_norm(float, device)
    }));
    trials.extend(relation(&format!("gelu/{name}/a_row_has_the_same_bits_alone"), move |device| {
        rows::of_gelu(float, device)
    }));
    trials.extend(relation(&format!("swiglu/{name}/a_row_has_the_same_bits_alone"), move |device| {
        rows::of_swiglu(float, device)
    }));
    trials
}

/// What there is for each type that the tensor core takes.
fn of_halves(float: Float) -> Vec<Trial> {
    let name = float.name();
    let mut trials = suite(&format!("matmul/{name}"), move |scale| cases::matmul::cases(float, scale));
    trials.extend(suite(&format!("rows/{name}"), move |_| cases::rows::cases(float)));
    for (path_name, path) in [("whole", Path::Whole), ("chunk", Path::Chunks), ("prompt", Path::Prompt)] {
        trials.extend(suite(&format!("flash/{path_name}_{name}"), move |scale| {
            cases::flash::cases(float, path, scale)
        }));
    }
    trials.extend(suite_where(
        &format!("flash/prompt_group_{name}"),
        move |scale| cases::flash::cases(float, Path::PromptGroup, scale),
        Device::has_warpgroups,
    ));
    trials.extend(relation(&format!("flash/{name}/whole_is_chunks_merged"), move |device| {
        paths::whole_is_chunks_merged(float, device)
    }));
    trials.extend(relation(&format!("flash/{name}/a_form_is_rounded"), move |device| {
        paths::a_form_is_rounded(float, device)
    }));
    trials.extend(relation(&format!("flash/{name}/a_tile_does_not_matter"), move |device| {
        paths::a_tile_does_not_matter(float, device)
    }));
    trials.extend(relation(&format!("matmul/{name}/a_row_has_the_same_bits_alone"), move |device| {
        rows::of_matmul(float, device)
    }));
    trials.extend(relation(&format!("rows/{name}/a_row_has_the_same_bits_alone"), move |device| {
        rows::of_rounding(float, device)
    }));
    trials
}
