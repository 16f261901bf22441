//! `bench serve` against this worker.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::common::{data, executable, output};
use crate::place::{Place, Room, at};
use crate::server::Server;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = at("load::a_worker_under_load_is_measured_and_left_clean", &[Place::Cpu], measured);
    let places = [Place::Cpu, Place::Cuda];
    trials.extend(at("load::a_workers_answers_do_not_depend_on_the_crowd", &places, invariant));
    trials
}

fn start(room: &Room) -> Result<Server, Failed> {
    Server::start(room.serve(&data("llama31-f32.gguf"))?.args(["--kv-cache-size-mb", "16"]))
}

fn bench(server: &Server, arguments: &[&str]) -> Result<Value, Failed> {
    let mut command = Command::new(executable());
    command.args(["bench", "serve", "--endpoint", "execute", "--input-len", "4..24", "--json", "-"]);
    let done = output(command.args(["--url", &server.url]).args(arguments))?;
    assert!(done.status.success(), "{done:?}");
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// The sum of a metric's samples whose labels have the part.
fn metric(server: &Server, name: &str, part: &str) -> Result<f64, Failed> {
    let text = Server::agent().get(format!("{}/metrics", server.url)).call()?.body_mut().read_to_string()?;
    let of = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(part)
    };
    Ok(text.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

fn measured(place: Place) -> Result<(), Failed> {
    let room = Room::new(place)?;
    let server = start(&room)?;
    let all = bench(&server, &["--requests", "60", "--concurrency", "8", "--cancel-share", "0.3"])?;
    let count = |name: &str| all[name].as_u64().ok_or_else(|| format!("no {name}: {all:#}"));
    let (complete, cancelled) = (count("complete")?, count("cancelled")?);
    assert!(complete + cancelled == 60 && complete > 30 && cancelled > 3, "{all:#}");
    assert_eq!((&all["failed"], &all["tokens_out_counted_by"]), (&json!(0), &json!("usage")), "{all:#}");
    assert_eq!(all["request_ms"]["n"], complete);
    server.idle()?;
    // A job's end is counted a moment after its client has heard of it.
    let start = Instant::now();
    while metric(&server, "worker_requests_total", "")? < 60.0 && start.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(metric(&server, "worker_requests_total", "")?, 60.0);
    // A job that was over before its client was gone is complete to the worker.
    assert!(metric(&server, "worker_requests_total", "cancelled")? <= cancelled as f64);
    assert_eq!(metric(&server, "worker_running", "")?, 0.0);
    assert!(metric(&server, "worker_tokens_in_total", "")? > 0.0);
    Ok(())
}

fn invariant(place: Place) -> Result<(), Failed> {
    let room = Room::new(place)?;
    let server = start(&room)?;
    let all = bench(&server, &["--verify-invariance", "--requests", "40", "--concurrency", "1,7,32"])?;
    assert!(all["alone"]["tokens"].as_u64().is_some_and(|tokens| tokens > 400), "{all:#}");
    for crowd in all["crowds"].as_array().ok_or("crowds")? {
        assert_eq!((&crowd["equal"], &crowd["requests"]), (&json!(40), &json!(40)), "{crowd:#}");
    }
    assert_eq!(all["crowds"].as_array().map(Vec::len), Some(3));
    Ok(())
}
