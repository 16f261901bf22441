//! The driver knows an allocation no more: the worker says so, ends its jobs, and takes no others.

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::*;
use crate::common::PATIENCE;
use crate::server::Server;

pub(crate) fn trials() -> Vec<Trial> {
    injected("faults::residency::an_allocation_that_is_lost_ends_all_jobs", lost)
}

const CODE: &str = "VRAM_RESIDENCY_FAILED";

fn lost(place: Place) -> Result<(), Failed> {
    let room = Room::new(place)?;
    let mut command = room.serve(&room.drawn()?)?;
    command.args(["--residency-interval-sec", "1", "--max-batch", "1", "--kv-cache-size-mb", "16"]);
    let faults = Faults::of(&mut command, room.path("faults"));
    let server = Server::start(&mut command)?;

    // One after the other they last for seconds.
    let long = |i| json!({"job_id": format!("job {i}"), "prompt": "the name of the", "temperature": 0.0});
    let mut streams = (0..30).map(|i| server.execute(&long(i))).collect::<Result<Vec<_>, _>>()?;
    streams[0].expect("started")?;
    streams[0].expect("token")?;
    faults.plan(&[Rule { function: "cuPointerGetAttributes", nth: 3, action: "1" }])?;

    let (mut ended, mut running, mut waiting) = (0, 0, 0);
    for stream in &mut streams {
        let mut started = false;
        let (name, data) = loop {
            match stream.next()?.ok_or("the stream ends without an end")? {
                (name, _) if name == "started" || name == "token" => started = true,
                last => break last,
            }
        };
        assert_eq!(stream.next()?, None);
        match (name.as_str(), started) {
            ("end", _) => ended += 1,
            (_, true) => running += 1,
            (_, false) => waiting += 1,
        }
        if name != "end" {
            assert_eq!((name.as_str(), &data["code"]), ("error", &json!(CODE)), "{data}");
        }
    }
    assert_eq!((running, ended + waiting), (1, 29), "{ended} had ended before");
    assert!(waiting > 0);
    assert_eq!(faults.fired(), ["cuPointerGetAttributes"]);

    let health = server.get("/health")?;
    assert_eq!((health.status, &health.body["resident"]), (200, &json!(false)), "{}", health.body);
    assert_eq!(health.body["status"], "failed");
    assert_eq!(server.get("/ready")?.status, 503);
    let refused = server.post("/execute", &long(0))?;
    assert_eq!((refused.status, &refused.body["code"]), (500, &json!(CODE)), "{}", refused.body);
    let line = critical(&server)?;
    assert_eq!(line["code"], CODE, "{line}");
    assert!(line.to_string().contains("cuPointerGetAttributes: CUDA_ERROR_INVALID_VALUE (1)"), "{line}");

    // It stays, so that its log and its health can be read, until somebody ends it.
    server.terminate()?;
    let status = server.ended()?;
    assert!(status.code().is_some(), "{status}");
    room.nothing_left()?;
    Ok(())
}

/// The critical line of the log.
fn critical(server: &Server) -> Result<Value, Failed> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let log = server.log();
        let mut lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(line) = lines.find(|line| line["severity"] == "CRITICAL") {
            return Ok(line);
        }
        thread::sleep(Duration::from_millis(2));
    }
    Err("no critical line in the log".into())
}
