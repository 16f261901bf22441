//! Tokens per second of SmolLM2-135M-Instruct, Q4_1: a prompt of 256 tokens in steps as the engine makes them, and one
//! sequence decoding. On the CPU, and on the first GPU if there is one, in both numerics.
//!
//! The model is the catalogue's; `worker-orcd pull smollm2` fetches it.

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use runtime::batch::{Batch, BatchLimits, Chunk};
use runtime::device::Device;
use runtime::gguf::Gguf;
use runtime::kv_cache::pages_for;
use runtime::model::{Model, Plan};
use runtime::numerics::Numerics;
use worker_orcd::images::IMAGES;

/// Tokens of the prompt.
const PROMPT: usize = 256;
/// Tokens decoded after a prompt of as many.
const DECODE: usize = 32;

fn benches(criterion: &mut Criterion) {
    let path = match worker_orcd::cache::resolve("smollm2") {
        Ok(path) => path,
        Err(error) => return eprintln!("no model, no figures: {error}"),
    };
    let both = [Numerics::F32, Numerics::Tc];
    both.into_iter().for_each(|numerics| on(criterion, &Device::cpu(0), numerics, &path, 16));
    match Device::cuda(0, IMAGES) {
        Ok(device) => both.into_iter().for_each(|numerics| on(criterion, &device, numerics, &path, 256)),
        Err(error) => eprintln!("no GPU, no figures of one: {error}"),
    }
}

/// With `step` tokens in a step of a prompt.
fn on(criterion: &mut Criterion, device: &Device, numerics: Numerics, path: &Path, step: usize) {
    println!("{}: {}", device.name(), device.description());
    let gguf = Gguf::open(path).expect("the catalogue's model is whole");
    let limits = BatchLimits { tokens: step, sequences: 1, context: PROMPT + DECODE };
    let plan = Plan { numerics, limits, pages: pages_for(limits.context) };
    let mut model = Model::load(device, &gguf, plan, &mut |_, _| ()).expect("it loads");
    let pages: Vec<u32> = (0..pages_for(limits.context) as u32).collect();
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| 100 + i * 37 % 40_000).collect();
    let mut forward = |tokens: &[u32], start: usize, wants_logits: bool| {
        let mut batch = Batch::default();
        batch.push(Chunk { tokens, start, pages: &pages, wants_logits });
        model.forward(device, &batch, None).expect("it runs");
        device.synchronize().expect("it runs");
    };

    let mut group = criterion.benchmark_group(format!("smollm2/{}/{numerics}", device.name()));
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(PROMPT as u64));
    group.bench_function("prompt of 256", |bencher| {
        bencher.iter(|| {
            for start in (0..PROMPT).step_by(step) {
                forward(&prompt[start..PROMPT.min(start + step)], start, start + step >= PROMPT);
            }
        });
    });
    group.throughput(Throughput::Elements(DECODE as u64));
    group.bench_function("decode after 32", |bencher| {
        bencher.iter(|| {
            for i in 0..DECODE {
                forward(&prompt[DECODE + i..DECODE + i + 1], DECODE + i, true);
            }
        });
    });
    group.finish();
}

criterion_group!(model, benches);
criterion_main!(model);
