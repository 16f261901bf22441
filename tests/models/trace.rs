//! `trace` of a model: its numbers as JSON, and what it refuses.

use std::path::Path;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use libtest_mimic::{Failed, Trial};
use runtime::numerics::Numerics;
use runtime::worker::DeviceChoice;
use serde_json::Value;

use crate::common::{data, executable, expect_error_line, golden, output, stdout};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("an_id_outside_of_the_vocabulary_is_one_line", id_out_of_range),
        Trial::test("a_prompt_over_the_context_is_one_line", prompt_over_the_context),
        Trial::test("the_json_has_the_golden_fields_and_the_same_bits_each_run", json_of_a_trace),
        Trial::test("the_numerics_make_a_difference_where_weights_have_16_bits", numerics_differ),
    ]
}

/// `trace` of a model on a device.
pub(crate) fn trace(model: &Path, device: DeviceChoice) -> Command {
    let mut command = Command::new(executable());
    command.args(["trace", "--device", &device.to_string(), "--model"]).arg(model);
    command
}

/// `trace` of the fixture that most trials take, on the CPU.
pub(crate) fn trace_fixture() -> Command {
    trace(&data("llama-f32.gguf"), DeviceChoice::Cpu)
}

fn id_out_of_range() -> Result<(), Failed> {
    let output = output(trace_fixture().args(["--ids", "1,319,320"]))?;
    expect_error_line(&output, &["token id 320 at position 2", "vocabulary of 320"]);
    Ok(())
}

fn prompt_over_the_context() -> Result<(), Failed> {
    for (tokens, steps) in [(129, "0"), (1, "128"), (1, "18446744073709551615")] {
        let ids = vec!["1"; tokens].join(",");
        let output = output(trace_fixture().args(["--ids", &ids, "--steps", steps]))?;
        expect_error_line(&output, &[&format!("a prompt of {tokens} tokens"), steps, "context of 128"]);
    }
    let output = output(trace_fixture().args(["--ids", "1", "--steps", "127"]))?;
    assert!(output.status.success(), "the whole context can be used: {output:?}");
    Ok(())
}

fn json_of_a_trace() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let run = |name: &str| -> Result<Value, Failed> {
        let out = folder.path().join(name);
        let mut command = trace_fixture();
        command.arg("--golden").arg(data("llama-f32.json")).arg("--json").arg(&out);
        let output = output(&mut command)?;
        assert!(output.status.success(), "{output:?}");
        Ok(serde_json::from_slice(&std::fs::read(out)?)?)
    };
    let (first, second) = (run("first")?, run("second")?);
    assert_eq!(first, second, "every number, the hash of the logits among them");

    let golden = golden("llama-f32")?;
    for field in ["file", "sha256", "arch"] {
        assert_eq!(first[field], golden[field], "{field}");
    }
    let prompts = |value: &Value| value["prompts"].as_array().cloned().unwrap_or_default();
    assert_eq!(prompts(&first).len(), 3);
    for (got, want) in prompts(&first).iter().zip(prompts(&golden)) {
        for field in ["ids", "greedy"] {
            assert_eq!(got[field], want[field], "{field}");
        }
        for field in ["logprobs", "margins", "top5", "layers"] {
            assert_eq!(got[field].as_array().map(Vec::len), want[field].as_array().map(Vec::len), "{field}");
        }
        for (got, want) in final_logits(got).iter().zip(final_logits(&want)) {
            assert!((got - want).abs() < 1e-3, "{got} {want}");
        }
        let hash = got["final_logits_sha256"].as_str().unwrap_or_default();
        assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    }
    Ok(())
}

/// That the option has an effect; without it the proofs in `tc` could be proofs of `f32`.
fn numerics_differ() -> Result<(), Failed> {
    let logits = |name: &str, numerics: Option<Numerics>| -> Result<String, Failed> {
        let mut command = trace(&data(name), DeviceChoice::Cpu);
        command.args(["--ids", "1,2,3", "--steps", "0"]);
        command.args(numerics.map(|numerics| format!("--numerics={numerics}")));
        let output = output(&mut command)?;
        assert!(output.status.success(), "{output:?}");
        Ok(stdout(&output).to_owned())
    };
    for name in ["llama-f16.gguf", "llama-bf16.gguf", "llama-q4_0.gguf"] {
        let [f32, tc] = [Numerics::F32, Numerics::Tc].map(|numerics| logits(name, Some(numerics)));
        let (f32, tc) = (f32?, tc?);
        assert!(f32 != tc, "{name}: {f32}");
        assert_eq!(logits(name, None)?, f32, "{name}: the CPU's default");
    }
    // Weights of f32 are no tensor core's.
    let [f32, tc] = [Numerics::F32, Numerics::Tc].map(|numerics| logits("llama-f32.gguf", Some(numerics)));
    assert_eq!(f32?, tc?);
    Ok(())
}

pub(crate) fn final_logits(prompt: &Value) -> Vec<f32> {
    let text = prompt["final_logits_b64"].as_str().expect("base64");
    let bytes = BASE64_STANDARD.decode(text).expect("base64");
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
