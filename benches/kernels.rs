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
use kernels::sample::Choice;
use runtime::device::Device;
use worker_orcd::images::IMAGES;

use cases::attention::Attend;
use cases::dequantise::Weights;
use cases::embed::Lookup;
use cases::expert_rows::{Clamped, Together};
use cases::flash::{Flash, Path, Run};
use cases::float::Float;
use cases::gelu::Activation;
use cases::logits::Finished;
use cases::logprobs::Likely;
use cases::merge::Merge;
use cases::mixture::{Mixture, Way};
use cases::norm::Norm;
use cases::residual::Addition;
use cases::rope::{Pairing, Turn};
use cases::rows::Rounded;
use cases::sample::{self, Change, Changed, Draw};
use cases::stored::{Layout, Stored};
use cases::swiglu::Gate;
use cases::{Case, Entry, Stage, flash, layer_norm, matmul, matvec, mixture, qmatmul, rope, router};

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

/// All rows; those of the tensor core only in their smallest shape where it is a model in integers.
fn rows(tensor_core: bool) -> Vec<Row> {
    let mut rows = products(tensor_core);
    for model in [SMOLLM2, LLAMA_8B] {
        rows.extend(attention(model, tensor_core));
        rows.extend(others(model));
    }
    rows.extend(mixture(tensor_core));
    rows
}

/// The mixture of gpt-oss 20B: 4 of 32 experts a token. Every expert is chosen where there are many tokens.
fn mixture(tensor_core: bool) -> Vec<Row> {
    let shape = mixture::Shape { n: 2880, k: 2880, experts: 32, used: 4, share: 4 };
    let mut rows = Vec::new();
    for (tokens, popular) in [(1, 4), (8, 16), (512, 16)] {
        let few = |tile: usize| if tokens == 1 { 1 } else { tile };
        let ways = [("expert_matvec", Way::Chain(few(8))), ("expert_matmul", Way::TensorCore(8))];
        for stored in [Stored::MXFP4, Stored::BF16] {
            for (family, way) in ways {
                // Many tokens as f32 chains, and the tensor core's model on a CPU, take minutes.
                if (tokens > 8 && family == "expert_matvec")
                    || (!tensor_core && (tokens > 1 || family == "expert_matmul"))
                {
                    continue;
                }
                let way = if tokens > 256 { Way::TensorCore(64) } else { way };
                let name = format!("{family}/{}", stored.lower());
                rows.push(row(name, format!("gpt-oss m={tokens}"), move || {
                    Mixture::new(stored, way, shape, tokens, popular)
                }));
            }
        }
        let shape = move |what: &str| format!("gpt-oss {what}, m={tokens}");
        rows.extend([
            row("router/choose", shape("4 of 32"), move || router::Choice::new(tokens, 32, 4, 2, 0)),
            row("router/group", shape("32 experts"), move || router::Grouping::random(4 * tokens, 32, 32)),
            row("expert_swiglu/bf16", shape("n=2880"), move || Clamped::new(Float::Bf16, tokens, 4, 2880, 2)),
            row("expert_sum/sum", shape("n=2880"), move || Together::new(tokens, 4, 2880, 2)),
        ]);
    }
    rows
}

/// A model's shape.
#[derive(Clone, Copy)]
struct Model {
    name: &'static str,
    kv_heads: usize,
    group: usize,
    head_dim: usize,
    n: usize,
    ffn: usize,
    vocab: usize,
}

const SMOLLM2: Model =
    Model { name: "SmolLM2", kv_heads: 3, group: 3, head_dim: 64, n: 576, ffn: 1536, vocab: 49_152 };
const LLAMA_8B: Model =
    Model { name: "8B", kv_heads: 8, group: 4, head_dim: 128, n: 4096, ffn: 14_336, vocab: 128_256 };

/// Types whose values are stored in blocks.
fn quantised() -> impl Iterator<Item = Stored> {
    Stored::ALL.iter().copied().filter(|stored| stored.is_quantised())
}

/// Matrix x few rows.
fn products(tensor_core: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let shapes = [(1536, 576), (49_152, 576), (4096, 4096), (14_336, 4096)];
    // Gate and up stacked, down, Q with K and V, logits.
    let stacked = [(28_672, 4096), (4096, 14_336), (6144, 4096), (128_256, 4096)];
    let on_tensor_core: Vec<_> = if tensor_core { [shapes, stacked].concat() } else { shapes[..1].to_vec() };
    for &stored in Stored::ALL {
        // SmolLM2's rows are no super-blocks.
        for (n, k) in shapes.map(|(n, k)| (n, stored.row_length(k))) {
            for m in [1, 8] {
                let shape = format!("{n}x{k} m={m}");
                rows.push(row(format!("matvec/{}", stored.lower()), shape, move || {
                    matvec::Product::new(stored, m, n, k, m)
                }));
            }
        }
    }
    for &(n, k) in &on_tensor_core {
        for m in [1, 8] {
            for float in Float::HALVES {
                rows.push(row(format!("matmul/{}", float.name()), format!("{n}x{k} m={m}"), move || {
                    matmul::Product::new(float, n, k, m, 1)
                }));
            }
            for stored in quantised().chain([Stored::F16, Stored::BF16]) {
                let k = stored.row_length(k);
                let gated = n == 28_672 && stored.is_quantised();
                let shape = format!("{n}x{k} m={m}{}", if gated { " gated" } else { "" });
                rows.push(row(format!("qmatmul/{}", stored.lower()), shape, move || qmatmul::Product {
                    rows: n,
                    gated,
                    ..qmatmul::Product::new(stored, n, k, m, 1)
                }));
            }
        }
    }
    for stored in quantised() {
        rows.push(row(format!("dequantise/{}", stored.lower()), "4096x4096", move || {
            Weights::new(stored, 4096 * 4096)
        }));
    }
    rows
}

