//! `bench`: the table and the JSON say the same, and what cannot be measured is told in a line.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::common::{data, output};
use crate::{expect_failure, stdout, worker};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a_bench_of_a_file_is_a_table_and_the_same_as_json", file),
        Trial::test("a_bench_of_drawn_weights_prints_json_alone", drawn),
        Trial::test("what_a_bench_cannot_measure_is_told_in_a_line", faults),
    ]
}

const NAMES: [&str; 8] =
    ["pp20", "pp33", "tg5", "tg5 x3", "pp20 @ d17", "pp33 @ d17", "tg5 @ d17", "tg5 x3 @ d17"];

fn file() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("figures.json");
    let model = data("llama-q8_0.gguf");
    let done = output(
        worker(folder.path())
            .args(["bench", "--device", "cpu", "-p", "20,33", "-n", "5", "--batch", "1,3"])
            .args(["--depth", "17,0", "-r", "2", "--step", "16", "--model"])
            .arg(&model)
            .arg("--json")
            .arg(&json),
    )?;
    assert!(done.status.success(), "{done:?}");
    let figures: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    let lines: Vec<&str> = stdout(&done).lines().collect();
    assert!(lines[0].contains("llama-q8_0.gguf: llama, Q8_0, "), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("device    cpu: ")), "{lines:?}");
    for key in ["weight_bytes", "kv_bytes", "other_bytes", "load_seconds", "load_gb_per_second"] {
        assert!(figures[key].as_f64().is_some_and(|number| number > 0.0), "{key}: {figures}");
    }
    let copy = figures["copy_gb_per_second"].as_f64().ok_or("a copy's bandwidth")?;
    assert!(copy > 0.1 && figures["numerics"] == "f32" && figures["driver"].is_null(), "{figures}");

    let rows = figures["rows"].as_array().ok_or("rows")?;
    let table = &lines[lines.len() - rows.len()..];
    assert_eq!(rows.iter().map(|row| row["name"].as_str()).collect::<Vec<_>>(), NAMES.map(Some));
    for (row, line) in rows.iter().zip(table) {
        let number =
            |key: &str| row[key].as_f64().filter(|&number| number > 0.0).ok_or(format!("{key} of {row}"));
        let seconds: Vec<f64> = serde_json::from_value(row["seconds"].clone())?;
        assert_eq!(seconds.len(), 2);
        let per_second = number("tokens_per_second")?;
        let tokens = number("tokens")? * number("batch")?;
        let mean = seconds.iter().map(|seconds| tokens / seconds).sum::<f64>() / 2.0;
        assert!((per_second / mean - 1.0).abs() < 1e-9, "{row}");
        assert_eq!(
            number("steps")?,
            if row["kind"] == "prompt" { (number("tokens")? / 16.0).ceil() } else { 5.0 }
        );
        let step = seconds.iter().sum::<f64>() / 2.0 / number("steps")?;
        assert!((number("ms_per_step")? / step / 1e3 - 1.0).abs() < 1e-9, "{row}");
        let rate = number("bytes_per_step")? / step / 1e9;
        assert!((number("gb_per_second")? / rate - 1.0).abs() < 1e-9, "{row}");
        assert!((number("share_of_copy")? / (rate / copy) - 1.0).abs() < 1e-9, "{row}");
        let printed: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(Some(printed[0]), row["name"].as_str());
        assert!(printed[1].starts_with(&format!("{per_second:.2} ± ")), "{line} for {row}");
    }
    Ok(())
}

fn drawn() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let done = output(
        worker(folder.path())
            .args(["bench", "--synthetic", "tiny", "--quant", "q4_1"])
            .args(["--device", "cpu", "-p", "0", "-n", "4", "-r", "1", "--json", "-"]),
    )?;
    assert!(done.status.success(), "{done:?}");
    let figures: Value = serde_json::from_slice(&done.stdout)?;
    assert_eq!((&figures["model"], &figures["quant"]), (&"synthetic tiny".into(), &"Q4_1".into()));
    let rows = figures["rows"].as_array().ok_or("rows")?;
    assert!(rows.len() == 1 && rows[0]["name"] == "tg4", "{figures}");
    // Weights without the embedding, each step; and the keys and values of 1 to 4 tokens, f32, in 2 layers of 2 heads
    // of 16.
    let matrices = 2 * (64 * 64 + 64 * 32 * 2 + 64 * 64 + 3 * 64 * 96) + 320 * 64;
    let weights = matrices / 32 * 20 + 5 * 64 * 4;
    let token = 2 * 2 * (2 * 16) * 4;
    assert_eq!(rows[0]["bytes_per_step"].as_f64(), Some(weights as f64 + token as f64 * 2.5));
    Ok(())
}

fn faults() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let tiny = ["--synthetic", "tiny", "--quant", "q4_0", "--device", "cpu"];
    for (arguments, parts) in [
        (
            &["--synthetic", "tiny", "--quant", "q5"][..],
            &[
                "'q5'",
                "there are bf16, f16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs, mxfp4",
            ][..],
        ),
        (&["--synthetic", "gpt", "--quant", "q4_0"], &["'gpt'", "there are smollm2-135m, "]),
        (&["--synthetic", "tiny"], &["--quant"]),
        (&[], &["--model"]),
        (&["--model", "x", "--synthetic", "tiny"], &["cannot be used with"]),
        (&["--model", "no-such-model"], &["neither a file nor a model"]),
        (&[&tiny[..], &["-p", "300"]].concat(), &["pp300 needs 300 positions", "context has 256"]),
        (&[&tiny[..], &["-n", "8", "-p", "8", "--depth", "250"]].concat(), &["@ d250 needs 258 positions"]),
        (&[&tiny[..], &["-n", "0", "-p", "0"]].concat(), &["nothing to measure"]),
        (&[&tiny[..], &["-p", "8", "-n", "8", "--batch", "0"]].concat(), &["streams must not be 0"]),
        (&[&tiny[..], &["-p", "8", "-n", "8", "-r", "0"]].concat(), &["repetitions must not be 0"]),
        (
            &[&tiny[..], &["-p", "8", "-n", "8", "--batch", "1000000000"]].concat(),
            &["cpu has ", "1000000000 streams of up to 8 tokens take "],
        ),
        (
            &[
                &tiny[..],
                &["-p", "8", "-n", "8", "--batch", "18446744073709551615", "--step", "18446744073709551615"],
            ]
            .concat(),
            &["streams of up to 8 tokens take "],
        ),
        (&[&tiny[..], &["-p", "8", "-n", "x"]].concat(), &["'x'"]),
    ] {
        let done = output(worker(folder.path()).arg("bench").args(arguments))?;
        expect_failure(&done, parts);
    }
    Ok(())
}
