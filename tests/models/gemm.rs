//! A GPU's product of many rows, by cuBLASLt, has the same bits on every run, whatever else the GPU computes, and for a row
//! alone or among 2048.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::Duration;

use cublas_sys::Cublas;
use libtest_mimic::{Failed, Trial};
use runtime::device::{Buffer, Device, DeviceError, Purpose};
use runtime::gemm::{Gemm, Input, Product};
use worker_orcd::images::IMAGES;

use crate::common::required;

/// Of a feed-forward part.
const N: usize = 1536;
const K: usize = 576;
const ROWS: usize = 2048;
const RUNS: usize = 100;

/// Ignored without a GPU or without cuBLAS, unless `WORKER_ORCD_REQUIRE` has `cuda`.
pub(crate) fn trials(no_gpu: bool) -> Vec<Trial> {
    let lacks = match (no_gpu, Cublas::load().is_err()) {
        (true, _) => "no CUDA device",
        (_, true) => "no cuBLAS",
        _ => "",
    };
    [("bf16", Input::Bf16), ("f16", Input::F16)]
        .into_iter()
        .map(|(name, input)| {
            let name = format!("determinism::gemm/cuda:0/{name}/a_hundred_runs_alone_and_under_load");
            Trial::test(name, move || same_bits(input))
                .with_kind(lacks)
                .with_ignored_flag(!lacks.is_empty() && !required("cuda"))
        })
        .collect()
}

fn same_bits(input: Input) -> Result<(), Failed> {
    let _alone = crate::gpu();
    let device = Device::cuda(0, IMAGES)?;
    let multiply = Multiply::new(&device, input, 1)?;
    let want = multiply.rows(&device, ROWS)?;
    assert!(want.iter().any(|&bits| f32::from_bits(bits) != 0.0), "sums of nothing");
    for run in 1..RUNS {
        assert!(multiply.rows(&device, ROWS)? == want, "run {run}");
    }
    for rows in [1, 2, 16, 17, 100, 1000, ROWS - 1] {
        assert!(multiply.rows(&device, rows)? == want[..rows * N], "the first {rows} rows of {ROWS}");
    }
    // Others' products and copies, on streams of their own.
    let done = AtomicBool::new(false);
    let (tell, begun) = mpsc::channel();
    // Whoever makes matrices beside two that compute all the time can wait for the driver's lock for minutes.
    let made = Barrier::new(3);
    thread::scope(|scope| {
        let load = |seed| {
            let (done, tell, made) = (&done, tell.clone(), &made);
            move || -> Result<(), String> {
                let make = || {
                    let device = Device::cuda(0, IMAGES)?;
                    let multiply = Multiply::new(&device, input, seed)?;
                    Ok((device, multiply))
                };
                let all: Result<_, Failed> = make();
                made.wait();
                let (device, multiply) = all.map_err(|error| format!("{error:?}"))?;
                let mut tell = Some(tell);
                while !done.load(Ordering::Relaxed) {
                    multiply.rows(&device, ROWS).map_err(|error| format!("{error:?}"))?;
                    if let Some(tell) = tell.take() {
                        tell.send(()).map_err(|error| error.to_string())?;
                    }
                    thread::sleep(Duration::from_micros(100));
                }
                Ok(())
            }
        };
        let others: Vec<_> = (2..5).map(|seed| scope.spawn(load(seed))).collect();
        drop(tell);
        // All of them compute; one that cannot says so at the end.
        let loads = begun.iter().take(others.len()).count();
        let mut equal = Ok(());
        for run in 0..RUNS {
            match multiply.rows(&device, ROWS) {
                Ok(got) if got == want => {}
                Ok(_) => equal = Err(format!("run {run} beside others").into()),
                Err(error) => equal = Err(error),
            }
        }
        done.store(true, Ordering::Relaxed);
        let count = others.len();
        for other in others {
            other.join().expect("it does not panic")?;
        }
        assert_eq!(loads, count, "loads that began");
        equal
    })
}

/// A product by what was admitted for it.
struct Multiply {
    gemm: Gemm,
    input: Input,
    w: Buffer<u16>,
    x: Buffer<u16>,
    y: Buffer<f32>,
}

impl Multiply {
    fn new(device: &Device, input: Input, seed: u64) -> Result<Self, Failed> {
        let mut gemm = Gemm::new(device)?.ok_or("no cuBLAS")?;
        gemm.admit(device, input, N, K, ROWS)?;
        let upload = |values: Vec<u16>| -> Result<Buffer<u16>, DeviceError> {
            let mut buffer = device.alloc(Purpose::Weights, values.len())?;
            device.upload(&mut buffer, 0, &values)?;
            Ok(buffer)
        };
        let (w, x) = (upload(values(input, seed, N * K))?, upload(values(input, seed + 100, ROWS * K))?);
        Ok(Self { gemm, input, w, x, y: device.alloc(Purpose::Activations, ROWS * N)? })
    }

    /// The bits of the first rows' sums.
    fn rows(&self, device: &Device, rows: usize) -> Result<Vec<u32>, Failed> {
        // SAFETY: whole buffers of this device, used in this order alone.
        let done = unsafe {
            let (w, x) = (self.w.view(0, self.w.len()), self.x.view(0, self.x.len()));
            let y = self.y.view_mut(0, self.y.len());
            self.gemm.run(device, &Product { input: self.input, w, x, y, n: N, k: K, rows })?
        };
        if !done {
            return Err("no algorithm keeps the order".into());
        }
        Ok(device.download(&self.y, 0, rows * N)?.into_iter().map(f32::to_bits).collect())
    }
}

/// Made-up values of either sign, with exponents that differ, so that sums depend on their order.
fn values(input: Input, seed: u64, len: usize) -> Vec<u16> {
    let exponents = match input {
        // Five bits of exponent around one, and eight.
        Input::F16 => (10, 11, 8),
        Input::Bf16 => (7, 120, 12),
    };
    let (mantissa, least, span) = exponents;
    crate::case::text(seed, len, 1 << 30)
        .into_iter()
        .map(|random| {
            let exponent = least + (random >> 16) % span;
            (((random & 1) << 15) | (exponent << mantissa) | ((random >> 1) & ((1 << mantissa) - 1))) as u16
        })
        .collect()
}
