//! The same request has the same text: on every run, in every process, whatever else is computed, and on every device.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::common::{data, with_model};
use crate::place::{Place, Room, at};
use crate::server::Server;

pub(crate) fn trials(smollm2: &Result<PathBuf, String>) -> Vec<Trial> {
    let fixture = |place| seeded(place, &data("llama-f16.gguf"), FIXTURE, 10);
    let mut trials = at("determinism::seeded_text_is_the_same_over_ten_runs", &Place::ALL, fixture);
    // The CPU takes its time.
    for (place, runs, tokens) in [(Place::Cpu, 2, 6), (Place::Cuda, 10, 64)] {
        let model = smollm2.clone();
        let test =
            move |place| seeded(place, model.as_deref().map_err(Clone::clone)?, (SMOLLM2, tokens), runs);
        let [trial] =
            <[Trial; 1]>::try_from(at("determinism::smollm2_seeded_text_is_the_same", &[place], test))
                .unwrap_or_else(|_| unreachable!("a trial a place"));
        let ignored = trial.has_ignored_flag() || with_model("", smollm2, |_| Ok(())).has_ignored_flag();
        trials.push(trial.with_ignored_flag(ignored));
    }
    trials.extend(at("determinism::a_gpu_and_the_cpu_have_the_same_text", &Place::GPUS, as_the_cpu));
    trials
}

/// Prompts, and tokens of each completion.
type Texts = ([&'static str; 3], u32);

const FIXTURE: Texts = (["the name of the", "a", "Once upon a time there was a boy who had a book"], 24);
const SMOLLM2: [&str; 3] = ["Once upon a time", "The capital of France is", "fn main() {"];

const SEEDS: [u64; 3] = [0, 1_234_567, u64::MAX];

fn request(job_id: &str, prompt: &str, tokens: u32, seed: u64) -> Value {
    json!({
        "job_id": job_id, "prompt": prompt, "max_tokens": tokens, "seed": seed,
        "temperature": 0.9, "top_p": 0.95, "top_k": 40, "repetition_penalty": 1.1,
    })
}

/// The texts of every prompt with every seed, by prompt.
fn texts(server: &Server, (prompts, tokens): Texts) -> Result<Vec<Vec<String>>, Failed> {
    let text = |prompt, seed| {
        let done = server.complete(&request("a", prompt, tokens, seed))?;
        assert_eq!((done.last.0.as_str(), done.last("seed")), ("end", &json!(seed)));
        Ok(done.text())
    };
    prompts.iter().map(|&prompt| SEEDS.iter().map(|&seed| text(prompt, seed)).collect()).collect()
}

fn seeded(place: Place, model: &Path, all: Texts, runs: usize) -> Result<(), Failed> {
    let room = Room::new(place)?;
    let start = || Server::start(room.serve(model)?.args(["--max-batch", "4", "--kv-cache-size-mb", "64"]));
    let server = start()?;
    let want = texts(&server, all)?;
    for of_prompt in &want {
        let mut distinct = of_prompt.clone();
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 1, "no seed makes a difference: {of_prompt:?}");
    }
    // A third each in this process, in another, and in that one while it computes for others as well.
    for _ in 1..runs.div_ceil(3) {
        assert_eq!(texts(&server, all)?, want, "the same process");
    }
    let greedy = || {
        let mut request = request("greedy", all.0[0], all.1, 1);
        request["temperature"] = json!(0.0);
        request
    };
    let greedily = server.complete(&greedy())?.text();
    drop(server);

    let server = start()?;
    for _ in 0..runs / 3 {
        assert_eq!(texts(&server, all)?, want, "another process");
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (server, done) = (&server, &done);
        let others: Vec<_> = (0..3).map(|i| scope.spawn(move || load(server, i, done, all.1))).collect();
        let under_load = || -> Result<(), Failed> {
            for _ in 0..runs - runs.div_ceil(3) - runs / 3 {
                assert_eq!(texts(server, all)?, want, "beside other jobs");
            }
            assert_eq!(server.complete(&greedy())?.text(), greedily, "greedy");
            Ok(())
        };
        let result = under_load();
        done.store(true, Ordering::Relaxed);
        for other in others {
            assert!(other.join().expect("it does not panic")? > 0, "there was no other job");
        }
        result
    })
}

/// Other jobs, one after the other, until it is `done`; how many.
fn load(server: &Server, i: usize, done: &AtomicBool, tokens: u32) -> Result<u64, Failed> {
    let mut jobs = 0;
    while !done.load(Ordering::Relaxed) {
        let prompt = "a book of the boy ".repeat(1 + (jobs as usize + i) % 4);
        server.complete(&request(&format!("other {i}"), &prompt, tokens, jobs))?;
        jobs += 1;
    }
    Ok(jobs)
}

/// In `tc`, a GPU's numerics, and in `f32`, the CPU's.
fn as_the_cpu(place: Place) -> Result<(), Failed> {
    for numerics in ["tc", "f32"] {
        for model in ["llama-f16.gguf", "llama-bf16.gguf", "llama-q4_0.gguf"] {
            let texts = |place| -> Result<_, Failed> {
                let room = Room::new(place)?;
                let server = Server::start(room.serve(&data(model))?.args(["--numerics", numerics]))?;
                let health = server.get("/health")?.body;
                assert_eq!(
                    (&health["numerics"], &health["device"]),
                    (&json!(numerics), &json!(place.device()))
                );
                texts(&server, FIXTURE)
            };
            assert_eq!(texts(place)?, texts(Place::Cpu)?, "{model} in {numerics}");
        }
    }
    Ok(())
}
