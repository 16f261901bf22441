//! Hugging Face folders in place of a file.

use std::fs;
use std::path::Path;
use std::process::Output;

use libtest_mimic::{Failed, Trial};

use crate::common::{data, output};
use crate::{expect_failure, stdout, worker};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a_folder_runs_as_it_is_and_quantised", runs),
        Trial::test("a_folder_is_traced_and_measured", traced_and_measured),
        Trial::test("what_a_folder_lacks_is_told_in_a_line", lacks),
        Trial::test("only_a_folder_is_quantised", only_folders),
    ]
}

/// The executable with these arguments and a model.
fn with_model(arguments: &[&str], model: &Path) -> Result<Output, Failed> {
    let cache = tempfile::tempdir()?;
    let mut command = worker(cache.path());
    Ok(output(command.args(arguments).arg("--model").arg(model))?)
}

fn runs() -> Result<(), Failed> {
    let run = |more: &[&str]| {
        let arguments = [&["run", "--device", "cpu", "--max-tokens", "24", "Count the"], more].concat();
        with_model(&arguments, &data("hf-llama"))
    };
    let mut texts = Vec::new();
    for quant in [&[][..], &["--quant", "q8_0"], &["--quant", "q4_0"]] {
        let done = run(quant)?;
        assert!(done.status.success() && done.stdout.len() > 4, "{done:?}");
        assert_eq!(done.stdout, run(quant)?.stdout, "the same twice");
        texts.push(done.stdout);
    }
    assert_ne!(texts[0], texts[2], "4 bits a value are not 16");
    expect_failure(&run(&["--quant", "q5_0"])?, &["q5_0", "q8_0 or q4_0"]);
    Ok(())
}

fn traced_and_measured() -> Result<(), Failed> {
    let trace = with_model(&["trace", "--ids", "1,2,3", "--steps", "2"], &data("hf-gpt2"))?;
    assert!(trace.status.success() && stdout(&trace).lines().count() == 3, "{trace:?}");
    let quantised =
        with_model(&["trace", "--ids", "1,2,3", "--steps", "2", "--quant", "q4_0"], &data("hf-gpt2"))?;
    assert!(quantised.status.success() && stdout(&quantised) != stdout(&trace), "{quantised:?}");
    for (quant, kind) in [(&[][..], "F16"), (&["--quant", "q8_0"], "Q8_0")] {
        let arguments = [&["bench", "--device", "cpu", "-p", "8", "-n", "2", "-r", "1"], quant].concat();
        let bench = with_model(&arguments, &data("hf-qwen2"))?;
        assert!(bench.status.success() && stdout(&bench).contains(&format!("qwen2, {kind}, ")), "{bench:?}");
    }
    let other = with_model(&["bench", "--device", "cpu", "--quant", "q4_1"], &data("hf-qwen2"))?;
    expect_failure(&other, &["--quant", "q8_0 or q4_0"]);
    Ok(())
}

fn lacks() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let commands: [&[&str]; 4] = [
        &["run", "--device", "cpu", "x"],
        &["serve", "--device", "cpu", "--port", "0"],
        &["trace", "--ids", "1"],
        &["bench", "--device", "cpu"],
    ];
    let expect = |parts: &[&str], commands: &[&[&str]]| -> Result<(), Failed> {
        for arguments in commands {
            expect_failure(&with_model(arguments, folder.path())?, parts);
        }
        Ok(())
    };
    expect(&["config.json", "no Hugging Face model"], &commands)?;
    let copy = |name: &str| fs::copy(data("hf-qwen2").join(name), folder.path().join(name));
    copy("config.json")?;
    expect(&["model.safetensors: is missing", "model.safetensors.index.json"], &commands)?;
    copy("model.safetensors")?;
    // Whoever works with token ids alone needs no more.
    expect(&["tokenizer.json"], &commands[..2])?;
    let trace = with_model(commands[2], folder.path())?;
    assert!(trace.status.success(), "{trace:?}");
    copy("tokenizer.json")?;
    let run = with_model(&["run", "--device", "cpu", "--max-tokens", "2", "x"], folder.path())?;
    assert!(run.status.success(), "{run:?}");
    Ok(())
}

fn only_folders() -> Result<(), Failed> {
    for arguments in
        [&["run", "--device", "cpu", "x"][..], &["trace", "--ids", "1"], &["bench", "--device", "cpu"]]
    {
        let arguments = [arguments, &["--quant", "q8_0"]].concat();
        let done = with_model(&arguments, &data("llama-f32.gguf"))?;
        expect_failure(&done, &["llama-f32.gguf is a GGUF file", "only a folder is quantised"]);
    }
    Ok(())
}
