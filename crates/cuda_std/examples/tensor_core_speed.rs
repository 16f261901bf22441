//! How many products a second one core computes in the tensor core's arithmetic: `cargo run --release -p cuda_std
//! --example tensor_core_speed`. Each step loads A and B from scratch memory, as a kernel does.

use std::hint::black_box;
use std::time::Instant;

use cuda_std::{Baseline, Bf16, Block, F16, HostBlock, MmaInput, Scratch, Warp};

/// Steps in a round.
const STEPS: usize = 1 << 16;

/// Runs `STEPS` steps over one slice of scratch memory; `live` columns of B are not zero.
#[inline(always)]
fn steps<I: MmaInput>(block: &impl Block, live: usize) -> f32 {
    let (weights, inputs) = (block.scratch::<u16>(256 * 16), block.scratch::<u16>(128 * 16));
    let value = |i: usize| I::bits((i * 37 % 101) as f32 / 50.0 - 1.0);
    (0..256 * 16).for_each(|i| weights.set(0, i, value(i)));
    (0..128 * 16).for_each(|i| inputs.set(0, i, if i / 16 % 8 < live { value(i + 5) } else { 0 }));
    let mut total = 0.0;
    block.warps(|_, warp| {
        let mut c = warp.zero();
        for step in 0..STEPS {
            let at = step % 16;
            let a = warp.load_a(&weights, |row, octet| at * 256 + row * 16 + octet * 8);
            let b = warp.load_b(&inputs, |column, octet| at * 128 + column * 16 + octet * 8);
            warp.mma::<I>(&a, &b, &mut c);
        }
        warp.each_c(&c, |_, _, _, value| total += value);
    });
    total
}

fn baseline<I: MmaInput>(live: usize) -> f32 {
    steps::<I>(&HostBlock::<32, Baseline>::new(0, 0, &mut vec![0; 768]), live)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<I: MmaInput>(live: usize) -> f32 {
    steps::<I>(&HostBlock::<32, cuda_std::Avx2>::new(0, 0, &mut vec![0; 768]), live)
}

fn report(name: &str, live: usize, run: impl Fn(usize) -> f32) {
    run(live);
    let start = Instant::now();
    black_box(run(black_box(live)));
    let seconds = start.elapsed().as_secs_f64();
    let rate = (STEPS * 256 * live) as f64 / seconds / 1e6;
    println!(
        "{name:14} {live} live columns: {rate:6.0} M products/s, {:5.0} ns a step",
        seconds * 1e9 / STEPS as f64
    );
}

fn main() {
    for live in [1, 2, 8] {
        report("baseline, bf16", live, baseline::<Bf16>);
        report("baseline, f16", live, baseline::<F16>);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            // SAFETY: the features were just found.
            report("avx2, bf16", live, |live| unsafe { avx2::<Bf16>(live) });
            // SAFETY: as above.
            report("avx2, f16", live, |live| unsafe { avx2::<F16>(live) });
        }
    }
}
