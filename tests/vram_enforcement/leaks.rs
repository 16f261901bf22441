//! That the GPU's free memory is afterwards what it was before.

use std::sync::mpsc;
use std::time::Duration;

use libtest_mimic::Failed;
use runtime::batch::{Batch, BatchLimits, Chunk};
use runtime::device::Device;
use runtime::gguf::Gguf;
use runtime::model::{Model, Plan};
use runtime::numerics::Numerics;
use runtime::request::{Event, Request, Sampling};
use runtime::worker::Worker;
use worker_orcd::images::IMAGES;

use crate::common::data;
use crate::kv_cache::options;

const LOADS: usize = 1000;
const WORKERS: usize = 20;
const REQUESTS: usize = 10_000;
/// Submitted together: more than run at once.
const WAVE: usize = 50;

/// Free memory of the GPU; `watcher` keeps its context, so that this does not come and go.
fn free(watcher: &Device) -> Result<u64, Failed> {
    watcher.synchronize()?;
    Ok(watcher.memory()?.1)
}

pub(crate) fn loads() -> Result<(), Failed> {
    let watcher = Device::cuda(0, IMAGES)?;
    let gguf = Gguf::open(&data("llama-q4_0.gguf"))?;
    let limits = BatchLimits { tokens: 64, sequences: 2, context: 64 };
    let plan = Plan { numerics: Numerics::F32, limits, pages: 8 };
    let mut batch = Batch::default();
    batch.push(Chunk { tokens: &[1, 2, 3], start: 0, pages: &[0], wants_logits: true });
    let once = |device: &Device| -> Result<Vec<f32>, Failed> {
        let mut model = Model::load(device, &gguf, plan, &mut |_, _| ())?;
        model.forward(device, &batch, None)?;
        Ok(device.download(model.logits(), 0, 1)?)
    };
    // The first loads the kernels, which stay with the device.
    let device = Device::cuda(0, IMAGES)?;
    let want = once(&device)?;
    let before = free(&watcher)?;
    for _ in 1..LOADS {
        assert_eq!(once(&device)?, want);
    }
    assert_eq!(free(&watcher)?, before, "after {LOADS} models");
    assert_eq!(device.usage().total(), 0);
    drop(device);

    // Whole workers, each with a device and kernels of its own, and cuBLAS where it is.
    let load = || -> Result<(), Failed> {
        let worker = Worker::load(options("llama-f16"), |_| ())?;
        complete(&worker, 3)?;
        worker.stop(Duration::ZERO);
        Ok(())
    };
    load()?;
    let before = free(&watcher)?;
    for _ in 1..WORKERS {
        load()?;
    }
    assert_eq!(free(&watcher)?, before, "after {WORKERS} workers");
    println!("note: loads: {LOADS} models and {WORKERS} workers: {before} bytes free before and after");
    Ok(())
}

pub(crate) fn requests() -> Result<(), Failed> {
    let watcher = Device::cuda(0, IMAGES)?;
    let worker = Worker::load(options("llama-f16"), |_| ())?;
    // Every shape of a step occurs and is captured; what graphs take stays.
    for _ in 0..4 {
        complete(&worker, WAVE)?;
    }
    let before = free(&watcher)?;
    for _ in 0..REQUESTS / WAVE {
        complete(&worker, WAVE)?;
    }
    assert_eq!(free(&watcher)?, before, "after {REQUESTS} requests");
    let status = worker.engine.status();
    assert_eq!((status.running, status.waiting, status.kv_pages_used), (0, 0, 0));
    worker.stop(Duration::ZERO);
    println!("note: requests: {REQUESTS} requests: {before} bytes free before and after");
    Ok(())
}

/// So many requests at once, of different lengths, all of which must end well.
fn complete(worker: &Worker, count: usize) -> Result<(), Failed> {
    let (sender, events) = mpsc::channel();
    for i in 0..count {
        let request = Request {
            job_id: i.to_string(),
            prompt: vec![1 + i as u32 % 7; 1 + i % 5],
            max_tokens: Some(1 + i as u32 % 3),
            sampling: Sampling { temperature: (i % 2) as f32, seed: i as u64, ..Sampling::GREEDY },
            ..Request::default()
        };
        let sender = sender.clone();
        let sink = move |event: Event| {
            drop(sender.send(event));
            Ok(())
        };
        worker.engine.submit(request, Box::new(sink))?;
    }
    drop(sender);
    let mut ended = 0;
    for event in events {
        match event {
            Event::End(_) => ended += 1,
            Event::Error(error) => return Err(error.to_string().into()),
            _ => {}
        }
    }
    assert_eq!(ended, count);
    Ok(())
}
