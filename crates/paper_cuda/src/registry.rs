//! The kernels' host versions by the names of their entries, their argument types erased.

use cuda_std::{Geometry, Kernel};
use kernels::format::Stored;
use kernels::{
    attention, broad, compare, dequantise, draw, embed, expert_matmul, expert_matvec, expert_sum,
    expert_swiglu, flash, gelu, layer_norm, logits, logprobs, matmul, matvec, merge, norm, prompt,
    prompt_group, qmatmul, relay, residual, rope, router, rows, sample, swiglu, warpgroup,
};

use crate::cpu::Cpu;

/// A kernel that runs here, whatever its arguments are.
pub(crate) trait HostKernel: Sync {
    /// The entry's name.
    fn name(&self) -> &'static str;
    /// Bytes of its arguments.
    fn argument_bytes(&self) -> usize;
    /// Threads of a block.
    fn lanes(&self) -> usize;
    /// How it has to be launched.
    ///
    /// # Safety
    /// `args` points to arguments of this kernel.
    unsafe fn geometry(&self, args: *const u128) -> Geometry;
    /// Runs all blocks.
    ///
    /// # Safety
    /// As for [`geometry`](Self::geometry), and the arguments' views are of memory that is there.
    unsafe fn run(&self, cpu: &Cpu, args: *const u128);
}

impl<A: Copy + Sync> HostKernel for Kernel<A> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn argument_bytes(&self) -> usize {
        const { assert!(align_of::<A>() <= align_of::<u128>()) };
        size_of::<A>()
    }

    fn lanes(&self) -> usize {
        self.lanes
    }

    unsafe fn geometry(&self, args: *const u128) -> Geometry {
        // SAFETY: the caller's promise, and aligned, as asserted above.
        (self.geometry)(unsafe { &*args.cast::<A>() })
    }

    unsafe fn run(&self, cpu: &Cpu, args: *const u128) {
        // SAFETY: the caller's promise.
        unsafe { cpu.launch(self, &*args.cast::<A>()) }
    }
}

/// The kernel whose entry has this name.
pub(crate) fn find(name: &str) -> Option<&'static dyn HostKernel> {
    kernels().find(|kernel| kernel.name() == name)
}

/// Every kernel; the crate's test compares them with the entries of the PTX.
fn kernels() -> impl Iterator<Item = &'static dyn HostKernel> {
    KERNELS.iter().copied().chain(Stored::ALL.iter().copied().flat_map(of_weights))
}

/// The kernels for weights stored so.
fn of_weights(stored: Stored) -> impl Iterator<Item = &'static dyn HostKernel> {
    let all: [Option<&'static dyn HostKernel>; 26] = [
        Some(embed::of(stored)),
        Some(draw::of(stored)),
        Some(matvec::of(stored, 1)),
        Some(matvec::of(stored, 8)),
        qmatmul::of(stored, 1, 8, usize::MAX).map(|chosen| chosen.kernel as _),
        qmatmul::of(stored, 8192, 8, usize::MAX).map(|chosen| chosen.kernel as _),
        qmatmul::of(stored, 28_672, 8, usize::MAX).map(|chosen| chosen.kernel as _),
        qmatmul::of(stored, 1, 32, usize::MAX).map(|chosen| chosen.kernel as _),
        qmatmul::of(stored, usize::MAX, 32, usize::MAX).map(|chosen| chosen.kernel as _),
        qmatmul::of(stored, 1, 64, usize::MAX).map(|chosen| chosen.kernel as _),
        qmatmul::of(stored, usize::MAX, 64, usize::MAX).map(|chosen| chosen.kernel as _),
        relay::of(stored, 1, 1, usize::MAX).map(|kernel| kernel as _),
        warpgroup::of(stored, 1, 32).map(|chosen| chosen.kernel as _),
        warpgroup::of(stored, 1, 64).map(|chosen| chosen.kernel as _),
        warpgroup::of(stored, usize::MAX, 32).map(|chosen| chosen.kernel as _),
        warpgroup::of(stored, 1, 128).map(|chosen| chosen.kernel as _),
        warpgroup::of(stored, usize::MAX, 64).map(|chosen| chosen.kernel as _),
        warpgroup::of(stored, usize::MAX, 128).map(|chosen| chosen.kernel as _),
        broad::of(stored, 28_672, 128).map(|chosen| chosen.kernel as _),
        broad::of(stored, 10_240, 128).map(|chosen| chosen.kernel as _),
        dequantise::of(stored).map(|kernel| kernel as _),
        expert_matvec::of(stored, 1).map(|kernel| kernel as _),
        expert_matvec::of(stored, 8).map(|kernel| kernel as _),
        expert_matmul::of(stored, 8).map(|kernel| kernel as _),
        expert_matmul::of(stored, 32).map(|kernel| kernel as _),
        expert_matmul::of(stored, 64).map(|kernel| kernel as _),
    ];
    all.into_iter().flatten()
}

/// Those of no stored type.
static KERNELS: &[&dyn HostKernel] = &[
    &attention::F32,
    &compare::COUNT,
    &compare::DRAW,
    &expert_sum::SUM,
    &expert_swiglu::BF16,
    &expert_swiglu::F16_,
    &expert_swiglu::F32,
    &flash::CHUNK_BF16,
    &flash::CHUNK_BF16_64,
    &flash::CHUNK_BF16_128,
    &flash::CHUNK_F16,
    &flash::CHUNK_F16_64,
    &flash::CHUNK_F16_128,
    &merge::MERGE,
    &flash::WHOLE_BF16,
    &flash::WHOLE_BF16_64,
    &flash::WHOLE_BF16_128,
    &flash::WHOLE_F16,
    &flash::WHOLE_F16_64,
    &flash::WHOLE_F16_128,
    &gelu::BF16,
    &gelu::F16_,
    &gelu::F32,
    &layer_norm::BF16,
    &layer_norm::F16_,
    &layer_norm::F32,
    &logits::FINISH,
    &logprobs::LOGPROBS,
    &matmul::BF16,
    &matmul::F16_,
    &norm::BF16,
    &norm::F16_,
    &norm::F32,
    &prompt::F16_,
    &prompt::BF16,
    &prompt_group::BF16_128,
    &prompt_group::BF16_64,
    &prompt_group::F16_128,
    &prompt_group::F16_64,
    &residual::ADD,
    &rope::INTERLEAVED_BF16,
    &rope::INTERLEAVED_F16,
    &rope::INTERLEAVED_F32,
    &rope::NORMED_SPLIT_HALF_BF16,
    &rope::NORMED_SPLIT_HALF_F16,
    &rope::NORMED_SPLIT_HALF_F32,
    &rope::SPLIT_HALF_BF16,
    &rope::SPLIT_HALF_F16,
    &rope::SPLIT_HALF_F32,
    &router::CHOOSE,
    &router::GROUP,
    &rows::BF16,
    &rows::F16_,
    &sample::ADJUST,
    &sample::RESTORE,
    &sample::TOKEN,
    &swiglu::BF16,
    &swiglu::F16_,
    &swiglu::F32,
];
