//! The whole way through CUDA (loading, staging, graphs, launches, downloads) on the paper GPU: the same text as the CPU's,
//! and nothing left behind.

use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::{Failed, Trial};

use crate::common::paper::{expect_nothing_left, on_paper, paper_driver};
use crate::common::{data, expect_error_line, output, stderr, stdout};
use crate::worker;

pub(crate) fn trials() -> Vec<Trial> {
    let completions =
        [("llama-f16", "tc"), ("llama-f16", "f32"), ("llama-q4_0", "tc"), ("llama-q4_0", "f32")];
    let mut trials: Vec<Trial> = completions
        .into_iter()
        .map(|(model, numerics)| {
            let name = format!("the_paper_gpu_completes_{model}_in_{numerics}_as_the_cpu_does");
            Trial::test(name, move || completes_as_the_cpu(model, numerics))
        })
        .collect();
    trials.push(Trial::test("drawn_weights_are_benched_on_the_paper_gpu", bench));
    trials.push(Trial::test("doctor_names_the_paper_gpu", doctor));
    trials.push(Trial::test("a_model_too_large_for_the_paper_gpu_leaves_nothing", out_of_memory));
    trials
}

/// The executable with the paper GPU; what it leaves there goes to `log` in `folder`.
fn on_gpu(folder: &Path) -> Result<Command, String> {
    let mut command = worker(folder);
    on_paper(&mut command, &paper_driver()?, &folder.join("log"));
    Ok(command)
}

/// All that the context leaves; drawn, so that every bit of the logits counts.
const TOKENS: u64 = 120;

fn complete(command: &mut Command, device: &str, model: &str, numerics: &str) -> Result<Output, Failed> {
    command.args(["run", "--device", device, "--numerics", numerics, "--temperature", "1.5", "--seed", "3"]);
    command.arg(format!("--max-tokens={TOKENS}"));
    let done = output(command.arg("--model").arg(data(&format!("{model}.gguf"))).arg("the name of the"))?;
    assert!(done.status.success(), "{done:?}");
    Ok(done)
}

fn completes_as_the_cpu(model: &str, numerics: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let want = complete(&mut worker(folder.path()), "cpu", model, numerics)?;
    // Twice: with the PTX compiled, and with what was kept of that.
    for round in ["compiled", "kept"] {
        let got = complete(&mut on_gpu(folder.path())?, "cuda:0", model, numerics)?;
        assert!(stderr(&got).contains("runs on cuda:0 (Paper GPU, compute capability 9.0)"), "{got:?}");
        assert!(stderr(&got).contains(&format!("\"tokens_out\":{TOKENS}")), "{got:?}");
        assert_eq!(stdout(&got), stdout(&want), "{round}");
        let log = folder.path().join("log");
        let did = expect_nothing_left(&log)?;
        std::fs::remove_file(log)?;
        // The prompt gives the first token. The one step of this size that is launched was the load's.
        assert_eq!(did["replays"], TOKENS - 1, "{did:?}");
        assert!(did["kernels"] > TOKENS * 10, "{did:?}");
    }
    Ok(())
}

fn bench() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let mut command = on_gpu(folder.path())?;
    command.args(["bench", "--synthetic", "tiny", "--quant", "q8_0", "--device", "cuda:0", "--profile"]);
    let done = output(command.args(["-p", "40", "-n", "5", "--batch", "1,3", "-r", "1"]))?;
    assert!(done.status.success() && stdout(&done).contains("cuda:0: Paper GPU"), "{done:?}");
    expect_nothing_left(&folder.path().join("log"))?;
    Ok(())
}

fn doctor() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let done = output(on_gpu(folder.path())?.env("PAPER_CUDA_MB", "3072").args(["doctor", "--numerics"]))?;
    for part in
        ["libcuda.so.1, CUDA 13.0\n", "Paper GPU, sm_90, 3.0 GiB\n", "ok numerics cuda:0  matches hopper"]
    {
        assert!(stdout(&done).contains(part), "no {part:?} in {}", stdout(&done));
    }
    expect_nothing_left(&folder.path().join("log"))?;
    Ok(())
}

fn out_of_memory() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let mut command = on_gpu(folder.path())?;
    command.env("PAPER_CUDA_MB", "1").args(["run", "--device", "cuda:0", "--model"]);
    let done = output(command.arg(data("llama-f16.gguf")).arg("the name of the"))?;
    assert_eq!(stdout(&done), "");
    expect_error_line(
        &done,
        &[
            "out of memory on cuda:0: ",
            " bytes needed for activations, ",
            " free; in use: weights 2",
            "kv_cache 0",
        ],
    );
    expect_nothing_left(&folder.path().join("log"))?;
    Ok(())
}
