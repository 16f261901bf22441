//! `--numerics`: taken by every command that computes, refused in a line.

use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::{Failed, Trial};

use crate::common::{data, output};
use crate::{expect_failure, stderr, stdout, worker};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("numerics_that_are_not_known_are_refused_in_a_line", faults),
        Trial::test("a_completion_in_each_numerics_is_the_same_each_time", completions),
        Trial::test("the_numerics_of_a_model_are_told_when_it_starts", told),
    ]
}

fn faults() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for command in [
        &["run", "--model", "x", "text"][..],
        &["serve", "--model", "x"],
        &["trace", "--model", "x", "--ids", "1"],
        &["bench", "--model", "x"],
    ] {
        for numerics in ["bf16", "TC", ""] {
            let mut call = worker(folder.path());
            let done = output(call.args(command).arg(format!("--numerics={numerics}")))?;
            expect_failure(&done, &["--numerics", "numerics are f32 or tc"]);
            // Beside the log's lines, which a server writes.
            let lines = stderr(&done).lines().filter(|line| !line.starts_with('{'));
            assert_eq!(lines.count(), 1, "{}", stderr(&done));
        }
    }
    Ok(())
}

/// A completion by the CPU.
fn run(folder: &Path, model: &Path, numerics: &str) -> Result<Output, Failed> {
    let mut command: Command = worker(folder);
    command.args(["run", "--device", "cpu", "--numerics", numerics, "--max-tokens", "48", "--model"]);
    let done = output(command.arg(model).arg("the name of the"))?;
    assert!(done.status.success() && stdout(&done).ends_with('\n'), "{done:?}");
    Ok(done)
}

fn completions() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let drawn = folder.path().join("tiny.gguf");
    let mut synth = worker(folder.path());
    let done = output(synth.args(["synth", "tiny", "--quant", "bf16", "--write"]).arg(&drawn))?;
    assert!(done.status.success(), "{done:?}");
    for model in [drawn, data("llama-q4_1.gguf")] {
        for numerics in ["f32", "tc"] {
            let once = run(folder.path(), &model, numerics)?;
            assert!(stdout(&once).len() > 8, "{once:?}");
            assert_eq!(stdout(&once), stdout(&run(folder.path(), &model, numerics)?), "{numerics}");
        }
    }
    Ok(())
}

fn told() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for numerics in ["f32", "tc"] {
        let done = run(folder.path(), &data("llama-f16.gguf"), numerics)?;
        let told = format!("\"numerics\":\"{numerics}\"");
        assert!(stderr(&done).lines().any(|line| line.contains(&told)), "{}", stderr(&done));
    }
    Ok(())
}
