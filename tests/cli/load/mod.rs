//! `bench serve` against a server whose answers and pauses are known.

mod faults;
mod invariance;
mod scripted;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::common::output;
use crate::{stderr, stdout, worker};
use scripted::{Request, Scripted, choice};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("load::times_and_counts_are_those_of_the_server", paced),
        Trial::test("load::the_report_says_the_same_as_json", report),
        Trial::test("load::an_open_loop_does_not_wait_for_answers", open),
        Trial::test("load::the_same_arguments_send_the_same_requests", same),
        Trial::test("load::requests_of_a_warm_up_are_others_and_not_counted", warmup),
        Trial::test("load::cancelled_streams_are_dropped_and_counted_apart", cancelled),
        Trial::test("load::a_dataset_is_sent_as_it_is", dataset),
        Trial::test("load::the_key_is_sent_and_never_shown", key),
        Trial::test("load::tokens_are_counted_by_chunks_where_there_is_no_usage", chunks),
    ];
    trials.extend(faults::trials());
    trials.extend(invariance::trials());
    trials
}

fn bench(folder: &Path, url: &str) -> Command {
    let mut command = worker(folder);
    command.args(["bench", "serve", "--url", url]);
    command
}

/// A run that succeeds, and its JSON.
fn succeed(command: &mut Command) -> Result<Value, Failed> {
    let done = output(command.args(["--json", "-"]))?;
    assert!(done.status.success(), "{done:?}");
    Ok(serde_json::from_slice(&done.stdout)?)
}

fn last_line(output: &Output) -> &str {
    stderr(output).lines().last().unwrap_or_default()
}

/// Five tokens 20 ms apart, after 60 ms in which only an empty text comes.
fn paced() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let server = Scripted::start(|_, reply| {
        reply.begin()?;
        reply.text("")?;
        reply.asked(3);
        sleep(Duration::from_millis(60));
        for i in 0..5 {
            reply.text("ha")?;
            if i < 4 {
                sleep(Duration::from_millis(20));
            }
        }
        reply.end(7, 6)
    })?;
    let all = succeed(bench(folder.path(), &server.url).args(["--requests", "12", "--concurrency", "3"]))?;
    for (name, expected) in [
        ("format", json!(1)),
        ("mode", json!("load")),
        ("endpoint", json!("/v1/completions")),
        ("model", json!("scripted")),
        ("requests", json!(12)),
        ("complete", json!(12)),
        ("failed", json!(0)),
        ("cancelled", json!(0)),
        ("peak_concurrency", json!(3)),
        ("tokens_in", json!(84)),
        ("tokens_out", json!(72)),
        ("tokens_out_counted_by", json!("usage")),
    ] {
        assert_eq!(all[name], expected, "{name}: {all:#}");
    }
    let number = |name: &str, of: &str| all[name][of].as_f64().ok_or_else(|| format!("no {of} of {name}"));
    let per_second = |name: &str| all[name].as_f64().ok_or_else(|| format!("no {name}"));
    for (name, n) in [
        ("time_to_first_token_ms", 12.0),
        ("time_between_tokens_ms", 48.0),
        ("time_per_output_token_ms", 12.0),
        ("request_ms", 12.0),
    ] {
        assert_eq!(number(name, "n")?, n, "{name}");
        let ordered =
            [number(name, "p50")?, number(name, "p95")?, number(name, "p99")?, number(name, "max")?];
        assert!(ordered.is_sorted() && number(name, "mean")? <= ordered[3], "{name}: {ordered:?}");
        let bins = all[name]["histogram"].as_array().ok_or("a histogram")?;
        assert_eq!(bins.iter().filter_map(|bin| bin["count"].as_f64()).sum::<f64>(), n, "{name}: {bins:?}");
    }
    // A pause is never shorter than it was to be; how much longer depends on the machine.
    let (first, gap) = (number("time_to_first_token_ms", "mean")?, number("time_between_tokens_ms", "mean")?);
    assert!((60.0..20_000.0).contains(&number("time_to_first_token_ms", "p50")?), "{all:#}");
    assert!((first + 4.0 * gap >= 140.0) && gap < 10_000.0, "{first} and {gap}");
    let whole = number("request_ms", "mean")?;
    assert!(number("request_ms", "p50")? >= 140.0 && whole >= first + 4.0 * gap - 1e-6, "{all:#}");
    // Six tokens by usage: five after the first.
    assert!((number("time_per_output_token_ms", "mean")? / (gap * 4.0 / 5.0) - 1.0).abs() < 1e-6, "{all:#}");
    let seconds = per_second("seconds")?;
    for (name, count) in
        [("tokens_out_per_second", 72.0), ("tokens_in_per_second", 84.0), ("requests_per_second", 12.0)]
    {
        assert!((per_second(name)? * seconds / count - 1.0).abs() < 1e-9, "{name}: {all:#}");
    }
    // Four rounds of three at a time.
    assert!(seconds >= 4.0 * 0.14, "{seconds}");
    Ok(())
}

