//! Every kernel at the shapes of SmolLM2 135M and of an 8B Llama, on the CPU and, where there is one, on the GPU.
//!
//! The data of a case is repeated through more than 256 MB and launches go round it, so that no cache keeps what a model
//! would have to read again. Times are of many launches between two synchronisations. Beside criterion's figures stands
//! the best one as a share of what a plain copy on the same device reads and writes.

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/kernels/cases/mod.rs"]
mod cases;

use std::cell::Cell;
use std::time::{Duration, Instant};

use criterion::Criterion;
use cust::context::CurrentContext;
use cust::memory::{CopyDestination, DeviceBuffer};
use runtime::device::Device;
use worker_orcd::images::IMAGES;

use cases::attention::Attend;
use cases::elementwise::{Map, Op};
use cases::embed::Lookup;
use cases::kv::Write;
use cases::matmul::Input;
use cases::norm::Norm;
use cases::rope::{Pairing, Turn};
use cases::sample::{Draw, Repeat};
use cases::stored::Stored;
use cases::{Case, Entry, Stage, matmul, matvec};

/// More than any cache holds.
const ROUND: usize = 256 << 20;
/// Repetitions of small cases at most.
const MAX_COPIES: usize = 64;
/// Bytes that a copy is measured with.
const COPY: usize = 512 << 20;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(200))
        .configure_from_args();
    bench(&mut criterion, &Device::cpu(0), copy_on_host(), false);
    match Device::cuda(0, IMAGES) {
        Ok(gpu) => bench(&mut criterion, &gpu, copy_on_gpu(&gpu), true),
        Err(error) => println!("no GPU: {error}"),
    }
    criterion.final_summary();
}

/// A case, made when it is its turn.
struct Row {
    kernel: String,
    shape: String,
    case: Box<dyn Fn() -> Box<dyn Case>>,
}

fn row<C: Case + 'static>(
    kernel: impl Into<String>,
    shape: impl Into<String>,
    case: impl Fn() -> C + 'static,
) -> Row {
    Row { kernel: kernel.into(), shape: shape.into(), case: Box::new(move || Box::new(case())) }
}

/// All rows; the tensor-core products only in their smallest shape where the tensor core is a model in integers.
fn rows(tensor_core: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let shapes = [(1536, 576), (49_152, 576), (4096, 4096), (14_336, 4096)];
    for stored in Stored::ALL {
        for (n, k) in shapes {
            for m in [1, 8] {
                let shape = format!("{n}x{k} m={m}");
                rows.push(row(format!("matvec/{}", stored.name()), shape, move || {
                    matvec::Product::new(stored, m, n, k, m)
                }));
            }
        }
    }
    for (name, input) in [("bf16", Input::Bf16), ("f16", Input::F16)] {
        for (n, k) in &shapes[..if tensor_core { shapes.len() } else { 1 }] {
            for m in [1, 8] {
                let (n, k) = (*n, *k);
                rows.push(row(format!("matmul/{name}"), format!("{n}x{k} m={m}"), move || {
                    matmul::Product::new(input, n, k, m, 1)
                }));
            }
        }
    }
    for (model, kv_heads, ratio, head_dim, n, ffn, vocab) in
        [("SmolLM2", 3, 3, 64, 576, 1536, 49_152), ("8B", 8, 4, 128, 4096, 14_336, 128_256)]
    {
        let heads = kv_heads * ratio;
        let shape = |what: &str| format!("{model} {what}");
        let mut attend = |what: &str, lengths: &'static [usize], last: usize| {
            rows.push(row("attention/f32", shape(what), move || {
                Attend::new(kv_heads, ratio, head_dim, lengths, last, 1.0)
            }));
        };
        attend("one token of 700", &[700], 1);
        attend("8 tokens of 700 each", &[700; 8], 1);
        attend("a prompt of 256", &[256], 256);
        rows.extend([
            row("embed/q4_1", shape("m=8"), move || Lookup::new(Stored::Q4_1, n, 4096, 8)),
            row("norm/rms", shape("m=8"), move || Norm::new(8, n)),
            row("rope/interleaved", shape("m=8"), move || {
                Turn::new(Pairing::Interleaved, 8, heads, head_dim, head_dim)
            }),
            row("rope/split_half", shape("m=8"), move || {
                Turn::new(Pairing::SplitHalf, 8, heads, head_dim, head_dim)
            }),
            row("kv/write_f32", shape("m=8"), move || Write::new(8, 4, kv_heads, head_dim)),
            row("elementwise/swiglu", shape("m=8"), move || Map::new(Op::Swiglu, 8, ffn)),
            row("elementwise/add", shape("m=8"), move || Map::new(Op::Add, 8, n)),
            row("elementwise/add_bias", shape("m=8"), move || Map::new(Op::AddBias, 8, n)),
            row("sample/token", shape("no limits, m=8"), move || {
                Draw::often(&cases::random::Random::new(1).floats(vocab), 0.8, 8)
            }),
            row("sample/token", shape("mixed limits, m=8"), move || Draw::random(vocab, 8, 1)),
            row("sample/penalty", shape("700 seen, m=8"), move || Repeat::new(vocab, &[700; 8])),
        ]);
    }
    rows
}

