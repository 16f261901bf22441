//! Calls that fail while the worker serves: the step's jobs are told, all others and the worker go on, and the same request
//! has the same text as before.

use std::thread;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::*;
use crate::client::Completion;
use crate::common::data;
use crate::server::Server;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in CASES {
        let name = format!("faults::serving::{}_fails_with_{}", spoken(case.function), case.error.number);
        trials.extend(injected(&name, |place| case.try_at(place)));
    }
    trials.extend(injected("faults::serving::no_request_waits_for_a_kernel", no_kernel_is_late));
    trials.extend(injected("faults::serving::a_job_that_waits_is_spared", spared));
    trials.extend(injected("faults::serving::only_jobs_of_the_failing_step_are_told", some_of_many));
    trials.extend(injected("faults::serving::a_gpu_that_fails_twice_ends_the_worker", twice));
    trials
}

/// A function of the driver and how it fails, which of its calls, and the code that the client gets.
struct Case {
    function: &'static str,
    error: &'static DriverError,
    nths: &'static [u32],
    code: &'static str,
    /// Whether the calls are a new process's: when it has served, there are no more.
    first: bool,
}

const LAUNCH: &str = "KERNEL_LAUNCH_FAILED";
const CUDA: &str = "CUDA_ERROR";

#[rustfmt::skip]
const CASES: &[Case] = &[
    // A prompt's first and last, between them, and of a late token's choice.
    Case { function: "cuLaunchKernel", error: &OUT_OF_RESOURCES, nths: &[1, 12, 250], code: LAUNCH, first: false },
    Case { function: "cuLaunchKernel", error: &INVALID_VALUE, nths: &[1, 24, 120], code: LAUNCH, first: false },
    Case { function: "cuLaunchKernel", error: &LAUNCH_FAILED, nths: &[2, 26, 200], code: LAUNCH, first: false },
    Case { function: "cuGraphLaunch", error: &LAUNCH_FAILED, nths: &[1, 50, 100], code: LAUNCH, first: false },
    Case { function: "cuMemcpyHtoDAsync_v2", error: &INVALID_VALUE, nths: &[1, 150, 400], code: CUDA, first: false },
    Case { function: "cuMemcpyDtoHAsync_v2", error: &LAUNCH_FAILED, nths: &[1, 50, 100], code: CUDA, first: false },
    Case { function: "cuStreamSynchronize", error: &UNKNOWN, nths: &[1, 50, 100], code: CUDA, first: false },
    // Seldom: when a part of the ring for uploads is full, and when one is used again.
    Case { function: "cuEventRecord", error: &UNKNOWN, nths: &[1], code: CUDA, first: false },
    Case { function: "cuEventSynchronize", error: &UNKNOWN, nths: &[1], code: CUDA, first: false },
    // A decoding shape is recorded once.
    Case { function: "cuStreamBeginCapture_v2", error: &UNKNOWN, nths: &[1], code: CUDA, first: true },
    Case { function: "cuStreamEndCapture", error: &UNKNOWN, nths: &[1], code: CUDA, first: true },
    Case { function: "cuGraphInstantiateWithFlags", error: &OUT_OF_MEMORY, nths: &[1], code: CUDA, first: true },
    // Within the recording.
    Case { function: "cuLaunchKernel", error: &UNKNOWN, nths: &[65], code: LAUNCH, first: true },
];

/// A request that fills the context, and so takes every page: one page lost, and it would wait for ever. Its penalty
/// sends all that is sent to the GPU.
pub(super) fn request(job_id: &str, seed: u64) -> Value {
    let mut request = json!({"job_id": job_id, "prompt": "the name of the", "temperature": 1.0});
    request["repetition_penalty"] = json!(1.1);
    request["seed"] = json!(seed);
    request
}

/// What of a completion is the request's own; the rest is time.
pub(super) fn text(completion: &Completion) -> Result<String, Failed> {
    assert_eq!(completion.last.0, "end", "{:?}", completion.last);
    assert!(completion.last("tokens_out").as_u64() > Some(100), "{:?}", completion.last);
    Ok(completion.text())
}