fn quick(_: &Request, reply: &mut scripted::Reply) -> std::io::Result<()> {
    reply.begin()?;
    reply.text("well ")?;
    reply.text("then")?;
    reply.end(3, 2)
}

fn report() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("figures.json");
    let server = Scripted::start(quick)?;
    let done = output(bench(folder.path(), &server.url).args(["--requests", "20", "--json"]).arg(&json))?;
    assert!(done.status.success() && stderr(&done).is_empty(), "no terminal, no progress: {done:?}");
    let all: Value = serde_json::from_slice(&fs::read(&json)?)?;
    let text = stdout(&done);
    let line =
        |name: &str| text.lines().find(|line| line.starts_with(name)).ok_or(format!("no {name}: {text}"));
    assert!(line("server")?.ends_with(&format!("{}/v1/completions, model scripted", server.url)), "{text}");
    assert!(line("requests")?.ends_with("20 complete, 0 cancelled, 0 failed"), "{text}");
    assert_eq!(line("tokens")?, "tokens      40 out, counted by usage; 60 in");
    for (name, key) in [
        ("time to first token", "time_to_first_token_ms"),
        ("time between tokens", "time_between_tokens_ms"),
        ("time per output token", "time_per_output_token_ms"),
        ("whole request", "request_ms"),
    ] {
        let cells: Vec<&str> = line(name)?[name.len()..].split_whitespace().collect();
        assert_eq!(cells[0], "20", "{text}");
        for (cell, of) in cells[1..].iter().zip(["mean", "p50", "p95", "p99", "max"]) {
            let number = all[key][of].as_f64().ok_or(format!("no {of} of {key}"))?;
            assert_eq!(**cell, *format!("{number:.3}"), "{of} of {name}");
        }
    }
    let bars = text.lines().filter(|line| line.contains(" ms ") && line.contains('#')).count();
    assert!((2..=24).contains(&bars), "{text}");
    Ok(())
}

/// No answer comes before all requests have.
fn open() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let server = Scripted::start(|request, reply| {
        if !reply.asked(10) {
            return Err(std::io::Error::other("the others never came"));
        }
        sleep(Duration::from_millis(50));
        quick(request, reply)
    })?;
    let all = succeed(bench(folder.path(), &server.url).args(["--requests", "10", "--rate", "200"]))?;
    assert_eq!((&all["complete"], &all["peak_concurrency"]), (&json!(10), &json!(10)), "{all:#}");
    assert_eq!((&all["workload"]["rate"], &all["workload"]["concurrency"]), (&json!(200.0), &Value::Null));
    Ok(())
}

fn same() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let server = Scripted::start(quick)?;
    let send = |seed: &str| -> Result<Vec<Value>, Failed> {
        let before = server.seen.bodies().len();
        let arguments = ["--requests", "30", "--concurrency", "1", "--input-len", "3..9", "--seed", seed];
        let further = ["--output-len", "5", "--shared-prefix", "4", "--temperature", "0.5", "--ignore-eos"];
        succeed(bench(folder.path(), &server.url).args(arguments).args(further))?;
        Ok(server.seen.bodies()[before..].to_vec())
    };
    let (one, again, other) = (send("1")?, send("1")?, send("2")?);
    assert!(one == again && one.len() == 30);
    assert!(one.iter().zip(&other).all(|(one, other)| one["prompt"] != other["prompt"]));
    let words = |body: &Value| -> Vec<String> {
        body["prompt"].as_str().unwrap_or_default().split(' ').map(str::to_owned).collect()
    };
    let shared = words(&one[0])[..4].to_vec();
    for body in &one {
        assert!(words(body).starts_with(&shared) && (7..=13).contains(&words(body).len()), "{body}");
        assert!(
            body["max_tokens"] == 5 && body["temperature"] == 0.5 && body["ignore_eos"] == true,
            "{body}"
        );
        assert!(body["seed"].is_u64() && body["stream"] == true && body["model"] == "scripted", "{body}");
    }
    assert!(one.windows(2).all(|pair| pair[0]["seed"] != pair[1]["seed"]));

    let before = server.seen.bodies().len();
    succeed(bench(folder.path(), &server.url).args(["--requests", "1"]))?;
    let plain = server.seen.bodies()[before].clone();
    for name in ["seed", "temperature", "ignore_eos"] {
        assert!(plain.get(name).is_none(), "{name} is not asked for: {plain}");
    }
    Ok(())
}