/// `copy` is the device's own bandwidth in bytes a second.
fn bench(criterion: &mut Criterion, device: &Device, copy: f64, tensor_core: bool) {
    println!("{}: {}; a copy reads and writes {:.1} GB/s", device.name(), device.description(), copy / 1e9);
    for Row { kernel, shape, case } in rows(tensor_core) {
        let mut group = criterion.benchmark_group(format!("{kernel}/{}", device.name()));
        let mut staged = None;
        let best = Cell::new(Duration::MAX);
        let bytes = Cell::new(0);
        group.bench_function(&shape, |bencher| {
            // Criterion asks several times, or never.
            let (_, launches) = staged.get_or_insert_with(|| {
                let case = case();
                bytes.set(case.bytes());
                let copies = (ROUND / case.bytes() as usize + 1).min(MAX_COPIES);
                let mut stages: Vec<Stage> = (0..copies).map(|_| Stage::new(device)).collect();
                let launches: Vec<_> = stages.iter_mut().map(|stage| case.stage(stage)).collect();
                (stages, launches)
            });
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                for launch in launches.iter().cycle().take(iterations as usize) {
                    launch.run(Entry::Device(device)).expect("launch");
                }
                device.synchronize().expect("the launches before");
                let elapsed = start.elapsed();
                best.set(best.get().min(elapsed / iterations as u32));
                elapsed
            });
        });
        group.finish();
        if staged.is_some() {
            let rate = bytes.get() as f64 / best.get().as_secs_f64();
            println!(
                "{:24}best:   {:?}, {:.2} GB/s, {:.1} % of a copy\n",
                "",
                best.get(),
                rate / 1e9,
                100.0 * rate / copy
            );
        }
    }
}

/// Bytes a second of the best of some copies, each byte read and written.
fn best_copy(mut copy: impl FnMut()) -> f64 {
    let seconds = (0..10).map(|_| {
        let start = Instant::now();
        copy();
        start.elapsed().as_secs_f64()
    });
    2.0 * COPY as f64 / seconds.fold(f64::INFINITY, f64::min)
}

/// All cores together.
fn copy_on_host() -> f64 {
    let (from, mut to) = (vec![1u8; COPY], vec![2u8; COPY]);
    let share = COPY.div_ceil(std::thread::available_parallelism().map_or(1, |n| n.get()));
    best_copy(|| {
        std::thread::scope(|scope| {
            for (from, to) in from.chunks(share).zip(to.chunks_mut(share)) {
                scope.spawn(|| to.copy_from_slice(from));
            }
        });
    })
}

/// The driver's copy within the GPU's memory, in the context that `gpu` made this thread's.
fn copy_on_gpu(_gpu: &Device) -> f64 {
    let from = DeviceBuffer::from_slice(&vec![1u8; COPY]).expect("memory to copy from");
    let mut to = DeviceBuffer::from_slice(&vec![2u8; COPY]).expect("memory to copy to");
    best_copy(|| {
        to.copy_from(&from).expect("copy");
        CurrentContext::synchronize().expect("copy");
    })
}