/// A server whose calls can fail.
pub(super) struct Faulty {
    pub(super) server: Server,
    pub(super) faults: Faults,
    pub(super) room: Room,
}

impl Faulty {
    pub(super) fn start(place: Place, options: &[&str]) -> Result<Self, Failed> {
        let room = Room::new(place)?;
        let mut command = room.serve(&data("llama-f16.gguf"))?;
        command.args(options);
        Self::of(room, command)
    }

    fn of(room: Room, mut command: Command) -> Result<Self, Failed> {
        without_cublas(&mut command, &room);
        let faults = Faults::of(&mut command, room.path("faults"));
        Ok(Self { server: Server::start(&mut command)?, faults, room })
    }

    /// Runs the request until a planned failure has come. Until then it has its text, and then the one that was hit has
    /// a part of it.
    pub(super) fn until_it_fails(&self, want: &str) -> Result<Completion, Failed> {
        // A fault of the ring's last part takes many requests.
        for _ in 0..100 {
            let done = self.server.complete(&request("a", 7))?;
            if !self.faults.fired().is_empty() {
                assert!(want.starts_with(&done.text()) && done.text() != want, "{done:?}");
                return Ok(done);
            }
            assert_eq!(text(&done)?, want);
        }
        Err("no call failed".into())
    }

    /// Asserts that the worker has all it needs, and its text.
    pub(super) fn expect_well(&self, want: &str) -> Result<(), Failed> {
        for _ in 0..2 {
            self.server.idle()?;
            assert_eq!(text(&self.server.complete(&request("a", 7))?)?, want);
        }
        assert_eq!(self.server.get("/ready")?.status, 200);
        Ok(())
    }

    /// Ends the server, which must have freed all.
    pub(super) fn end(self) -> Result<std::collections::HashMap<String, u64>, Failed> {
        self.server.terminate()?;
        let status = self.server.ended()?;
        assert!(status.success(), "{status}");
        self.room.nothing_left()
    }
}

/// The text of the request where nothing fails.
pub(super) fn undisturbed(place: Place) -> Result<String, Failed> {
    let faulty = Faulty::start(place, &[])?;
    let text = text(&faulty.server.complete(&request("a", 7))?)?;
    faulty.end()?;
    Ok(text)
}

/// Asserts that a stream ended with an error of the driver.
fn expect_told(done: &Completion, code: &str, function: &str, error: &DriverError) {
    let (name, data) = &done.last;
    assert_eq!((name.as_str(), &data["code"]), ("error", &json!(code)), "{data}");
    assert_eq!(data["retriable"], false);
    let message = data["message"].as_str().unwrap_or_default();
    assert!(message.contains(spoken(function)) && message.contains(error.told), "{message}");
}

impl Case {
    fn try_at(&self, place: Place) -> Result<(), Failed> {
        let want = undisturbed(place)?;
        let mut faulty = Faulty::start(place, &[])?;
        for &nth in self.nths {
            if self.first {
                faulty = Faulty::start(place, &[])?;
            } else {
                assert_eq!(text(&faulty.server.complete(&request("a", 7))?)?, want);
            }
            faulty.faults.plan(&[Rule { function: self.function, nth, action: self.error.number }])?;
            expect_told(&faulty.until_it_fails(&want)?, self.code, self.function, self.error);
            faulty.expect_well(&want)?;
            assert_eq!(faulty.faults.fired(), [self.function]);
        }
        faulty.end()?;
        Ok(())
    }
}

