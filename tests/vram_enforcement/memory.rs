//! The device's memory as its owner sees it: aligned, zeroed, checked, counted.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libtest_mimic::Failed;
use runtime::device::{Device, DeviceError, Purpose};
use runtime::estimate::{Wanted, estimate};
use runtime::gguf::Gguf;
use runtime::numerics::Numerics;
use worker_orcd::images::IMAGES;

use crate::kv_cache::{options, usage};

/// Two large uploads' worth, so that both large buffers of the staging are used.
const LARGE: usize = 40 << 20;

pub(crate) fn staging_is_bounded_and_freed() -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    assert_eq!(device.staging_bytes(), 0, "pinned before anything was uploaded");
    let mut buffer = device.alloc::<u8>(Purpose::Weights, LARGE)?;
    let mut most = 0;
    for _ in 0..3 {
        device.upload(&mut buffer, 0, &vec![7u8; LARGE])?;
        device.upload(&mut buffer, 0, &[1u8; 100])?;
        device.download(&buffer, 0, 100)?;
        most = most.max(device.staging_bytes());
    }
    assert!(most > 0 && most <= Device::STAGING_LIMIT, "{most} bytes pinned");
    device.release_staging()?;
    let left = device.staging_bytes();
    assert!(left < 2 << 20, "{left} bytes pinned after loading");
    println!("note: staging: pinned while loading {most} bytes, afterwards {left}");
    Ok(())
}

pub(crate) fn an_allocation_is_aligned_zeroed_and_checked() -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    for len in [1, 3, 255, 256, 257, 4097, 1_000_003] {
        // What was there before must not show.
        let mut before = device.alloc::<u8>(Purpose::Weights, len)?;
        device.fill(&mut before, 0, len, 0xee)?;
        drop(before);
        let mut buffer = device.alloc::<u8>(Purpose::Weights, len)?;
        assert!(buffer.address().is_multiple_of(256), "{len} bytes at {:#x}", buffer.address());
        assert!(device.download(&buffer, 0, len)?.iter().all(|&byte| byte == 0), "{len} bytes are not zero");
        for outside in [(len, 1), (0, len + 1), (usize::MAX, 2)] {
            let (at, count) = outside;
            let panics = [
                catch_unwind(AssertUnwindSafe(|| device.fill(&mut buffer, at, count, 1))).is_err(),
                catch_unwind(AssertUnwindSafe(|| device.download(&buffer, at, count))).is_err(),
                catch_unwind(AssertUnwindSafe(|| {
                    device.upload(&mut buffer, at, &vec![1; count.min(len + 1)])
                }))
                .is_err(),
            ];
            assert_eq!(panics, [true; 3], "{count} bytes at {at} of {len}");
        }
        assert!(
            device.download(&buffer, 0, len)?.iter().all(|&byte| byte == 0),
            "a refused copy changed bytes"
        );
    }
    let none = device.alloc::<f32>(Purpose::KvCache, 0).err();
    assert_eq!(none, Some(DeviceError::NoBytes { purpose: Purpose::KvCache }));
    let all = device.alloc::<u64>(Purpose::KvCache, usize::MAX).err();
    assert!(matches!(all, Some(DeviceError::OutOfMemory { needed: u64::MAX, .. })), "{all:?}");
    Ok(())
}

pub(crate) fn every_allocation_is_in_the_ledger() -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    let residency = device.residency();
    let mut buffers = Vec::new();
    for (i, purpose) in Purpose::ALL.into_iter().enumerate() {
        buffers.push(device.alloc::<f32>(purpose, 1000 * (i + 1))?);
        assert_eq!(device.usage().of(purpose), 4000 * (i as u64 + 1));
    }
    let verified = residency.verify()?;
    assert_eq!((verified.allocations, verified.bytes), (4, device.usage().total()));
    buffers.swap_remove(1);
    assert_eq!((residency.verify()?.allocations, device.usage().total()), (3, 32_000));
    buffers.clear();
    assert_eq!((residency.verify()?.allocations, device.usage().total()), (0, 0));
    Ok(())
}

pub(crate) fn a_loaded_worker_is_verified() -> Result<(), Failed> {
    let worker = runtime::worker::Worker::load(options("llama-f16"), |_| ())?;
    assert!(worker.engine.status().resident);
    let total: u64 = worker.info.bytes_by_purpose.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(worker.info.bytes_used, total);
    assert!(
        usage(&worker, "weights") > 0 && usage(&worker, "activations") > 0 && usage(&worker, "inputs") > 0
    );
    worker.stop(std::time::Duration::ZERO);
    Ok(())
}

/// What cuBLAS works in, which is told and, on the paper GPU, not taken: there is no cuBLAS.
const CUBLAS: u64 = 32 << 20;

pub(crate) fn an_estimate_is_what_a_load_takes() -> Result<(), Failed> {
    for (fixture, numerics) in
        [("llama-f16", Numerics::F32), ("llama-bf16", Numerics::Tc), ("llama-f32", Numerics::Tc)]
    {
        let mut options = options(fixture);
        let wanted = Wanted { gpu: true, numerics, max_batch: options.max_batch, context: 64 };
        let told = estimate(&Gguf::open(&options.path)?, wanted)?;
        // As many keys and values; and steps that do not depend on how much memory the GPU has.
        options.kv_bytes = Some((told.sequences * told.context * told.kv_token_bytes) as u64);
        options.step_tokens = Some(runtime::worker::CUDA_STEP);
        options.numerics = Some(numerics);
        let worker = runtime::worker::Worker::load(options, |_| ())?;
        for purpose in Purpose::ALL {
            let taken = usage(&worker, purpose.name());
            let told = told.usage.of(purpose);
            let without_cublas = purpose == Purpose::Activations && told == taken + CUBLAS;
            assert!(told == taken || without_cublas, "{fixture} {numerics:?} {purpose:?}: {told}, {taken}");
        }
        worker.stop(std::time::Duration::ZERO);
    }
    Ok(())
}
