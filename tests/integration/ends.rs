//! How jobs and the server end before their time. Most jobs take SmolLM2, so that they last; with 30 MB for keys and
//! values one job without `max_tokens` holds every page.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::client::Events;
use crate::common::with_model;
use crate::place::{Place, Room, at};
use crate::server::{Server, serve};

pub(crate) fn trials(model: &Result<PathBuf, String>) -> Vec<Trial> {
    let mut trials = at("jobs_that_leave_change_nothing_for_others", &Place::ALL, others_unharmed);
    trials.extend([
        with_model("tokens_arrive_and_health_answers_while_the_model_computes", model, while_it_computes),
        with_model("a_cancelled_job_ends_at_once_and_frees_its_pages", model, cancel),
        with_model("a_job_cancelled_while_it_waits_never_starts", model, cancel_waiting),
        with_model("a_job_cancelled_while_its_prompt_is_read_says_nothing", model, cancel_reading),
        with_model("a_connection_closed_while_a_prompt_is_read_frees_its_pages", model, closed_reading),
        with_model("a_closed_connection_ends_its_job_and_frees_its_pages", model, closed_connection),
        with_model("after_sigterm_running_jobs_finish_and_new_ones_are_refused", model, drain),
        with_model("jobs_over_the_drain_time_are_cancelled_and_the_server_ends", model, drain_is_over),
    ]);
    trials
}

/// What a job may take to end once nobody wants it.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A server whose pages one job can hold alone: its context is what its pages hold.
fn small(model: &Path, options: &[&str]) -> Result<Server, Failed> {
    Server::start(serve(model).args(["--kv-cache-size-mb", "30"]).args(options))
}

/// A job that takes all pages, and far longer than a test.
fn endless(job_id: &str) -> Value {
    json!({"job_id": job_id, "prompt": "Once upon a time", "temperature": 1.0, "seed": 1})
}

/// Starts a job and waits until it runs.
fn running(server: &Server, request: &Value) -> Result<Events, Failed> {
    let mut events = server.execute(request)?;
    events.expect("started")?;
    events.expect("token")?;
    Ok(events)
}

fn while_it_computes(model: &Path) -> Result<(), Failed> {
    let server = small(model, &[])?;
    assert_eq!(server.get("/health")?.body["status"], "ready");
    let mut events = running(&server, &endless("a"))?;
    let asked = Instant::now();
    let health = server.get("/health")?;
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    assert_eq!(health.status, 200);
    assert_eq!(health.body["status"], "busy", "the token arrived before its job's end: {}", health.body);
    assert_eq!(health.body["model"], model.display().to_string());
    assert_eq!((&health.body["architecture"], &health.body["device"]), (&json!("llama"), &json!("cpu")));
    events.expect("token")?;
    Ok(())
}

fn cancel(model: &Path) -> Result<(), Failed> {
    let server = small(model, &[])?;
    let mut first = running(&server, &endless("first"))?;
    let mut second = server.execute(&endless("second"))?;

    let asked = Instant::now();
    let answer = server.post("/cancel", &json!({"job_id": "first"}))?;
    assert_eq!((answer.status, &answer.body), (202, &json!({"status": "cancelling", "job_id": "first"})));
    let (name, error) = first.rest()?.last;
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    assert_eq!(
        (name.as_str(), &error["code"], &error["retriable"]),
        ("error", &json!("CANCELLED"), &json!(false))
    );

    second.expect("started")?;
    second.expect("token")?;
    // The id is free again, the pages are not.
    let mut third = server.execute(&endless("first"))?;
    server.post("/cancel", &json!({"job_id": "second"}))?;
    assert_eq!(second.rest()?.last("code"), "CANCELLED");
    third.expect("started")?;
    Ok(())
}

fn cancel_waiting(model: &Path) -> Result<(), Failed> {
    let server = small(model, &[])?;
    let mut first = running(&server, &endless("first"))?;
    let mut second = server.execute(&endless("second"))?;
    server.post("/cancel", &json!({"job_id": "second"}))?;
    assert_eq!(second.expect("error")?["code"], "CANCELLED");
    first.expect("token")?;
    for unknown in ["second", "never"] {
        assert_eq!(server.post("/cancel", &json!({"job_id": unknown}))?.status, 202);
    }
    first.expect("token")?;
    Ok(())
}

/// A job whose prompt takes seconds to read, and which takes all pages.
fn with_long_prompt(job_id: &str) -> Value {
    let mut job = endless(job_id);
    job["prompt"] = json!("a boy and a book ".repeat(100));
    job
}

fn cancel_reading(model: &Path) -> Result<(), Failed> {
    let server = small(model, &[])?;
    let mut reads = server.execute(&with_long_prompt("reads"))?;
    let mut next = server.execute(&endless("next"))?;
    reads.expect("started")?;
    server.post("/cancel", &json!({"job_id": "reads"}))?;
    assert_eq!(reads.expect("error")?["code"], "CANCELLED", "no token came before");
    next.expect("started")?;
    next.expect("token")?;
    Ok(())
}