/// Attention in f32 and on the tensor core; one token in chunks too, whose merge is a launch of its own.
fn attention(model: Model, tensor_core: bool) -> Vec<Row> {
    let Model { name, kv_heads, group, head_dim, .. } = model;
    let heads = flash::Heads { kv_heads, group, head_dim };
    let mut rows = Vec::new();
    for (what, lengths, last) in [
        ("one token of 700", &[700][..], 1),
        ("one token of 4096", &[4096], 1),
        ("8 tokens of 700 each", &[700; 8], 1),
        ("a prompt of 256", &[256], 256),
        ("a prompt of 2048", &[2048], 2048),
    ] {
        let shape = format!("{name} {what}");
        if last < 2048 {
            rows.push(row("attention/f32", shape.clone(), move || {
                Attend::new(kv_heads, group, head_dim, lengths, last, 1.0)
            }));
        }
        if !tensor_core && lengths.len() * last * lengths[0] > 8 * 700 {
            continue;
        }
        for float in Float::HALVES {
            for (kernel, path) in [("whole", Path::Whole), ("chunk", Path::Chunks)] {
                if path == Path::Chunks && last > 1 {
                    continue;
                }
                rows.push(row(format!("flash/{kernel}_{}", float.name()), shape.clone(), move || {
                    let runs: Vec<Run> = lengths.iter().map(|&length| Run::last(length, last)).collect();
                    Flash::new(float, heads, &runs, 1.0).through(path)
                }));
            }
        }
        if lengths == [4096] {
            let shape = format!("{name} one token of 4096 through a window of 128, with sinks");
            rows.push(row("attention/f32", shape.clone(), move || {
                Attend::new(kv_heads, group, head_dim, lengths, last, 1.0).through(128).with_sinks(1.0)
            }));
            rows.push(row("flash/whole_f16", shape, move || {
                Flash::new(Float::F16, heads, &[Run::last(4096, 1)], 1.0).within(128).with_sinks(1.0)
            }));
        }
        if last == 1 {
            rows.push(row("merge", shape, move || {
                let positions: Vec<u32> = lengths.iter().map(|&length| length as u32 - 1).collect();
                Merge::new(kv_heads * group, head_dim, &positions, 1.0, 0)
            }));
        }
    }
    rows
}

/// What is neither a matrix product nor attention.
fn others(model: Model) -> Vec<Row> {
    let Model { name, kv_heads, group, head_dim, n, ffn, vocab } = model;
    let heads = rope::Heads { heads: kv_heads * group, kv_heads, head_dim, rotated: head_dim };
    let shape = |what: &str| format!("{name} {what}");
    let mut rows = Vec::new();
    for float in Float::ALL {
        let kernel = |family: &str| format!("{family}{}", float.name());
        rows.extend([
            row(kernel("norm/rms_"), shape("m=8"), move || Norm::new(float, 8, n)),
            row(kernel("norm/rms_"), shape("after an addition, m=8"), move || {
                Norm::new(float, 8, n).with_product(0)
            }),
            row(kernel("layer_norm/"), shape("after an addition, m=8"), move || {
                layer_norm::Norm::new(float, 8, n).with_product(0)
            }),
            row(kernel("swiglu/"), shape("m=8"), move || Gate::new(float, 8, ffn, 0)),
            row(kernel("gelu/"), shape("m=8"), move || Activation::new(float, 8, ffn, 0)),
            row(kernel("rope/interleaved_"), shape("m=8"), move || {
                Turn::new(Pairing::Interleaved, float, 8, heads, 0)
            }),
            row(kernel("rope/split_half_"), shape("m=8"), move || {
                Turn::new(Pairing::SplitHalf, float, 8, heads, 0)
            }),
            row(kernel("rope/normed_split_half_"), shape("m=8"), move || {
                Turn::new(Pairing::SplitHalf, float, 8, heads, 0).normed()
            }),
        ]);
    }
    for float in Float::HALVES {
        rows.push(row(format!("rows/{}", float.name()), shape("m=8"), move || Rounded::new(float, 8, n)));
    }
    rows.extend([
        row("embed/q4_1", shape("m=8"), move || Lookup::new(Stored::Q4_1, n, 4096, 8)),
        row("residual/add", shape("m=8"), move || Addition::new(8, n, 0)),
        row("logits/finish", shape("m=8"), move || Finished::new(8, vocab)),
        row("sample/token", shape("no limits, m=8"), move || {
            let choice = Choice { random: 0, temperature: 0.8, top_p: 1.0, min_p: 0.0, top_k: 0 };
            Draw::often(&cases::random::Random::new(1).floats(vocab), choice, 8)
        }),
        row("sample/token", shape("mixed limits, m=8"), move || Draw::random(vocab, 8, 1)),
        row("sample/adjust", shape("700 entries, m=8"), move || {
            Changed(sample::Way::Adjust, Change::new(vocab, &[700; 8]))
        }),
        row("logprobs/top", shape("top 5, m=8"), move || Likely::new(vocab, &[Some(5); 8])),
        row("logprobs/top", shape("top 20, m=8"), move || Likely::new(vocab, &[Some(20); 8])),
    ]);
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
