//! The engine over whole models: what a request gets does not depend on who else is served, on how few pages there are, on
//! how prompts are cut, or on whose keys and values it finds in the cache.

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use runtime::gguf::Gguf;
use runtime::model::Model;
use runtime::model::config::ModelConfig;
use runtime::numerics::Numerics;
use runtime::request::{Event, Request, Sampling};
use runtime::worker::{DeviceChoice, LoadOptions, Worker};
use worker_orcd::cache;
use worker_orcd::images::IMAGES;

use crate::case::text;
use crate::common::{data, required};
use crate::gpu;

/// Tokens of the longest job: four pages, and the whole context.
const LONGEST: usize = 128;
const JOBS: usize = 12;

pub(crate) fn trials(no_gpu: bool) -> Vec<Trial> {
    let mut trials = Vec::new();
    for device in [DeviceChoice::Cpu, DeviceChoice::Cuda(0)] {
        let lacks = device != DeviceChoice::Cpu && no_gpu;
        for numerics in [Numerics::F32, Numerics::Tc] {
            let name =
                format!("llama-q8_0/{device}/{}/company_and_few_pages_change_no_token", numerics.name());
            let test = move || {
                let _alone = (device != DeviceChoice::Cpu).then(gpu);
                changes_no_token(device, numerics)
            };
            let trial = Trial::test(name, test).with_kind(if lacks { "no CUDA device" } else { "" });
            trials.push(trial.with_ignored_flag(lacks && !required("cuda")));
        }
    }
    trials
}

/// Jobs of mixed lengths, greedy and drawn, in two families that begin alike for a page.
fn requests(vocab: usize) -> Vec<Request> {
    let begins = [text(1, 32, vocab), text(2, 32, vocab)];
    let request = |i: usize| {
        let own = text(10 + i as u64, 1 + 7 * i % 20, vocab);
        let shared = if i % 3 == 2 { &[] } else { begins[i % 3].as_slice() };
        let drawn = i % 2 == 1;
        let prompt = [shared, &own].concat();
        Request {
            job_id: i.to_string(),
            max_tokens: Some(((LONGEST - prompt.len()) as u32).min(90)),
            prompt,
            sampling: Sampling {
                temperature: if drawn { 0.9 } else { 0.0 },
                top_p: 0.95,
                repetition_penalty: if i % 4 == 3 { 1.1 } else { 1.0 },
                seed: i as u64,
                ..Sampling::GREEDY
            },
            ..Request::default()
        }
    };
    (0..JOBS).map(request).collect()
}

fn submit(worker: &Worker, request: Request) -> Result<Receiver<Event>, Failed> {
    let (sender, events) = mpsc::channel();
    let sink = move |event: Event| {
        drop(sender.send(event));
        Ok(())
    };
    worker.engine.submit(request, Box::new(sink))?;
    Ok(events)
}

/// Waits for a job's end; the tokens it was told of, and the hash of all.
fn completed(events: Receiver<Event>) -> Result<(Vec<u32>, [u8; 32]), Failed> {
    let mut ids = Vec::new();
    for event in events {
        match event {
            Event::Started => {}
            Event::Token { tokens, .. } => ids.extend(tokens.into_iter().map(|chosen| chosen.id)),
            Event::End(completion) => {
                ids.extend(completion.tokens.iter().map(|chosen| chosen.id));
                return Ok((ids, completion.output_hash));
            }
            Event::Error(error) => return Err(error.into()),
        }
    }
    Err("no end".into())
}

fn changes_no_token(device: DeviceChoice, numerics: Numerics) -> Result<(), Failed> {
    let path = data("llama-q8_0.gguf");
    let gguf = Gguf::open(&path)?;
    let page = Model::page_bytes(&gguf, &ModelConfig::from_gguf(&gguf)?, numerics) as u64;
    let load = |pages: u64, max_batch, step_tokens, prefix_cache| {
        let options = LoadOptions {
            path: path.clone(),
            quant: None,
            name: "llama-q8_0".to_owned(),
            device,
            numerics: Some(numerics),
            images: IMAGES,
            image_cache: cache::images(),
            kv_bytes: Some(pages * page),
            max_batch: Some(max_batch),
            step_tokens,
            prefix_cache,
            queue_depth: 64,
            timeout: Duration::from_secs(300),
            residency_interval: Duration::from_secs(60),
        };
        Worker::load(options, |_| ())
    };

    let worker = load(4, 1, None, false)?;
    let requests = requests(worker.info.vocab_size);
    let alone = requests.iter().map(|request| completed(submit(&worker, request.clone())?));
    let alone: Vec<_> = alone.collect::<Result<_, Failed>>()?;
    let status = worker.engine.status();
    assert_eq!((status.preemptions, status.cached_tokens), (0, 0), "nobody was disturbed");
    worker.stop(Duration::ZERO);
    assert!(alone.iter().any(|(ids, _)| ids.len() > 40), "jobs that last");

    for (step_tokens, prefix_cache) in [(None, true), (Some(7), true), (Some(64), false)] {
        let what = format!("steps of {step_tokens:?}, prefix cache {prefix_cache}");
        let worker = load(8, 6, step_tokens, prefix_cache)?;
        // Twice, so that the second time finds what the first one left.
        for round in 0..2 {
            let jobs = requests.iter().map(|request| submit(&worker, request.clone()));
            let jobs: Vec<_> = jobs.collect::<Result<_, _>>()?;
            for (i, (events, want)) in jobs.into_iter().zip(&alone).enumerate() {
                assert_eq!(&completed(events)?, want, "job {i}, round {round}, {what}");
            }
        }
        let status = worker.engine.status();
        assert!(status.preemptions > 0, "{what}: nobody lost pages");
        assert_eq!(status.cached_tokens > 32, prefix_cache, "{what}: {} cached", status.cached_tokens);
        assert_eq!(status.kv_pages_used, 0, "{what}");
        worker.stop(Duration::ZERO);
    }
    Ok(())
}
