//! The executable and the library over whole models: against what an independent reference computed, and against
//! themselves, to the bit, in both numerics.
//!
//! Trials on `cuda:0` are ignored where there is no GPU, unless `WORKER_ORCD_REQUIRE` has `cuda`; those with SmolLM2 where
//! its file cannot be had, unless it has `model`. Hashes of the bits for a report: `worker-orcd trace --json`.

mod bits;
mod case;
#[path = "../common/mod.rs"]
mod common;
mod engine;
mod gemm;
mod loaded;
mod mixture;
mod reference;
mod sampled;
mod trace;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use runtime::device::Device;
use runtime::gguf::TensorType;
use runtime::numerics::Numerics;
use runtime::synthetic::QUANTS;
use runtime::worker::DeviceChoice;
use worker_orcd::images::IMAGES;

use case::{Case, Subject};
use reference::agrees_with_the_reference;

/// `llama-mixed` has a matrix or two in each of IQ4_XS, Q2_K, Q8_0, Q6_K, IQ4_NL, Q3_K and Q5_K.
const FIXTURES: &[&str] = &[
    "llama-f32",
    "llama-f16",
    "llama-bf16",
    "llama-q8_0",
    "llama-q4_0",
    "llama-q4_1",
    "llama-q5_0",
    "llama-q5_1",
    "llama-q4_k",
    "llama-q5_k",
    "llama-q6_k",
    "llama-mxfp4",
    "llama-mixed",
    "llama31-f32",
    "llama-window-f16",
    "qwen2-f32",
    "qwen2-bf16",
    "qwen2-yarn-f16",
    "qwen3-f32",
    "qwen3-f16",
    "phi3-f32",
    "phi3-longrope-f16",
    "phi3-window-bf16",
    "gpt2-f32",
    "gpt2-f16",
    "gpt-oss-f32",
    "gpt-oss-mxfp4",
];

/// What is proved of a model's bits.
type Proof = fn(&Case) -> Result<(), Failed>;

const ON_EACH_DEVICE: [(&str, Proof); 4] = [
    ("a_prompt_in_pieces_gives_the_same_bits", bits::pieces),
    ("a_row_among_others_gives_the_same_bits", bits::company),
    ("a_token_decoded_gives_the_bits_of_one_read", bits::decoding),
    ("used_pages_change_no_bit", bits::used_pages),
];

