//! Requests and command lines that are refused, each with one clear answer.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use runtime::device::Device;
use serde_json::json;
use worker_orcd::images::IMAGES;

use crate::common::{data, executable, expect_error_line, output, stdout};
use crate::server::{Server, serve};

pub(crate) fn trials() -> Vec<Trial> {
    let has_it = Device::cuda(7, IMAGES).is_ok();
    vec![
        Trial::test("a_prompt_over_the_context_is_refused_before_it_runs", context_overflow),
        Trial::test("all_faults_of_a_request_are_told_at_once", faults),
        Trial::test("a_port_in_use_is_one_line", port_in_use),
        Trial::test("a_file_cut_short_anywhere_is_one_line", cut_short),
        Trial::test("a_file_that_is_no_model_is_one_line", no_model),
        Trial::test("an_unknown_model_is_one_line", unknown_model),
        Trial::test("a_gpu_that_is_not_there_is_one_line", no_gpu)
            .with_kind(if has_it { "has eight GPUs" } else { "" })
            .with_ignored_flag(has_it),
        Trial::test("too_little_memory_for_keys_and_values_is_one_line", too_little_memory),
    ]
}

/// A model with a context of 256 tokens, whose most likely ones do not end.
const MODEL: &str = "llama31-f32.gguf";

fn context_overflow() -> Result<(), Failed> {
    let server = Server::start(&mut serve(&data(MODEL)))?;
    let long = "\u{1}".repeat(256);
    for (request, parts) in [
        (json!({"job_id": "a", "prompt": long}), ["256 prompt tokens", "1 to generate"]),
        (json!({"job_id": "a", "prompt": "a", "max_tokens": 256}), ["1 prompt tokens", "256 to generate"]),
    ] {
        let answer = server.post("/execute", &request)?;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (400, &json!("CONTEXT_OVERFLOW")),
            "{}",
            answer.body
        );
        assert_eq!(answer.body["retriable"], false);
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let all =
        server.complete(&json!({"job_id": "a", "prompt": "a", "max_tokens": 255, "temperature": 0.0}))?;
    assert_eq!(
        (all.last.0.as_str(), all.last("tokens_out")),
        ("end", &json!(255)),
        "the context can be filled"
    );
    Ok(())
}

fn faults() -> Result<(), Failed> {
    let server = Server::start(&mut serve(&data(MODEL)))?;
    // The vocabulary of this model bounds top_k.
    let request =
        json!({"job_id": "a", "prompt": "", "max_tokens": 0, "top_k": 321, "stop": [""], "colour": 1});
    let answer = server.post("/execute", &request)?;
    assert_eq!(answer.status, 400);
    let errors = answer.body["errors"].as_array().ok_or("no errors")?;
    let mut fields: Vec<&str> = errors.iter().filter_map(|error| error["field"].as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["colour", "max_tokens", "prompt", "stop[0]", "top_k"]);
    Ok(())
}

/// The command must fail with one line that has the `parts`, and nothing on stdout.
fn refused(command: &mut Command, parts: &[&str]) -> Result<(), Failed> {
    let output = output(command)?;
    expect_error_line(&output, parts);
    assert_eq!(stdout(&output), "");
    Ok(())
}

fn port_in_use() -> Result<(), Failed> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let mut command = Command::new(executable());
    command.args(["serve", "--device", "cpu", "--port", &port, "--model"]).arg(data(MODEL));
    refused(&mut command, &["127.0.0.1", &port, "in use", "--port"])
}

fn cut_short() -> Result<(), Failed> {
    let whole = std::fs::read(data(MODEL))?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("cut.gguf");
    for length in [0, 3, 4, 20, 100, 5_000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length])?;
        refused(&mut serve(&path), &["cut.gguf"])?;
    }
    Ok(())
}

fn no_model() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notes.gguf");
    std::fs::write(&path, "not a model, but longer than the head of one: ".repeat(10))?;
    refused(&mut serve(&path), &["notes.gguf", "GGUF"])
}

fn unknown_model() -> Result<(), Failed> {
    refused(&mut serve(Path::new("smolm2")), &["\"smolm2\"", "did you mean smollm2?"])
}

fn no_gpu() -> Result<(), Failed> {
    let reason = Device::cuda(7, IMAGES).err().ok_or("there is one")?.to_string();
    let mut command = Command::new(executable());
    command.args(["serve", "--port", "0", "--device", "cuda:7", "--model"]).arg(data(MODEL));
    refused(&mut command, &[&reason])?;
    let mut command = Command::new(executable());
    command.args(["run", "--device", "cuda:7", "--model"]).arg(data(MODEL)).arg("hello");
    refused(&mut command, &[&reason])
}

fn too_little_memory() -> Result<(), Failed> {
    // A pebibyte.
    refused(
        serve(&data(MODEL)).args(["--kv-cache-size-mb", "1073741824"]),
        &["cpu", "out of memory", "kv_cache"],
    )
}