/// A worker that says it is ready has every kernel: one more would not be loaded.
fn no_kernel_is_late(place: Place) -> Result<(), Failed> {
    let faulty = Faulty::start(place, &["--max-batch", "8", "--kv-cache-size-mb", "4"])?;
    faulty.faults.plan(&[Rule { function: "cuModuleLoadDataEx", nth: 1, action: NOT_FOUND.number }])?;
    thread::scope(|scope| {
        let complete = |seed| {
            let mut request = request(&format!("job {seed}"), seed);
            request["prompt"] = json!("the name of the ".repeat(2 * seed as usize));
            request["max_tokens"] = json!(3 * seed);
            faulty.server.complete(&request)
        };
        let running: Vec<_> = (1..8).map(|seed| scope.spawn(move || complete(seed))).collect();
        running.into_iter().try_for_each(|job| {
            let done = job.join().expect("a client does not panic")?;
            assert_eq!(done.last.0, "end", "{:?}", done.last);
            Ok::<_, Failed>(())
        })
    })?;
    assert!(faulty.faults.fired().is_empty(), "a kernel was loaded late");
    faulty.end()?;
    Ok(())
}

/// One job is computed at a time; the other is in no failing step.
fn spared(place: Place) -> Result<(), Failed> {
    let want = undisturbed(place)?;
    let faulty = Faulty::start(place, &["--max-batch", "1"])?;
    faulty.faults.plan(&[Rule { function: "cuGraphLaunch", nth: 60, action: "719" }])?;
    let mut runs = faulty.server.execute(&request("runs", 7))?;
    let mut waits = faulty.server.execute(&request("waits", 7))?;
    runs.expect("started")?;
    expect_told(&runs.rest()?, LAUNCH, "cuGraphLaunch", &LAUNCH_FAILED);
    waits.expect("started")?;
    assert_eq!(text(&waits.rest()?)?, want);
    faulty.expect_well(&want)?;
    faulty.end()?;
    Ok(())
}

/// Several jobs, two at a time: one or both of those computed when a call fails are told, and all others have their text.
fn some_of_many(place: Place) -> Result<(), Failed> {
    let faulty = Faulty::start(place, &["--max-batch", "2", "--kv-cache-size-mb", "1"])?;
    let seeds = 0..6;
    let complete = |seed: u64| faulty.server.complete(&request(&format!("job {seed}"), seed));
    let alone = seeds.clone().map(complete).collect::<Result<Vec<_>, _>>()?;
    for nth in [30, 90, 150] {
        faulty.faults.plan(&[Rule { function: "cuGraphLaunch", nth, action: "719" }])?;
        let together: Vec<Result<Completion, Failed>> = thread::scope(|scope| {
            let running: Vec<_> = seeds.clone().map(|seed| scope.spawn(move || complete(seed))).collect();
            running.into_iter().map(|job| job.join().expect("a client does not panic")).collect()
        });
        assert_eq!(faulty.faults.fired(), ["cuGraphLaunch"]);
        let mut told = 0;
        for (done, alone) in together.into_iter().zip(&alone) {
            let done = done?;
            if done.last.0 == "error" {
                told += 1;
                expect_told(&done, LAUNCH, "cuGraphLaunch", &LAUNCH_FAILED);
                assert!(alone.text().starts_with(&done.text()));
            } else {
                assert_eq!(done.text(), alone.text());
                assert_eq!(done.last("tokens_out"), alone.last("tokens_out"));
            }
        }
        assert!((1..=2).contains(&told), "{told} jobs were told");
    }
    faulty.end()?;
    Ok(())
}

/// A step fails, and so does what looks whether the GPU still works: it is taken for broken, and the process ends
/// without asking anything of it again.
fn twice(place: Place) -> Result<(), Failed> {
    let faulty = Faulty::start(place, &[])?;
    let Faulty { server, faults, room: _room } = faulty;
    let rule = |nth| Rule { function: "cuStreamSynchronize", nth, action: "719" };
    faults.plan(&[rule(20), rule(21)])?;
    let done = server.complete(&request("a", 7))?;
    expect_told(&done, CUDA, "cuStreamSynchronize", &LAUNCH_FAILED);
    assert!(!done.pieces.is_empty());
    let status = server.ended()?;
    assert_eq!(status.code(), Some(1));
    assert_eq!(faults.fired().len(), 2);
    Ok(())
}