fn main() {
    let arguments = Arguments::from_args();
    let model = if arguments.list { Err("not fetched".to_owned()) } else { common::smollm2() };
    let no_gpu = Device::cuda(0, IMAGES).is_err();

    let mut trials = reference::trials();
    trials.extend(trace::trials());
    trials.extend(gemm::trials(no_gpu));
    trials.extend(engine::trials(no_gpu));
    for device in [DeviceChoice::Cpu, DeviceChoice::Cuda(0)] {
        let lacks = device != DeviceChoice::Cpu && no_gpu;
        let on_device = |trial: Trial| {
            let ignored = trial.has_ignored_flag() || (lacks && !common::required("cuda"));
            trial.with_kind(if lacks { "no CUDA device" } else { "" }).with_ignored_flag(ignored)
        };
        for numerics in [Numerics::F32, Numerics::Tc] {
            let mut of_numerics = with_smollm2(&model, device, numerics);
            let fixtures = FIXTURES.iter().map(|name| Subject::Fixture(name));
            let drawn = QUANTS.map(Subject::Drawn).into_iter().chain([Subject::Mixture(TensorType::MXFP4)]);
            for subject in fixtures.chain(drawn) {
                of_numerics.extend(trials_of(&Case { subject, device, numerics }));
            }
            trials.extend(of_numerics.into_iter().map(on_device));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// The GPU for one trial at a time: while one records a graph, what loads code fails in the process's other threads, cuBLAS's
/// products among it.
pub(crate) fn gpu() -> MutexGuard<'static, ()> {
    static GPU: Mutex<()> = Mutex::new(());
    GPU.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A proof, alone on its device if that is a GPU.
fn prove(test: Proof, case: &Case) -> Result<(), Failed> {
    let _alone = (!case.is_cpu()).then(gpu);
    test(case)
}

/// The trials of a model that is there.
fn trials_of(case: &Case) -> Vec<Trial> {
    let mut trials = Vec::new();
    if let Subject::Fixture(name) = case.subject {
        let (device, numerics) = (case.device, case.numerics);
        let agrees = |golden: String| {
            let path = common::data(&format!("{name}.gguf"));
            move || {
                let _alone = (device != DeviceChoice::Cpu).then(gpu);
                agrees_with_the_reference(&path, &golden, device, numerics, None)
            }
        };
        trials.push(Trial::test(format!("{case}/agrees_with_the_reference"), agrees(name.to_owned())));
        if name == "phi3-longrope-f16" {
            let agrees = agrees(format!("{name}.long"));
            trials.push(Trial::test(format!("{case}/agrees_with_the_reference_in_a_long_context"), agrees));
        }
        let of = case.clone();
        let every = move || prove(reference::every_position, &of);
        trials.push(Trial::test(format!("{case}/agrees_with_the_reference_at_every_position"), every));
    }
    for (proves, test) in proofs(case).into_iter().chain(of_sampling(case)) {
        let of = case.clone();
        trials.push(Trial::test(format!("{case}/{proves}"), move || prove(test, &of)));
    }
    trials
}

/// The trials of SmolLM2.
fn with_smollm2(model: &Result<PathBuf, String>, device: DeviceChoice, numerics: Numerics) -> Vec<Trial> {
    let case = move |path: PathBuf| Case { subject: Subject::Smollm2(path), device, numerics };
    let unnamed = case(PathBuf::new());
    let agrees = move |path: &std::path::Path| {
        // Few steps, so that the CPU does not take long; over HTTP its text is compared, too.
        let steps = match (device, numerics) {
            (DeviceChoice::Cpu, Numerics::Tc) => 2,
            _ => 6,
        };
        let _alone = (device != DeviceChoice::Cpu).then(gpu);
        agrees_with_the_reference(path, "smollm2-135m", device, numerics, Some(steps))
    };
    let mut trials = vec![common::with_model(format!("{unnamed}/agrees_with_the_reference"), model, agrees)];
    for (proves, test) in proofs(&unnamed) {
        let test = move |path: &std::path::Path| prove(test, &case(path.to_owned()));
        trials.push(common::with_model(format!("{unnamed}/{proves}"), model, test));
    }
    trials
}

/// The proofs of a model's bits that are made here, by name.
fn proofs(case: &Case) -> Vec<(&'static str, Proof)> {
    let mut proofs = ON_EACH_DEVICE.to_vec();
    if !case.is_cpu() {
        proofs.push(("equals_the_cpu", bits::equals_the_cpu));
    }
    if let Subject::Fixture("gpt-oss-f32" | "gpt-oss-mxfp4") = case.subject {
        proofs.push(("only_chosen_experts_are_read", mixture::only_chosen_experts_are_read));
    }
    if case.is_slow() {
        proofs.retain(|(proves, _)| ["pieces", "decoded"].iter().any(|word| proves.contains(word)));
    }
    proofs
}

/// The proofs of what is sampled, made with a few fixtures.
fn of_sampling(case: &Case) -> Vec<(&'static str, Proof)> {
    let Subject::Fixture(name) = case.subject else { return Vec::new() };
    let mut proofs: Vec<(&'static str, Proof)> = Vec::new();
    if matches!(name, "llama-f32" | "llama31-f32") && case.numerics == Numerics::F32 {
        proofs.push(("logprobs_are_the_references", sampled::logprobs));
    }
    if matches!(name, "llama-f32" | "llama-q8_0") {
        proofs.push(("a_request_is_sampled_alone", sampled::company));
    }
    if name == "llama-f32" {
        proofs.push(("bias_and_penalties_decide", sampled::penalties));
        proofs.push(("a_completion_ends_when_it_may", sampled::ends));
    }
    proofs
}
