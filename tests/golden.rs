//! The executable and the library against what an independent reference computed, and against themselves: the same
//! tokens give the same bits whole or in pieces, alone or among others.
//!
//! Trials on `cuda:0` are ignored where there is no GPU, unless `WORKER_ORCD_REQUIRE` has `cuda`.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use libtest_mimic::{Arguments, Failed, Trial};
use runtime::batch::{Batch, BatchLimits, Chunk};
use runtime::device::Device;
use runtime::gguf::Gguf;
use runtime::kv_cache::pages_for;
use runtime::model::Model;
use runtime::worker::DeviceChoice;
use serde_json::{Value, json};
use tempfile::TempDir;
use worker_orcd::images::IMAGES;

use common::{data, executable, expect_error_line, golden, output, stdout, with_model};

const FIXTURES: [&str; 7] =
    ["llama-f32", "llama-f16", "llama-bf16", "llama-q8_0", "llama-q4_0", "llama-q4_1", "llama31-f32"];

/// A test of a model, with the name of its golden data, on a device.
type Test = fn(&Path, &str, DeviceChoice) -> Result<(), Failed>;

const ON_EACH_DEVICE: [(&str, Test); 3] = [
    ("agrees_with_the_reference", agrees_with_the_reference),
    ("a_prompt_in_pieces_gives_the_same_bits", pieces_give_the_same_bits),
    ("a_sequence_among_others_gives_the_same_bits", company_changes_no_bit),
];

