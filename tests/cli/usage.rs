//! Usage faults, help, `doctor`, and what the executable needs to start.

use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::{executable, expect_failure, stderr, stdout, worker};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a_usage_fault_is_one_line_and_exit_code_1", usage_faults),
        Trial::test("help_and_version_go_to_stdout_and_succeed", help),
        Trial::test("doctor_succeeds_and_says_how_to_get_a_missing_model", doctor),
        Trial::test("doctor_names_a_broken_model", doctor_broken),
        Trial::test("doctor_prints_the_same_findings_as_json", doctor_json),
        Trial::test("doctor_finds_that_the_cpu_computes_as_hopper_does", doctor_numerics),
        Trial::test("the_executable_does_not_need_libcuda_to_start", no_libcuda),
    ]
}

fn usage_faults() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    for (arguments, part) in [
        (&[][..], "requires a subcommand"),
        (&["pull"], "<NAME>"),
        (&["pul"], "unrecognized subcommand 'pul'"),
        (&["doctor", "--jsn"], "unexpected argument '--jsn'"),
    ] {
        let output = worker(cache.path()).args(arguments).output()?;
        expect_failure(&output, &[part, "--help"]);
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
    Ok(())
}

fn help() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    for (argument, part) in [("--help", "pull"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let output = worker(cache.path()).arg(argument).output()?;
        assert!(output.status.success(), "{output:?}");
        assert!(stdout(&output).contains(part), "{}", stdout(&output));
        assert_eq!(stderr(&output), "");
    }
    Ok(())
}

fn doctor() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let output = worker(cache.path()).arg("doctor").output()?;
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert!(lines[0].starts_with("ok cpu "), "{lines:?}");
    for part in ["driver ", "cublas ", "kernel compiler ", "model smollm2 "] {
        assert!(lines.iter().any(|line| line[3..].starts_with(part)), "no {part:?} in {lines:#?}");
    }
    let model = lines.iter().find(|line| line.contains("model smollm2")).expect("found above");
    assert!(model.starts_with("-- ") && model.contains("`worker-orcd pull smollm2`"), "{model}");
    assert!(!cache.path().join("models").exists(), "doctor only looks");
    Ok(())
}

fn doctor_broken() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let models = cache.path().join("models");
    std::fs::create_dir(&models)?;
    std::fs::write(models.join("SmolLM2-135M-Instruct.Q4_1.gguf"), "GGUF")?;
    let output = worker(cache.path()).arg("doctor").output()?;
    assert!(output.status.success(), "{output:?}");
    assert!(stdout(&output).contains("SmolLM2-135M-Instruct.Q4_1.gguf is broken"), "{}", stdout(&output));
    Ok(())
}

fn doctor_json() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let text = worker(cache.path()).arg("doctor").output()?;
    let output = worker(cache.path()).args(["doctor", "--json"]).output()?;
    assert!(output.status.success(), "{output:?}");
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    assert_eq!(findings.len(), stdout(&text).lines().count());
    for (finding, line) in findings.iter().zip(stdout(&text).lines()) {
        assert_eq!(finding["ok"], line.starts_with("ok "), "{line}");
        let (part, found) = (finding["part"].as_str(), finding["found"].as_str());
        assert!(line[3..].starts_with(part.ok_or("part is text")?), "{line}");
        assert!(line.ends_with(found.ok_or("found is text")?), "{line}");
    }
    Ok(())
}

fn doctor_numerics() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let output = worker(cache.path()).args(["doctor", "--numerics", "--json"]).output()?;
    assert!(output.status.success(), "{output:?}");
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    let find = |part: &str| findings.iter().find(|finding| finding["part"] == part).ok_or(part.to_owned());

    let cpu = find("numerics cpu")?;
    let found = cpu["found"].as_str().ok_or("found is text")?;
    assert_eq!(cpu["ok"], true, "{found}");
    // `matches hopper: N of N values (ampere: M of N values, ...)`
    let counts = |model: &str| -> Option<(usize, usize)> {
        let (equal, rest) = found.split_once(&format!("{model}: "))?.1.split_once(" of ")?;
        Some((equal.parse().ok()?, rest.split_once(' ')?.0.parse().ok()?))
    };
    assert!(found.starts_with("matches hopper: "), "{found}");
    assert!(counts("hopper").is_some_and(|(equal, all)| equal == all && all >= 900_000), "{found}");
    assert!(counts("ampere").is_some_and(|(equal, all)| 0 < equal && equal < all), "{found}");

    let gpu = find("numerics cuda:0")?;
    let found = gpu["found"].as_str().ok_or("found is text")?;
    let driver = find("driver")?["ok"] == true;
    assert_eq!(gpu["ok"] == true, found.starts_with("matches "), "{found}");
    assert!(driver || gpu["ok"] == false, "{found}");
    Ok(())
}

fn no_libcuda() -> Result<(), Failed> {
    let output = Command::new("ldd").arg(executable()).output()?;
    assert!(stdout(&output).contains("libc.so"), "{output:?}");
    assert!(!stdout(&output).contains("libcu"), "{}", stdout(&output));
    Ok(())
}
