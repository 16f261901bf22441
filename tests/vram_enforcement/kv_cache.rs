//! The memory of keys and values.

use std::time::Duration;

use libtest_mimic::Failed;
use runtime::batch::{Batch, BatchLimits, Chunk};
use runtime::device::{Device, Purpose};
use runtime::gguf::Gguf;
use runtime::kv_cache::{PagePool, pages_for};
use runtime::model::config::ModelConfig;
use runtime::model::{Model, ModelError, Plan};
use runtime::numerics::Numerics;
use runtime::request::{Event, Request, SubmitError};
use runtime::worker::{DeviceChoice, LoadOptions, Worker};
use worker_orcd::cache;
use worker_orcd::images::IMAGES;

use crate::common::data;

/// Tokens of a page.
const PAGE: usize = 32;

/// A fixture on the GPU, with room for a mebibyte of keys and values.
pub(crate) fn options(fixture: &str) -> LoadOptions {
    LoadOptions {
        path: data(&format!("{fixture}.gguf")),
        quant: None,
        name: fixture.to_owned(),
        device: DeviceChoice::Cuda(0),
        numerics: None,
        images: IMAGES,
        image_cache: cache::images(),
        kv_bytes: Some(1 << 20),
        step_tokens: None,
        prefix_cache: false,
        max_batch: Some(8),
        queue_depth: 64,
        timeout: Duration::from_secs(60),
        residency_interval: Duration::from_secs(60),
    }
}

/// Bytes that a worker uses for a purpose.
pub(crate) fn usage(worker: &Worker, purpose: &str) -> u64 {
    worker.info.bytes_by_purpose.iter().find(|(name, _)| *name == purpose).expect("a purpose").1
}

pub(crate) fn is_what_the_formula_says() -> Result<(), Failed> {
    for (fixture, numerics, bytes) in
        [("llama-f16", Numerics::F32, 4), ("llama-f16", Numerics::Tc, 2), ("llama-bf16", Numerics::Tc, 2)]
    {
        let gguf = Gguf::open(&data(&format!("{fixture}.gguf")))?;
        let number = |key: &str| -> Result<usize, Failed> { Ok(gguf.u32(&format!("llama.{key}"))? as usize) };
        let (layers, kv_heads) = (number("block_count")?, number("attention.head_count_kv")?);
        let head_dim = number("embedding_length")? / number("attention.head_count")?;
        let formula = |tokens: usize| (2 * layers * tokens * kv_heads * head_dim * bytes) as u64;

        let config = ModelConfig::from_gguf(&gguf)?;
        assert_eq!(
            Model::page_bytes(&gguf, &config, numerics) as u64,
            formula(PAGE),
            "{fixture} {numerics:?}"
        );
        let device = Device::cuda(0, IMAGES)?;
        let limits = BatchLimits { tokens: 16, sequences: 1, context: 64 };
        let pages = 5;
        let model = Model::load(&device, &gguf, Plan { numerics, limits, pages }, &mut |_, _| ())?;
        // One page more, for the tokens that fill up a decoding step's shape.
        assert_eq!(
            device.usage().of(Purpose::KvCache),
            formula((pages + 1) * PAGE),
            "{fixture} {numerics:?}"
        );
        device.residency().verify()?;
        drop(model);
        assert_eq!(device.usage().total(), 0);
    }
    Ok(())
}

pub(crate) fn an_overflow_is_an_error() -> Result<(), Failed> {
    // Of pages: none are taken where too few are free.
    let mut pool = PagePool::new(3);
    let pages = pool.take(pages_for(PAGE + 1)).ok_or("two of three pages")?;
    assert_eq!((pages.capacity(), pool.free()), (2 * PAGE, 1));
    assert!(pool.take(2).is_none() && pool.free() == 1);
    pool.release(pages);
    assert_eq!(pool.free(), 3);

    // Of a model's context: nothing is computed.
    let device = Device::cuda(0, IMAGES)?;
    let gguf = Gguf::open(&data("llama-f16.gguf"))?;
    let limits = BatchLimits { tokens: 16, sequences: 1, context: 40 };
    let plan = Plan { numerics: Numerics::Tc, limits, pages: 4 };
    let mut model = Model::load(&device, &gguf, plan, &mut |_, _| ())?;
    let mut at = |start: usize| {
        let mut batch = Batch::default();
        batch.push(Chunk { tokens: &[1, 2], start, pages: &[0, 1], wants_logits: true });
        model.forward(&device, &batch, None)
    };
    at(38)?;
    let error = at(39).err();
    assert!(matches!(error, Some(ModelError::ContextOverflow { position: 40, context: 40 })), "{error:?}");
    at(0)?;
    drop(model);

    // Of the whole KV cache: the job never begins.
    let page_bytes = Model::page_bytes(&gguf, &ModelConfig::from_gguf(&gguf)?, Numerics::Tc) as u64;
    let kv_bytes = Some(2 * page_bytes);
    let worker = Worker::load(LoadOptions { kv_bytes, ..options("llama-f16") }, |_| ())?;
    let submit = |max_tokens: u32| {
        let request = Request {
            job_id: max_tokens.to_string(),
            prompt: vec![1; PAGE],
            max_tokens: Some(max_tokens),
            ..Request::default()
        };
        let (sender, events) = std::sync::mpsc::channel();
        let sink = move |event: Event| {
            drop(sender.send(event));
            Ok(())
        };
        worker.engine.submit(request, Box::new(sink)).map(|()| events)
    };
    let refused = submit(PAGE as u32 + 1).err();
    let Some(SubmitError::InsufficientMemory { needed, total, free, .. }) = refused else {
        return Err(format!("{refused:?}").into());
    };
    assert_eq!((needed, total, free), (3 * page_bytes, 2 * page_bytes, 2 * page_bytes));
    let last = submit(PAGE as u32)?.iter().last();
    assert!(matches!(last, Some(Event::End(_))), "{last:?}");
    worker.stop(Duration::ZERO);
    Ok(())
}