fn main() {
    let arguments = Arguments::from_args();
    let model = if arguments.list { Err("not fetched".to_owned()) } else { common::smollm2() };
    let no_gpu = Device::cuda(0, IMAGES).is_err();

    let mut trials = vec![
        Trial::test("an_altered_layer_is_named", an_altered_layer_is_named),
        Trial::test("an_altered_logit_fails_with_all_layers_equal", an_altered_logit_fails),
        Trial::test("an_altered_greedy_id_is_told", an_altered_greedy_id_is_told),
        Trial::test("no_computation_meets_a_tolerance_of_zero", zero_tolerance),
        Trial::test("golden_data_of_another_model_are_refused", another_model),
        Trial::test("a_golden_file_that_is_none_is_refused_by_name", no_golden_file),
        Trial::test("an_id_outside_of_the_vocabulary_is_one_line", id_out_of_range),
        Trial::test("a_prompt_over_the_context_is_one_line", prompt_over_the_context),
        Trial::test("the_json_has_the_golden_fields_and_the_same_bits_each_run", json_of_a_trace),
    ];
    for device in [DeviceChoice::Cpu, DeviceChoice::Cuda(0)] {
        let lacks = device != DeviceChoice::Cpu && no_gpu;
        let mut add = |trial: Trial| {
            let ignored = trial.has_ignored_flag() || (lacks && !common::required("cuda"));
            trials
                .push(trial.with_kind(if lacks { "no CUDA device" } else { "" }).with_ignored_flag(ignored));
        };
        for (proves, test) in ON_EACH_DEVICE {
            for name in FIXTURES {
                let path = data(&format!("{name}.gguf"));
                add(Trial::test(format!("{name}/{device}/{proves}"), move || test(&path, name, device)));
            }
        }
        let agrees = move |path: &Path| {
            // Few steps, so that the CPU does not take long; over HTTP its text is compared, too.
            agrees(trace(path, device).args(["--steps", "6"]), "smollm2-135m")
        };
        add(with_model(format!("smollm2-135m/{device}/agrees_with_the_reference"), &model, agrees));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// `trace` of a model on a device.
fn trace(model: &Path, device: DeviceChoice) -> Command {
    let mut command = Command::new(executable());
    command.args(["trace", "--device", &device.to_string(), "--model"]).arg(model);
    command
}

/// `trace` of the fixture that most trials take, on the CPU.
fn trace_fixture() -> Command {
    trace(&data("llama-f32.gguf"), DeviceChoice::Cpu)
}

/// The words of each prompt's row.
fn rows(output: &Output) -> Vec<Vec<&str>> {
    stdout(output).lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

fn agrees_with_the_reference(model: &Path, name: &str, device: DeviceChoice) -> Result<(), Failed> {
    agrees(&mut trace(model, device), name)
}

/// Asserts that every prompt of the golden data gives what they say.
fn agrees(trace: &mut Command, name: &str) -> Result<(), Failed> {
    let output = output(trace.arg("--golden").arg(data(&format!("{name}.json"))))?;
    assert!(output.status.success(), "{output:?}");
    let rows = rows(&output);
    assert_eq!(Some(rows.len()), golden(name)?["prompts"].as_array().map(Vec::len));
    assert!(rows.iter().all(|row| row[2] == "same" && row[5] == "none" && row[7] == "ok"), "{rows:?}");
    Ok(())
}

/// Runs the fixture's golden data after `alter` changed the second prompt's, asserts that this one fails and the
/// others pass, and gives its row: tokens, greedy, relative L2, greatest, first layer.
fn altered(alter: impl FnOnce(&mut Value)) -> Result<[String; 5], Failed> {
    let folder = tempfile::tempdir()?;
    let mut golden = golden("llama-f32")?;
    alter(&mut golden["prompts"][1]);
    let path = write(&folder, &golden.to_string())?;
    let output = output(trace_fixture().arg("--golden").arg(&path))?;
    expect_error_line(&output, &["1 of 3 prompts differ from", &path.display().to_string()]);
    let rows = rows(&output);
    assert_eq!(rows.iter().map(|row| row[7]).collect::<Vec<_>>(), ["ok", "FAILED", "ok"]);
    Ok(std::array::from_fn(|i| rows[1][i + 1].to_owned()))
}

fn write(folder: &TempDir, text: &str) -> std::io::Result<PathBuf> {
    let path = folder.path().join("golden.json");
    std::fs::write(&path, text)?;
    Ok(path)
}

fn an_altered_layer_is_named() -> Result<(), Failed> {
    let [_, greedy, _, greatest, layer] = altered(|prompt| {
        let block = &mut prompt["layers"][2];
        assert_eq!(block["name"], "block.1");
        let l2 = block["l2_last"].as_f64().expect("a number");
        let value = &mut block["first8_last"][3];
        *value = json!(value.as_f64().expect("a number") + 2e-4 * l2);
    })?;
    assert_eq!((greedy.as_str(), layer.as_str()), ("same", "block.1"));
    assert!(greatest.parse::<f64>()? < 1e-4, "the logits are as they were: {greatest}");
    Ok(())
}

fn an_altered_logit_fails() -> Result<(), Failed> {
    let [_, greedy, _, greatest, layer] = altered(|prompt| {
        let mut logits = final_logits(prompt);
        let most = logits.iter().fold(0.0, |most: f32, logit| most.max(logit.abs()));
        logits[7] += 2e-4 * most;
        let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        prompt["final_logits_b64"] = json!(BASE64_STANDARD.encode(bytes));
    })?;
    assert_eq!((greedy.as_str(), layer.as_str()), ("same", "none"));
    let greatest: f64 = greatest.parse()?;
    assert!((1.9e-4..2.1e-4).contains(&greatest), "{greatest}");
    Ok(())
}

fn an_altered_greedy_id_is_told() -> Result<(), Failed> {
    let [_, greedy, _, _, layer] = altered(|prompt| {
        let id = prompt["greedy"][5].as_u64().expect("an id");
        prompt["greedy"][5] = json!((id + 1) % 300);
    })?;
    assert_eq!((greedy.as_str(), layer.as_str()), ("DIFFER", "none"));
    Ok(())
}

fn zero_tolerance() -> Result<(), Failed> {
    let output = output(trace_fixture().args(["--tolerance", "0", "--golden"]).arg(data("llama-f32.json")))?;
    expect_error_line(&output, &["3 of 3 prompts differ"]);
    assert!(rows(&output).iter().all(|row| row[7] == "FAILED"), "{output:?}");
    Ok(())
}

fn another_model() -> Result<(), Failed> {
    let path = data("llama-f16.json");
    let output = output(trace_fixture().arg("--golden").arg(&path))?;
    let sha256 = |name| Ok::<_, Failed>(golden(name)?["sha256"].as_str().unwrap_or_default().to_owned());
    let (of_golden, of_model) = (sha256("llama-f16")?, sha256("llama-f32")?);
    expect_error_line(&output, &["is of another model", &path.display().to_string(), &of_golden, &of_model]);
    assert_eq!(stdout(&output), "");
    Ok(())
}

fn no_golden_file() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let no_logits = json!({"sha256": "", "prompts": [{"ids": [1], "greedy": [], "margins": []}]}).to_string();
    for text in ["", "{}", "[1", &no_logits] {
        let path = write(&folder, text)?;
        let output = output(trace_fixture().arg("--golden").arg(&path))?;
        expect_error_line(&output, &[&path.display().to_string()]);
    }
    let output = output(trace_fixture().arg("--golden").arg(folder.path().join("none.json")))?;
    expect_error_line(&output, &["none.json", "No such file"]);
    Ok(())
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

fn final_logits(prompt: &Value) -> Vec<f32> {
    let text = prompt["final_logits_b64"].as_str().expect("base64");
    let bytes = BASE64_STANDARD.decode(text).expect("base64");
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// A model with room for batches of several sequences.
struct Loaded {
    device: Device,
    model: Model,
}

/// A prompt, and the pages it lies in.
struct Sequence {
    ids: Vec<u32>,
    pages: Vec<u32>,
}

impl Loaded {
    const LIMITS: BatchLimits = BatchLimits { tokens: 256, sequences: 4, context: 128 };
    const PAGES: usize = 16;

    fn open(path: &Path, device: DeviceChoice) -> Result<Self, Failed> {
        let (device, _) = device.open(IMAGES)?;
        let model = Model::load(&device, &Gguf::open(path)?, Self::LIMITS, Self::PAGES, &mut |_, _| ())?;
        Ok(Self { device, model })
    }

    /// Computes `count` tokens of each sequence from `start` on; bits of the logits after each sequence's last token
    /// that was reached.
    fn forward(&mut self, chunks: &[(&Sequence, usize, usize)]) -> Result<Vec<Vec<u32>>, Failed> {
        let mut batch = Batch::default();
        for &(sequence, start, count) in chunks {
            let tokens = &sequence.ids[start..start + count];
            let wants_logits = start + count == sequence.ids.len();
            batch.push(Chunk { tokens, start, pages: &sequence.pages, wants_logits });
        }
        self.model.forward(&self.device, &batch, None)?;
        let vocab = self.model.config().vocab;
        let logits = self.device.download(self.model.logits(), 0, batch.outputs() * vocab)?;
        Ok(logits.chunks(vocab).map(|row| row.iter().map(|logit| logit.to_bits()).collect()).collect())
    }

    /// Bits of the logits after a prompt that is computed `size` tokens at a time.
    fn prompt(&mut self, sequence: &Sequence, size: usize) -> Result<Vec<u32>, Failed> {
        let mut last = Vec::new();
        for start in (0..sequence.ids.len()).step_by(size) {
            last = self.forward(&[(sequence, start, size.min(sequence.ids.len() - start))])?;
        }
        Ok(last.swap_remove(0))
    }
}

/// The golden prompts, each in pages of its own that lie apart.
fn prompts(name: &str) -> Result<Vec<Sequence>, Failed> {
    let golden = golden(name)?;
    let prompts = golden["prompts"].as_array().ok_or("no prompts")?;
    let mut free = (0..Loaded::PAGES as u32).rev().step_by(2).chain((0..Loaded::PAGES as u32).step_by(2));
    let mut sequence = |prompt: &Value| {
        let ids: Vec<u32> = serde_json::from_value(prompt["ids"].clone())?;
        let pages = free.by_ref().take(pages_for(ids.len())).collect();
        Ok(Sequence { ids, pages })
    };
    prompts.iter().map(&mut sequence).collect()
}

fn pieces_give_the_same_bits(path: &Path, name: &str, device: DeviceChoice) -> Result<(), Failed> {
    let mut loaded = Loaded::open(path, device)?;
    let mut prompts = prompts(name)?;
    let prompt = &mut prompts[2];
    let whole = loaded.prompt(prompt, prompt.ids.len())?;
    for size in [1, 3, 16] {
        assert!(loaded.prompt(prompt, size)? == whole, "in pieces of {size}");
    }
    prompt.pages.reverse();
    assert!(loaded.prompt(prompt, 16)? == whole, "in other pages");
    // Without this the comparisons above could hold because nothing is computed.
    prompt.ids[0] ^= 1;
    assert!(loaded.prompt(prompt, 16)? != whole, "the first token has an effect");
    Ok(())
}

fn company_changes_no_bit(path: &Path, name: &str, device: DeviceChoice) -> Result<(), Failed> {
    let mut loaded = Loaded::open(path, device)?;
    let prompts = prompts(name)?;
    let [a, b, c] = prompts.as_slice() else { return Err("three prompts are expected".into()) };
    let mut alone = Vec::new();
    for prompt in &prompts {
        alone.push(loaded.prompt(prompt, prompt.ids.len())?);
    }
    let whole = |prompt| (prompt, 0, Sequence::len(prompt));
    assert!(loaded.forward(&[whole(a), whole(b), whole(c)])? == alone, "three prompts at once");
    assert!(loaded.forward(&[whole(c), whole(a)])? == [&*alone[2], &*alone[0]], "in another order");

    // One sequence's last token as a generated one, beside another's prompt and a third's first part.
    loaded.forward(&[(a, 0, a.len() - 1)])?;
    let mixed = loaded.forward(&[(a, a.len() - 1, 1), (c, 0, 8), whole(b)])?;
    assert!(mixed == alone[..2], "a generated token beside prompts");
    Ok(())
}

impl Sequence {
    fn len(&self) -> usize {
        self.ids.len()
    }
}
