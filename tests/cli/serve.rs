//! The arguments of `serve`: every fault is told, all of them at once, before anything is loaded.

use std::fs;
use std::path::Path;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::common::{data, expect_error_line, output};
use crate::{stderr, stdout, worker};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("serve_tells_all_faults_of_its_arguments_at_once", at_once),
        Trial::test("serve_names_each_argument_that_cannot_be_used", each),
        Trial::test("serve_help_names_every_argument_and_default", help),
    ]
}

/// Runs `serve`, which must fail before it opens a device: the codes of the log's events, and the last line.
fn faults(folder: &Path, arguments: &[&str]) -> Result<(Vec<String>, String), Failed> {
    let output = output(worker(folder).env_remove("WORKER_ORCD_LOG").arg("serve").args(arguments))?;
    expect_error_line(&output, &["worker-orcd serve --help"]);
    assert_eq!(stdout(&output), "");
    let (events, lines): (Vec<&str>, Vec<&str>) =
        stderr(&output).lines().partition(|line| line.starts_with('{'));
    let mut codes = Vec::new();
    for line in events {
        let event: Value = serde_json::from_str(line)?;
        assert_eq!(event["event"], "error", "nothing was begun: {line}");
        codes.push(event["code"].as_str().ok_or("no code")?.to_owned());
    }
    Ok((codes, lines.concat()))
}

fn at_once() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let wrong = [
        ("--model", "no-such-model"),
        ("--served-model-name", "two\nlines"),
        ("--worker-id", "seven"),
        ("--device", "gpu"),
        ("--gpu-device", "x"),
        ("--numerics", "f64"),
        ("--host", "localhost:80"),
        ("--port", "65536"),
        ("--callback-url", "pool"),
        ("--max-tokens-out", "1048577"),
        ("--kv-cache-size-mb", "0"),
        ("--max-batch", "-1"),
        ("--step-tokens", "0"),
        ("--queue-depth", "1e3"),
        ("--inference-timeout-sec", "0"),
        ("--drain-timeout-sec", "soon"),
        ("--residency-interval-sec", ""),
        ("--api-key-file", "/no/such/file"),
    ];
    let arguments: Vec<&str> = wrong.iter().flat_map(|&(name, value)| [name, value]).collect();
    let (codes, line) = faults(folder.path(), &arguments)?;
    for (name, value) in wrong {
        assert!(line.contains(&format!("{name} {value:?}")), "{name} is not told: {line}");
    }
    assert_eq!(line.matches("; --").count(), wrong.len() - 1, "each once: {line}");
    let mut expected = vec!["INVALID_ARGUMENT"; wrong.len()];
    (expected[0], expected[3], expected[4]) = ("MODEL_LOAD_FAILED", "INVALID_DEVICE", "INVALID_DEVICE");
    // In the order of the check, which tells the device's two names one after the other.
    assert_eq!(codes, expected);
    assert_eq!(fs::read_dir(folder.path())?.count(), 0, "nothing was fetched");
    Ok(())
}

fn each() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (empty, bad) = (folder.path().join("empty"), folder.path().join("bad"));
    fs::write(&empty, "# no key yet\n")?;
    fs::write(&bad, "s3cret key\n")?;
    let path = |path: &Path| path.display().to_string();
    let (empty, bad, here) = (path(&empty), path(&bad), path(folder.path()));
    let model = path(&data("llama31-f32.gguf"));
    for (arguments, code, parts) in [
        (&["--port", "0"][..], "MODEL_LOAD_FAILED", &["--model is missing", "GGUF"][..]),
        (&["--model", &here], "MODEL_LOAD_FAILED", &[&here, "is a folder"]),
        (&["--model", "smolm2"], "MODEL_LOAD_FAILED", &["\"smolm2\"", "did you mean smollm2?"]),
        (&["--model", &model, "--device", "cuda:x"], "INVALID_DEVICE", &["--device", "\"x\"", "cuda:0"]),
        (&["--model", &model, "--gpu-device", "-1"], "INVALID_DEVICE", &["--gpu-device", "\"-1\""]),
        (
            &["--model", &model, "--device", "cpu", "--gpu-device", "0"],
            "INVALID_DEVICE",
            &["--device cpu", "--gpu-device", "cuda:0"],
        ),
        (&["--model", &model, "--port", "99999"], "INVALID_ARGUMENT", &["--port", "from 0 to 65535"]),
        (&["--model", &model, "--host", "::1::"], "INVALID_ARGUMENT", &["--host", "\"::1::\""]),
        (&["--model", &model, "--callback-url", "http://a:b@c"], "INVALID_ARGUMENT", &["--callback-url"]),
        (&["--model", &model, "--callback-url", "http://c/?s3cret"], "INVALID_ARGUMENT", &["query"]),
        (&["--model", &model, "--max-tokens-out", "0"], "INVALID_ARGUMENT", &["from 1 to 1048576"]),
        (&["--model", &model, "--api-key-file", &empty], "INVALID_ARGUMENT", &["--api-key-file", "no key"]),
        (&["--model", &model, "--api-key-file", &bad], "INVALID_ARGUMENT", &["--api-key-file", "line 1"]),
        (&["--model", &model, "--api-key-file", &here], "INVALID_ARGUMENT", &["--api-key-file", "read"]),
    ] {
        let (codes, line) = faults(folder.path(), arguments)?;
        assert_eq!(codes, [code], "{arguments:?}");
        for part in parts {
            assert!(line.contains(part), "no {part:?} in: {line}");
        }
        assert!(!line.contains("s3cret"), "{line}");
        assert!(!line.contains("a:b"), "{line}");
    }
    Ok(())
}

fn help() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let output = worker(folder.path()).args(["serve", "--help"]).output()?;
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    for part in [
        "worker-orcd serve --model <MODEL> [OPTIONS]",
        "--worker-id <UUID>",
        "--gpu-device <N>",
        "--callback-url <URL>",
        "--api-key-file <FILE>",
        "--allow-shutdown",
        "[default: 127.0.0.1]",
        "[default: 8080]",
        "[default: 300]",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    Ok(())
}
