//! Neighbouring threads of a warp as a team.

use super::intrinsics::warp_barrier;
use super::{Register, each_batch, each_there, exchange_f32, exchange_u64, scan_warp, thread, tree};
use crate::{F16, Source, Team, math};

/// `N` neighbouring threads of a warp.
pub struct DeviceGroup<const N: usize>(pub(super) ());

impl<const N: usize> DeviceGroup<N> {
    /// The group's lanes as bits of its warp.
    #[inline(always)]
    fn mask(&self) -> u32 {
        if N == 32 { u32::MAX } else { ((1u32 << (N % 32)) - 1) << (thread() % 32 / N * N) }
    }
}

impl<const N: usize> Team for DeviceGroup<N> {
    const LANES: usize = N;
    type PerLane<V: Copy> = Register<V>;

    #[inline(always)]
    fn widen(value: F16) -> f32 {
        value.to_f32()
    }

    #[inline(always)]
    fn per_lane<V: Copy>(&self, value: V) -> Register<V> {
        Register(value)
    }

    #[inline(always)]
    fn lanes(&self, mut f: impl FnMut(usize)) {
        f(thread() % N);
    }

    #[inline(always)]
    fn each(&self, n: usize, mut f: impl FnMut(usize, usize)) {
        let lane = thread() % N;
        let mut i = lane;
        while i < n {
            f(lane, i);
            i += N;
        }
    }

    #[inline(always)]
    fn each_read<const M: usize, V: Copy>(
        &self,
        n: usize,
        read: impl Fn(usize) -> V,
        mut f: impl FnMut(usize, usize, V),
    ) {
        let lane = thread() % N;
        each_batch::<N, M, V>(lane, n, read, |first, left, values| {
            each_there::<N, M, V>((first, left), values, |i, value| f(lane, i, value));
        });
    }

    #[inline(always)]
    fn each_value<const M: usize, S: Source>(
        &self,
        n: usize,
        source: &S,
        mut f: impl FnMut(usize, usize, S::Value),
    ) {
        let lane = thread() % N;
        each_batch::<N, M, S::Read>(
            lane,
            n,
            |i| source.read(i),
            |first, left, read| {
                each_there::<N, M, S::Value>((first, left), source.values(read), |i, value| {
                    f(lane, i, value)
                });
            },
        );
    }

    #[inline(always)]
    fn barrier(&self) {
        // SAFETY: all threads of the group run this: barriers stand outside of lane closures.
        unsafe { warp_barrier(self.mask()) }
    }

    #[inline(always)]
    fn sum(&self, values: &Register<f32>) -> f32 {
        tree::<f32, N>(self.mask(), values.0, exchange_f32, |a, b| a + b)
    }

    #[inline(always)]
    fn sum_u64(&self, values: &Register<u64>) -> u64 {
        tree::<u64, N>(self.mask(), values.0, exchange_u64, u64::wrapping_add)
    }

    #[inline(always)]
    fn max(&self, values: &Register<f32>) -> f32 {
        math::max(tree::<f32, N>(self.mask(), values.0, exchange_f32, math::max), f32::NEG_INFINITY)
    }

    #[inline(always)]
    fn max_u64(&self, values: &Register<u64>) -> u64 {
        tree::<u64, N>(self.mask(), values.0, exchange_u64, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn scan_u64(&self, values: &Register<u64>) -> Register<u64> {
        const { assert!(N == 32, "only warps scan") };
        Register(scan_warp(values.0, thread() % 32))
    }
}
