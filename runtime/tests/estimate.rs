//! What is told of a model's memory beforehand is what a loaded worker's ledger says.

#[allow(dead_code, reason = "other tests use the rest of it")]
mod draft;

use std::time::Duration;

use draft::{Draft, golden};
use kernels::kv::PAGE;
use runtime::device::{Device, Purpose};
use runtime::estimate::{Wanted, estimate};
use runtime::gguf::Gguf;
use runtime::kv_cache::pages_for;
use runtime::model::Model;
use runtime::model::config::ModelConfig;
use runtime::numerics::Numerics;
use runtime::synthetic::{self, Shape};
use runtime::worker::{DeviceChoice, LoadOptions, Worker};

fn loaded(file: &str, wanted: Wanted, page: usize) -> Vec<(&'static str, u64)> {
    let sequences = wanted.max_batch.unwrap_or(16);
    let options = LoadOptions {
        path: golden(file),
        name: file.to_owned(),
        device: DeviceChoice::Cpu,
        numerics: Some(wanted.numerics),
        images: &[],
        image_cache: None,
        kv_bytes: Some((sequences * pages_for(wanted.context) * page) as u64),
        max_batch: wanted.max_batch,
        quant: None,
        step_tokens: None,
        prefix_cache: false,
        queue_depth: 1,
        timeout: Duration::from_secs(60),
        residency_interval: Duration::from_secs(60),
    };
    let worker = Worker::load(options, |_| ()).unwrap_or_else(|error| panic!("{file}: {error}"));
    let bytes = worker.info.bytes_by_purpose.clone();
    worker.stop(Duration::ZERO);
    bytes
}

#[test]
fn the_estimate_is_the_ledger_of_a_loaded_worker() {
    for file in ["llama-f32.gguf", "llama-bf16.gguf", "llama-q4_1.gguf", "llama31-f32.gguf"] {
        let gguf = Gguf::open(&golden(file)).unwrap();
        let config = ModelConfig::from_gguf(&gguf).unwrap();
        for numerics in [Numerics::F32, Numerics::Tc] {
            for (max_batch, context) in [(None, config.context), (Some(1), 33), (Some(3), 64)] {
                let wanted = Wanted { gpu: false, numerics, max_batch, context };
                let told = estimate(&gguf, wanted).unwrap_or_else(|error| panic!("{file}: {error}"));
                let page = Model::page_bytes(&gguf, &config, numerics);
                assert_eq!(told.kv_token_bytes * PAGE, page);
                let told = Purpose::ALL.map(|purpose| (purpose.name(), told.usage.of(purpose)));
                assert_eq!(told.to_vec(), loaded(file, wanted, page), "{file} {wanted:?}");
            }
        }
    }
}

#[test]
fn a_gpu_takes_more_for_its_larger_steps_and_cublas() {
    let gguf = Gguf::open(&golden("llama-q4_1.gguf")).unwrap();
    let wanted = Wanted { gpu: false, numerics: Numerics::Tc, max_batch: Some(1), context: 64 };
    let [cpu, gpu] = [false, true].map(|gpu| estimate(&gguf, Wanted { gpu, ..wanted }).unwrap());
    assert_eq!(cpu.usage.of(Purpose::Weights), gpu.usage.of(Purpose::Weights));
    assert_eq!(cpu.usage.of(Purpose::KvCache), gpu.usage.of(Purpose::KvCache));
    // cuBLAS's workspace alone has 32 MiB.
    assert!(gpu.usage.of(Purpose::Activations) > cpu.usage.of(Purpose::Activations) + (32 << 20));
    assert!((cpu.step_tokens, gpu.step_tokens) < (100, 2000), "{cpu:?} {gpu:?}");
}

