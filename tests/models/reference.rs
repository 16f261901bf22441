//! The executable's numbers against what an independent reference computed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use libtest_mimic::{Failed, Trial};
use runtime::kv_cache::pages_for;
use runtime::numerics::Numerics;
use runtime::worker::DeviceChoice;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::case::{CONTEXT, Case};
use crate::common::{data, expect_error_line, golden, output, stdout};
use crate::loaded::{Loaded, Room, Sequence};
use crate::trace::{final_logits, trace, trace_fixture};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("an_altered_layer_is_named", an_altered_layer_is_named),
        Trial::test("an_altered_logit_fails_with_all_layers_equal", an_altered_logit_fails),
        Trial::test("an_altered_greedy_id_is_told", an_altered_greedy_id_is_told),
        Trial::test("no_computation_meets_a_tolerance_of_zero", zero_tolerance),
        Trial::test("golden_data_of_another_model_are_refused", another_model),
        Trial::test("a_golden_file_that_is_none_is_refused_by_name", no_golden_file),
    ]
}

/// The words of each prompt's row.
fn rows(output: &Output) -> Vec<Vec<&str>> {
    stdout(output).lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

/// What the reference computed for a model, whose file has this name beside it.
pub(crate) fn agrees_with_the_reference(
    model: &Path,
    name: &str,
    device: DeviceChoice,
    numerics: Numerics,
    steps: Option<usize>,
) -> Result<(), Failed> {
    let mut trace = trace(model, device);
    trace.args(["--numerics", numerics.name()]);
    if let Some(steps) = steps {
        trace.args(["--steps", &steps.to_string()]);
    }
    agrees(&mut trace, name)
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

/// After every token of a prompt, computed in one piece with those before it: the logits' greatest and their logarithm of
/// summed exponentials.
pub(crate) fn every_position(case: &Case) -> Result<(), Failed> {
    let golden = golden(&case.subject.to_string())?;
    let prompts = golden["prompts"].as_array().ok_or("no prompts")?;
    let positions = prompts.iter().filter_map(|prompt| prompt["ids"].as_array()).map(Vec::len).max();
    let positions = positions.ok_or("no ids")?;
    let room = Room { tokens: positions, sequences: 1, pages: pages_for(positions) };
    let context = golden["options"]["ctx"].as_u64().map_or(CONTEXT, |context| context as usize);
    let mut loaded = Loaded::open_for(case, room, context)?;
    for prompt in prompts {
        loaded.clear();
        let ids: Vec<u32> = serde_json::from_value(prompt["ids"].clone())?;
        let argmax: Vec<u32> = serde_json::from_value(prompt["position_argmax"].clone())?;
        let logsumexp: Vec<f64> = serde_json::from_value(prompt["position_logsumexp"].clone())?;
        assert_eq!((argmax.len(), logsumexp.len()), (ids.len(), ids.len()));
        let whole = loaded.sequence(ids.clone(), 0);
        for (i, (&id, &want)) in argmax.iter().zip(&logsumexp).enumerate() {
            let prefix = Sequence { ids: ids[..=i].to_vec(), pages: whole.pages.clone() };
            let logits = loaded.alone(prefix.whole())?;
            let values: Vec<f64> = logits.iter().map(|&bits| f32::from_bits(bits) as f64).collect();
            let most = values.iter().fold(f64::MIN, |most, &value| most.max(value));
            let got = most + values.iter().map(|value| (value - most).exp()).sum::<f64>().ln();
            let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
            // As `trace` judges them, the reference's own rounding to six digits added.
            let tolerance = largest * if case.numerics == Numerics::F32 { 1e-4 } else { 2e-2 } + 1e-6;
            assert!((got - want).abs() <= tolerance, "position {i}: {got} for {want} +- {tolerance}");
            let chosen = values[id as usize];
            assert!(
                most - chosen <= 2.0 * tolerance,
                "position {i}: token {id} lies {} below",
                most - chosen
            );
        }
    }
    Ok(())
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