fn closed_reading(model: &Path) -> Result<(), Failed> {
    let server = small(model, &[])?;
    let mut reads = server.execute(&with_long_prompt("reads"))?;
    let mut next = server.execute(&endless("next"))?;
    reads.expect("started")?;
    drop(reads);
    next.expect("started")?;
    // Who reads on to the first token finds nobody there to tell, and logs no end.
    let line = server.wait_for("error")?;
    assert_eq!((&line["job_id"], &line["code"]), (&json!("reads"), &json!("CANCELLED")), "{line}");
    next.expect("token")?;
    Ok(())
}

/// Four clients read to the end, while four others cancel or close again and again: before their jobs begin, while their
/// prompts are read, and when they have said something.
fn others_unharmed(place: Place) -> Result<(), Failed> {
    let room = Room::new(place)?;
    let server =
        Server::start(room.serve(&room.drawn()?)?.args(["--max-batch", "6", "--kv-cache-size-mb", "16"]))?;
    let job = |job_id: &str, words: usize, seed: usize| {
        json!({"job_id": job_id, "prompt": "a boy and a book ".repeat(words), "max_tokens": 200,
               "temperature": 0.8, "seed": seed})
    };
    let steady = |i: usize| server.complete(&job(&format!("steady {i}"), 1 + 3 * i, i));
    let leave = |i: usize| -> Result<(), Failed> {
        for round in 0..12 {
            let job_id = format!("leaves {i} {round}");
            let mut events = server.execute(&job(&job_id, 1 + 20 * (round % 3), round))?;
            for _ in 0..round % 4 {
                events.next()?;
            }
            if (i + round).is_multiple_of(2) {
                server.post("/cancel", &json!({"job_id": job_id}))?;
                let (name, last) = loop {
                    match events.next()?.ok_or("the stream ends without an end")? {
                        (name, data) if name != "token" && name != "started" => break (name, data),
                        _ => {}
                    }
                };
                assert!(name == "end" || last["code"] == "CANCELLED", "{name} {last}");
                assert_eq!(events.next()?, None);
            }
        }
        Ok(())
    };
    let alone = (0..4).map(steady).collect::<Result<Vec<_>, _>>()?;
    thread::scope(|scope| {
        let leaving: Vec<_> = (0..4).map(|i| scope.spawn(move || leave(i))).collect();
        let reading: Vec<_> = (0..4)
            .map(|i| scope.spawn(move || (0..3).map(|_| steady(i)).collect::<Result<Vec<_>, _>>()))
            .collect();
        for (job, alone) in reading.into_iter().zip(&alone) {
            for done in job.join().expect("a client does not panic")? {
                assert_eq!((done.last.0.as_str(), done.text()), ("end", alone.text()));
            }
        }
        leaving.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
    })?;
    server.idle()
}

fn closed_connection(model: &Path) -> Result<(), Failed> {
    let server = small(model, &[])?;
    let first = running(&server, &endless("first"))?;
    let waiting = server.execute(&endless("waiting"))?;
    let mut last = server.execute(&endless("last"))?;
    drop(waiting);
    let closed = Instant::now();
    drop(first);
    last.expect("started")?;
    assert!(closed.elapsed() < AT_ONCE, "{:?}", closed.elapsed());
    last.expect("token")?;
    Ok(())
}

fn drain(model: &Path) -> Result<(), Failed> {
    let server = small(model, &[])?;
    let job = json!({"job_id": "a", "prompt": "Once upon a time", "temperature": 0.0, "max_tokens": 16});
    let whole = server.complete(&job)?;
    let mut events = server.execute(&job)?;
    events.expect("started")?;
    server.terminate()?;
    while server.get("/health")?.body["status"] != "draining" {}
    let refused = server.post("/execute", &endless("late"))?;
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("DRAINING")));
    let drained = events.rest()?;
    assert_eq!(drained.last.0, "end", "{:?}", drained.last);
    assert_eq!(drained.text(), whole.text());
    assert!(server.ended()?.success());
    Ok(())
}

fn drain_is_over(model: &Path) -> Result<(), Failed> {
    let server = small(model, &["--drain-timeout-sec", "0"])?;
    let mut runs = running(&server, &endless("runs"))?;
    let mut waits = server.execute(&endless("waits"))?;
    let asked = Instant::now();
    server.terminate()?;
    assert_eq!(runs.rest()?.last("code"), "CANCELLED");
    assert_eq!(waits.rest()?.last("code"), "CANCELLED");
    let status = server.ended()?;
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() < 3 * AT_ONCE, "{:?}", asked.elapsed());
    Ok(())
}
