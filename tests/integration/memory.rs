//! Too little memory, for a model or for a request: the numbers that users are told are right, and the worker lives.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::Path;

use kernels::kv::PAGE;
use libtest_mimic::{Failed, Trial};
use runtime::gguf::Gguf;
use runtime::kv_cache::pages_for;
use runtime::synthetic::Shape;
use serde_json::{Value, json};

use crate::common::{data, expect_error_line, output, stderr};
use crate::place::{Place, Room, at};
use crate::server::Server;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = at("memory::a_request_over_the_cache_is_told_the_numbers", &Place::ALL, over_the_cache);
    trials.extend(at("memory::a_cache_over_the_gpu_is_told_the_numbers", &Place::GPUS, over_the_gpu));
    trials.extend(at(
        "memory::a_model_over_the_gpu_is_told_the_numbers",
        &[Place::Paper],
        model_over_the_gpu,
    ));
    trials
}

/// `error: out of memory on ...` in numbers.
#[derive(Debug)]
pub(crate) struct Shortage {
    /// Bytes that were asked for.
    pub(crate) needed: u64,
    purpose: String,
    /// Bytes that the device said were free.
    free: u64,
    /// Bytes in use by purpose.
    usage: HashMap<String, u64>,
}

impl Shortage {
    pub(crate) fn read(line: &str) -> Result<Self, Failed> {
        let parse = || -> Option<Self> {
            let (_, rest) = line.split_once("out of memory on cuda:0: ")?;
            let (needed, rest) = rest.split_once(" bytes needed for ")?;
            let (purpose, rest) = rest.split_once(", ")?;
            let (free, usage) = rest.split_once(" free; in use: ")?;
            let [needed, free] = [needed, free].map(|number| number.parse().ok());
            Some(Self { needed: needed?, purpose: purpose.to_owned(), free: free?, usage: split(usage)? })
        };
        parse().ok_or_else(|| format!("not the numbers of a shortage: {line}").into())
    }

    pub(crate) fn in_use(&self) -> u64 {
        self.usage.values().sum()
    }

    /// Asserts that what is free is what `total` bytes leave, if each allocation takes a multiple of 256.
    pub(crate) fn expect_free(&self, total: u64, allocations: u64) {
        let left = total - self.in_use();
        assert!((left - 256 * allocations..=left).contains(&self.free), "of {total}: {self:?}");
    }
}

/// `weights 1, kv_cache 2, ...` in numbers.
fn split(usage: &str) -> Option<HashMap<String, u64>> {
    let purposes = usage.split(", ").map(|pair| {
        let (name, bytes) = pair.split_once(' ')?;
        Some((name.to_owned(), bytes.parse().ok()?))
    });
    let purposes: HashMap<String, u64> = purposes.collect::<Option<_>>()?;
    ["weights", "kv_cache", "activations", "inputs"]
        .iter()
        .all(|name| purposes.contains_key(*name))
        .then_some(purposes)
}

/// Bytes of a token's keys and values by the formula: 2 x layers x kv_heads x head_dim x bytes.
fn token_bytes(model: &Path, bytes: u64) -> Result<u64, Failed> {
    let gguf = Gguf::open(model)?;
    let field = |name: &str| gguf.u32(&format!("llama.{name}")).map(u64::from);
    let head_dim = field("attention.key_length")
        .or_else(|_| Ok::<_, Failed>(field("embedding_length")? / field("attention.head_count")?))?;
    Ok(2 * field("block_count")? * field("attention.head_count_kv")? * head_dim * bytes)
}

/// Bytes of all tensors.
fn weights(model: &Path) -> Result<u64, Failed> {
    Ok(Gguf::open(model)?.tensors().iter().map(|tensor| tensor.bytes.len() as u64).sum())
}

/// Megabytes for keys and values.
const CACHE_MB: u64 = 1;