fn warmup() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let server = Scripted::start(quick)?;
    let all = succeed(bench(folder.path(), &server.url).args(["--requests", "6", "--warmup", "4"]))?;
    assert_eq!((&all["requests"], &all["complete"], &all["tokens_out"]), (&json!(6), &json!(6), &json!(12)));
    let mut prompts: Vec<String> =
        server.seen.bodies().iter().map(|body| body["prompt"].to_string()).collect();
    prompts.sort();
    prompts.dedup();
    assert_eq!(prompts.len(), 10);
    Ok(())
}

/// Streams without end: whoever does not drop them runs into the timeout.
fn cancelled() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let closed = Arc::new(AtomicUsize::new(0));
    let counted = closed.clone();
    let server = Scripted::start(move |_, reply| {
        reply.begin()?;
        loop {
            if let Err(error) = reply.text("ha") {
                counted.fetch_add(1, Ordering::SeqCst);
                return Err(error);
            }
            sleep(Duration::from_millis(1));
        }
    })?;
    let arguments =
        ["--requests", "20", "--cancel-share", "1", "--output-len", "4..30", "--concurrency", "5"];
    let all = succeed(bench(folder.path(), &server.url).args(arguments).args(["--timeout", "30"]))?;
    assert_eq!((&all["cancelled"], &all["complete"], &all["failed"]), (&json!(20), &json!(0), &json!(0)));
    // Their tokens are counted and their times are not.
    let tokens = all["tokens_out"].as_u64().ok_or("tokens")?;
    assert!(tokens > 20 && tokens < 20 * 30, "{all:#}");
    assert_eq!(all["time_to_first_token_ms"]["n"], 0);
    let start = Instant::now();
    while closed.load(Ordering::SeqCst) < 20 {
        assert!(start.elapsed() < Duration::from_secs(20), "{closed:?} of 20 streams were closed");
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn dataset() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("prompts.jsonl");
    let chat = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]);
    let lines = format!("{}\n{}\n", json!({"prompt": "Once", "max_tokens": 9}), json!({"messages": chat}));
    fs::write(&file, lines)?;
    let server = Scripted::start(|_, reply| {
        reply.begin()?;
        reply.event(&json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]}))?;
        reply.event(&json!({"choices": [{"delta": {"content": "ha"}}]}))?;
        reply.end(3, 1)
    })?;
    let mut command = bench(folder.path(), &server.url);
    command.args(["--endpoint", "chat", "--requests", "3", "--concurrency", "1", "--dataset"]).arg(&file);
    let all = succeed(&mut command)?;
    assert_eq!((&all["complete"], &all["time_to_first_token_ms"]["n"]), (&json!(3), &json!(3)), "{all:#}");
    let seen = server.seen.requests();
    assert!(seen.iter().all(|request| request.path == "/v1/chat/completions"));
    let messages: Vec<&Value> = seen.iter().map(|request| &request.body["messages"]).collect();
    let once = json!([{"role": "user", "content": "Once"}]);
    assert_eq!(messages, [&once, &chat, &once]);
    assert_eq!(seen[0].body["max_tokens"], 9);
    Ok(())
}

fn key() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let server = Scripted::start(|request, reply| {
        if request.key.as_deref() == Some("Bearer s3cret") {
            return quick(request, reply);
        }
        reply.whole("401 Unauthorized", r#"{"error": {"message": "who?", "code": "invalid_api_key"}}"#)
    })?;
    let url = format!("{}/v1/", server.url);
    for command in [
        bench(folder.path(), &url).args(["--api-key", "s3cret"]),
        bench(folder.path(), &url).args(["--api-key-env", "KEY_OF_A_TEST"]).env("KEY_OF_A_TEST", "s3cret"),
    ] {
        let done = output(command.args(["--requests", "3", "--model", "mine"]))?;
        assert!(done.status.success(), "{done:?}");
        assert!(!stdout(&done).contains("s3cret"), "{}", stdout(&done));
    }
    assert!(server.seen.bodies().iter().all(|body| body["model"] == "mine"));
    let done = output(bench(folder.path(), &url).args(["--requests", "3"]))?;
    assert_eq!(done.status.code(), Some(1));
    assert!(stdout(&done).contains("3 x status 401 invalid_api_key: who?"), "{}", stdout(&done));
    Ok(())
}

fn chunks() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let server = Scripted::start(|_, reply| {
        reply.begin()?;
        for text in ["a", "", "b", "c"] {
            reply.event(&choice(text))?;
        }
        reply.bytes(b"data: [DONE]\n\n")?;
        // The stream is not ended: what follows the last event is nobody's business.
        sleep(Duration::from_millis(100));
        Err(std::io::Error::other("closed"))
    })?;
    let all = succeed(bench(folder.path(), &server.url).args(["--requests", "4"]))?;
    assert_eq!(
        (&all["tokens_out"], &all["tokens_out_counted_by"]),
        (&json!(12), &json!("chunks")),
        "{all:#}"
    );
    assert!(all["tokens_in"].is_null() && all["tokens_in_per_second"].is_null(), "{all:#}");
    Ok(())
}