#[test]
fn a_planned_device_counts_what_is_not_there_and_gives_it_back() {
    let device = Device::planned(true);
    assert!(!device.is_cpu() && device.name() == "planned");
    let tebibytes = device.alloc::<u8>(Purpose::Weights, 1 << 42).unwrap();
    let more = device.alloc::<u64>(Purpose::KvCache, 3).unwrap();
    assert!(more.address().is_multiple_of(256) && more.address() >= tebibytes.address() + (1 << 42));
    assert_eq!((device.usage().of(Purpose::Weights), device.usage().total()), (1 << 42, (1 << 42) + 24));
    assert_eq!(device.download(&more, 0, 3).unwrap(), [0; 3]);
    drop(tebibytes);
    assert_eq!(device.usage().total(), 24);
}

#[test]
fn a_model_that_would_not_load_is_no_estimate_but_the_error_of_the_load() {
    let wanted = Wanted { gpu: true, numerics: Numerics::F32, max_batch: None, context: 64 };
    let none = Draft::default().text("general.architecture", "none").open().unwrap();
    assert!(estimate(&none, wanted).unwrap_err().to_string().contains("\"none\" is not supported"));
    let gguf = Gguf::open(&golden("llama-f32.gguf")).unwrap();
    assert!(gguf.tensor("blk.1.ffn_up.weight").is_some());
}

/// Pages of the documentation, each with a table of memory.
const PAGES: [(&str, &str); 5] = [
    ("llama", include_str!("../../docs/models/llama.md")),
    ("qwen", include_str!("../../docs/models/qwen.md")),
    ("phi", include_str!("../../docs/models/phi.md")),
    ("gpt2", include_str!("../../docs/models/gpt2.md")),
    ("gpt-oss", include_str!("../../docs/models/gpt-oss.md")),
];

/// A row: the GB that a model of a shape takes of a GPU, for one sequence of so many tokens; nothing beyond its context.
fn row(shape: &str, ty: &str, contexts: &[usize]) -> Vec<Option<f64>> {
    let shape = Shape::named(shape.trim_matches('`')).unwrap();
    let gguf = synthetic::model(shape, synthetic::quant(ty).unwrap(), 0).unwrap();
    let gigabytes = |&context: &usize| {
        let wanted = Wanted { gpu: true, numerics: Numerics::Tc, max_batch: Some(1), context };
        (context <= shape.context).then(|| estimate(&gguf, wanted).unwrap().usage.total() as f64 / 1e9)
    };
    contexts.iter().map(gigabytes).collect()
}

#[test]
fn the_documentation_tells_the_memory_that_is_estimated() {
    let mut wrong = Vec::new();
    for (page, text) in PAGES {
        let (mut contexts, mut rows) = (Vec::new(), 0);
        for line in text.lines() {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            match cells[..] {
                ["model", "type", ref heads @ ..] => {
                    // Of the table of speed these are no numbers.
                    contexts = heads.iter().map_while(|head| head.replace(' ', "").parse().ok()).collect();
                }
                [shape, ty, ref told @ ..] if shape.starts_with('`') && !contexts.is_empty() => {
                    rows += 1;
                    let right = row(shape, ty, &contexts);
                    let near = |(told, right): (&&str, &Option<f64>)| match (told.parse::<f64>(), right) {
                        (Ok(told), Some(right)) => (told - right).abs() <= 0.01 + 0.02 * right,
                        (told, right) => told.is_err() && right.is_none(),
                    };
                    if told.len() != right.len() || !told.iter().zip(&right).all(near) {
                        let cell = |right: &Option<f64>| right.map_or("".to_owned(), |gb| format!("{gb:.2}"));
                        let right: Vec<String> = right.iter().map(cell).collect();
                        wrong.push(format!("| {shape} | {ty} | {} |", right.join(" | ")));
                    }
                }
                _ => {}
            }
        }
        assert!(rows >= 3, "{page} has a table of {rows} rows");
    }
    assert!(wrong.is_empty(), "these rows have changed:\n{}", wrong.join("\n"));
}