fn over_the_cache(place: Place) -> Result<(), Failed> {
    let room = Room::new(place)?;
    let model = room.drawn()?;
    let cache_mb = CACHE_MB.to_string();
    // In f32 a cache holds half the tokens.
    let element = if place == Place::Cpu { 4 } else { 2 };
    let page = PAGE as u64 * token_bytes(&model, element)?;
    let pages = (CACHE_MB << 20) / page;
    let server =
        Server::start(room.serve(&model)?.args(["--kv-cache-size-mb", &cache_mb, "--max-batch", "1"]))?;

    // The model's tokens are bytes, and one begins the prompt.
    let prompt = |tokens: usize| "x".repeat(tokens - 1);
    let most = pages as usize * PAGE;
    let large =
        |max_tokens: usize| json!({"job_id": "a", "prompt": prompt(most - 50), "max_tokens": max_tokens});
    // Refused, with so many pages free.
    let refusal = |free: RangeInclusive<usize>| -> Result<Result<(), String>, Failed> {
        let answer = server.post("/execute", &large(51))?;
        let kind = (answer.status, &answer.body["code"], &answer.body["retriable"]);
        assert_eq!(kind, (503, &json!("INSUFFICIENT_VRAM"), &json!(true)), "{}", answer.body);
        let needed = pages_for(most + 1) as u64 * page;
        let total = pages * page;
        let numbers = format!("take {needed} bytes, and the KV cache has {total}, of which ");
        let message = answer.body["message"].as_str().unwrap_or_default();
        let parse = || message.split_once(&numbers)?.1.split_once(" are free; in use: ");
        let (told, usage) = parse().ok_or_else(|| format!("no {numbers:?} in {message}"))?;
        let told: u64 = told.parse()?;
        assert!(told.is_multiple_of(page), "{message}");
        if !free.contains(&((told / page) as usize)) {
            return Ok(Err(format!("{} pages are free, not {free:?}", told / page)));
        }
        let usage = usage.split(';').next().and_then(split).ok_or_else(|| message.to_owned())?;
        assert_eq!(usage["weights"], weights(&model)?, "{message}");
        // Pages that fill up batches belong to no request.
        let padding = usage["kv_cache"] - total;
        assert!(padding.is_multiple_of(page) && padding <= 16 * page, "{message}");
        assert_eq!(usage.values().sum::<u64>(), used(&server)?, "{message}");
        Ok(Ok(()))
    };
    refusal(pages as usize..=pages as usize)??;

    // Jobs that hold pages, more and more, one at a time; between two of them nobody does.
    let held = json!({"job_id": "", "prompt": prompt(100), "max_tokens": 1000, "temperature": 0.0});
    let jobs: Vec<_> = (0..20)
        .map(|i| {
            let mut job = held.clone();
            job["job_id"] = json!(format!("holds {i}"));
            server.execute(&job)
        })
        .collect::<Result<_, _>>()?;
    let left = |tokens: usize| pages as usize - pages_for(tokens);
    let mut told = Err(String::new());
    for _ in 0..100 {
        told = refusal(left(1100)..=left(100))?;
        if told.is_ok() {
            break;
        }
    }
    told?;
    drop(jobs);

    // Exactly all pages, and a small one.
    let mut whole = large(50);
    whole["temperature"] = json!(0.0);
    assert_eq!(server.complete(&whole)?.last.0, "end");
    assert_eq!(server.complete(&json!({"job_id": "b", "prompt": "x", "max_tokens": 3}))?.last.0, "end");
    // What no cache could hold is the request's fault.
    let answer = server.post("/execute", &json!({"job_id": "a", "prompt": prompt(8192)}))?;
    assert_eq!((answer.status, &answer.body["code"]), (400, &json!("CONTEXT_OVERFLOW")), "{}", answer.body);
    refusal(pages as usize..=pages as usize)??;
    Ok(())
}

fn used(server: &Server) -> Result<u64, Failed> {
    let health: Value = server.get("/health")?.body;
    Ok(health["vram_bytes_used"].as_u64().ok_or("no vram_bytes_used")?)
}

/// Loads what does not fit; the numbers of the error.
fn shortage(room: &Room, model: &Path, options: &[&str], paper_mb: &str) -> Result<Shortage, Failed> {
    let mut command = room.serve(model)?;
    let done = output(command.args(options).env("PAPER_CUDA_MB", paper_mb))?;
    assert!(done.stdout.is_empty(), "{done:?}");
    expect_error_line(&done, &["error: out of memory on cuda:0: "]);
    let coded = |line: &str| line.starts_with('{') && line.contains("\"code\":\"MODEL_LOAD_FAILED\"");
    assert!(stderr(&done).lines().any(coded), "{done:?}");
    room.nothing_left()?;
    let line = stderr(&done).lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
    let told = Shortage::read(line)?;
    assert!(told.needed > told.free, "{line}");
    Ok(told)
}

fn over_the_gpu(place: Place) -> Result<(), Failed> {
    let room = Room::new(place)?;
    let model = data("llama-f16.gguf");
    // More than any GPU has.
    let cache_mb = 400_000_u64;
    let told = shortage(&room, &model, &["--kv-cache-size-mb", &cache_mb.to_string()], "300")?;
    assert_eq!(told.purpose, "kv_cache", "{told:?}");
    assert_eq!(told.usage["weights"], weights(&model)?, "{told:?}");
    // Keys or values of one layer: a fourth of the cache, and the pages that fill up batches.
    let page = PAGE as u64 * token_bytes(&model, 2)?;
    let pages = (cache_mb << 20) / page;
    let layers = u64::from(Gguf::open(&model)?.u32("llama.block_count")?);
    let padding = told.needed - pages * page / (2 * layers);
    assert!(padding.is_multiple_of(page / (2 * layers)) && padding <= 16 * page, "{told:?}");
    if place == Place::Paper {
        told.expect_free(300 << 20, 100);
    }
    Ok(())
}

fn model_over_the_gpu(place: Place) -> Result<(), Failed> {
    let room = Room::new(place)?;
    let mut shape = Shape::named("tiny")?.clone();
    shape.vocab = 20_000;
    // Two matrices of 2.56 million bytes, and four times 2^20 for them.
    let matrix = (shape.vocab * shape.hidden * 2) as u64;
    let told = shortage(&room, &room.draw(&shape)?, &[], "4")?;
    assert_eq!((told.purpose.as_str(), told.needed), ("weights", matrix), "{told:?}");
    assert_eq!((told.usage["weights"], told.in_use()), (matrix, matrix), "{told:?}");
    told.expect_free(4 << 20, 1);
    Ok(())
}
