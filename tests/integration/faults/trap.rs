//! A kernel that traps: no context survives it. Every stream is told, and the process ends, to be started anew.

use std::time::{Duration, Instant, SystemTime};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::*;
use crate::server::Server;

pub(crate) fn trials() -> Vec<Trial> {
    // Alone, since the driver ends a process the later, the more others are on the GPU.
    let mut trials = injected_alone("faults::trap::every_stream_is_told_and_the_process_ends", trap);
    trials.extend(injected_alone("faults::trap::an_idle_worker_ends_at_its_next_request", idle));
    trials.extend(injected_alone("faults::trap::an_idle_worker_ends_at_its_next_check", checked));
    trials
}

/// What the end of the process may take. A supervisor counts on 5 s; this only keeps a test from waiting.
const SAFETY: Duration = Duration::from_secs(10);

/// A job that lasts: 2048 tokens.
fn long(job_id: &str) -> Value {
    json!({"job_id": job_id, "prompt": "the name of the", "temperature": 0.0})
}

fn trap(place: Place) -> Result<(), Failed> {
    let (room, server, faults) = start(place, &[])?;
    let mut streams = Vec::new();
    for job_id in ["one", "two", "waits"] {
        streams.push(server.execute(&long(job_id))?);
    }
    for running in &mut streams[..2] {
        running.expect("started")?;
        running.expect("token")?;
    }
    faults.plan(&[Rule { function: "cuGraphLaunch", nth: 5, action: "trap" }])?;
    let watched = std::thread::scope(|scope| {
        let watch = scope.spawn(|| not_ready(&server));
        for (i, mut stream) in streams.into_iter().enumerate() {
            let (name, error) = stream.rest()?.last;
            assert_eq!(name, "error", "stream {i}: {error}");
            expect_dead(&error);
        }
        watch.join().expect("it does not panic")
    })?;
    ends(place, server, &faults, &watched)?;
    drop(room);
    Ok(())
}

fn idle(place: Place) -> Result<(), Failed> {
    let (_room, server, faults) = start(place, &[])?;
    assert_eq!(server.complete(&json!({"job_id": "a", "prompt": "the", "max_tokens": 3}))?.last.0, "end");
    faults.plan(&[Rule { function: "cuMemcpyHtoDAsync_v2", nth: 1, action: "trap" }])?;
    let done = server.complete(&long("a"))?;
    assert_eq!(done.last.0, "error");
    expect_dead(&done.last.1);
    ends(place, server, &faults, "not watched")
}

fn checked(place: Place) -> Result<(), Failed> {
    let (_room, server, faults) = start(place, &["--residency-interval-sec", "1"])?;
    // A driver need not say at this call that the context is lost, so its answer is written down as well.
    let rule = |nth, action| Rule { function: "cuPointerGetAttributes", nth, action };
    faults.plan(&[rule(1, "trap"), rule(2, "719")])?;
    assert_eq!(server.ended()?.code(), Some(1));
    Ok(())
}

/// A server of a model whose jobs last, two at a time.
fn start(place: Place, arguments: &[&str]) -> Result<(Room, Server, Faults), Failed> {
    let room = Room::new(place)?;
    let mut command = room.serve(&room.drawn()?)?;
    command.args(["--max-batch", "2", "--kv-cache-size-mb", "16"]).args(arguments);
    let faults = Faults::of(&mut command, room.path("faults"));
    let server = Server::start(&mut command)?;
    Ok((room, server, faults))
}

/// The error of a job whose device is lost, at whichever call that showed.
fn expect_dead(error: &Value) {
    assert!(["CUDA_ERROR", "KERNEL_LAUNCH_FAILED"].iter().any(|code| error["code"] == *code), "{error}");
    assert!(error["message"].as_str().is_some_and(|message| message.contains("CUDA_ERROR_")), "{error}");
}

/// Waits until `/ready` refuses, and says how: with 503, or the process has gone.
fn not_ready(server: &Server) -> Result<String, Failed> {
    let start = Instant::now();
    while start.elapsed() < SAFETY {
        match server.get("/ready") {
            Ok(answer) if answer.status == 200 => std::thread::sleep(Duration::from_millis(1)),
            Ok(answer) => {
                assert_eq!(answer.status, 503, "{}", answer.body);
                return Ok(format!("503 {}", answer.body));
            }
            Err(_) => return Ok("the process has gone".to_owned()),
        }
    }
    Err(format!("still ready after {SAFETY:?}").into())
}

/// The process ends by itself, with a failure, soon after the trap.
fn ends(place: Place, server: Server, faults: &Faults, watched: &str) -> Result<(), Failed> {
    let status = server.ended()?;
    let took = SystemTime::now().duration_since(faults.fired_at()?)?;
    eprintln!("note: trap: on {place} the process ended {took:?} after the trap; /ready: {watched}");
    assert_eq!(status.code(), Some(1));
    assert!(took < SAFETY, "{took:?}");
    assert_eq!(faults.fired().len(), 1);
    Ok(())
}
