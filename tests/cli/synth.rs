//! `synth`: writes models that run, whole or not at all.

use std::fs;
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::common::output;
use crate::{expect_failure, stderr, stdout, worker};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a_written_model_runs_and_the_same_seed_writes_the_same_file", writes),
        Trial::test("a_file_that_is_there_stays_without_force", there_already),
        Trial::test("what_cannot_be_written_is_told_in_a_line_and_leaves_nothing", faults),
        Trial::test("the_help_names_every_type", help),
        Trial::test("a_full_disk_is_told_in_a_line_and_leaves_nothing", full_disk),
    ]
}

/// `synth` of the shape for tests.
fn synth(file: &Path, more: &[&str]) -> Result<std::process::Output, Failed> {
    let folder = tempfile::tempdir()?;
    let mut command = worker(folder.path());
    command.args(["synth", "tiny", "--quant", "q4_0", "--write"]).arg(file).args(more);
    Ok(output(&mut command)?)
}

fn writes() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let [one, same, other] =
        ["one", "same", "other"].map(|name| folder.path().join(name).with_extension("gguf"));
    for (file, seed) in [(&one, "3"), (&same, "3"), (&other, "4")] {
        let done = synth(file, &["--seed", seed])?;
        assert!(done.status.success() && done.stdout.is_empty(), "{done:?}");
    }
    assert!(fs::read(&one)? == fs::read(&same)? && fs::read(&one)? != fs::read(&other)?);
    assert_eq!(fs::read_dir(folder.path())?.count(), 3, "nothing but the files");

    let mut run = worker(folder.path());
    let done =
        output(run.args(["run", "--device", "cpu", "--max-tokens", "64", "--model"]).arg(&one).arg("Hé"))?;
    assert!(done.status.success() && stdout(&done).ends_with('\n'), "{done:?}");
    assert!(stderr(&done).contains("\"tokens_out\":"), "{done:?}");

    let mut trace = worker(folder.path());
    let done = output(trace.args(["trace", "--ids", "1,2,3", "--steps", "2", "--model"]).arg(&one))?;
    assert!(done.status.success() && stdout(&done).lines().count() == 3, "{done:?}");
    Ok(())
}

fn there_already() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("model.gguf");
    fs::write(&file, "mine")?;
    expect_failure(&synth(&file, &[])?, &["model.gguf is there already", "--force"]);
    assert_eq!(fs::read(&file)?, b"mine");
    let done = synth(&file, &["--force"])?;
    assert!(done.status.success(), "{done:?}");
    assert!(fs::read(&file)?.starts_with(b"GGUF"));
    Ok(())
}

fn faults() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("model.gguf");
    expect_failure(&synth(&file, &["--device", "gpu"])?, &["a device is auto, cpu or cuda:N"]);
    expect_failure(
        &synth(&folder.path().join("none/model.gguf"), &[])?,
        &["model.gguf.part: ", "the file takes "],
    );
    expect_failure(&synth(Path::new("/"), &[])?, &["names no file"]);
    for (arguments, part) in [
        (
            ["synth", "tiny", "--quant", "iq2_s"],
            "there are bf16, f16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs, mxfp4",
        ),
        (["synth", "phi", "--quant", "q4_0"], "there are smollm2-135m, llama-3.2-1b, llama-3-8b"),
    ] {
        let done = output(worker(folder.path()).args(arguments).arg("--write").arg(&file))?;
        expect_failure(&done, &[part]);
    }
    assert_eq!(fs::read_dir(folder.path())?.count(), 0);
    Ok(())
}

fn help() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for command in ["synth", "bench"] {
        let done = output(worker(folder.path()).args([command, "--help"]))?;
        for ty in runtime::synthetic::QUANTS {
            let name = ty.name().to_lowercase();
            assert!(stdout(&done).contains(&name), "no {name} in: {}", stdout(&done));
        }
    }
    Ok(())
}

/// A file larger than this process may write fails as one that the disk has no room for.
fn full_disk() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("model.gguf");
    let command = format!(
        "trap '' XFSZ; ulimit -f 16; exec '{}' synth tiny --quant bf16 --write '{}'",
        crate::executable().display(),
        file.display()
    );
    let done = output(std::process::Command::new("sh").args(["-c", &command]))?;
    expect_failure(&done, &["model.gguf.part: File too large", "the file takes "]);
    assert_eq!(stderr(&done).lines().count(), 1, "{}", stderr(&done));
    assert_eq!(fs::read_dir(folder.path())?.count(), 0);
    Ok(())
}
