//! A block's threads as a team.

use core::cell::Cell;

use super::intrinsics::{
    await_predecessors, block_barrier, block_x, block_y, launch_successor, shared_memory, thread_x,
};
use super::{
    DeviceGroup, Register, Relayed, Shared, each_batch, each_there, exchange_f32, exchange_u64, scan_warp,
    thread, tree,
};
use crate::{Block, F16, Source, Team, math, unrolled};

/// A thread block of `LANES` threads.
pub struct DeviceBlock<const LANES: usize> {
    /// Bytes of scratch memory taken.
    used: Cell<usize>,
}

/// At the start of shared memory: a value a warp, for the collectives of a block.
const COLLECTIVES: usize = 256;

impl<const LANES: usize> DeviceBlock<LANES> {
    /// The block this thread is in, at the beginning of a kernel. Unless it streams weights, and does so itself,
    /// its [successor](Block::launch_successor) may come and its [predecessors](Block::await_predecessors) have ended.
    ///
    /// The kernel is launched with `LANES` threads a block and 256 bytes of shared memory more than it asks for.
    #[inline(always)]
    pub fn begin(streams_weights: bool) -> Self {
        let block = Self { used: Cell::new(COLLECTIVES) };
        if !streams_weights {
            block.launch_successor();
            block.await_predecessors();
        }
        block
    }

    /// Combines the lanes: within each warp by a tree, then the warps in order.
    #[inline(always)]
    fn join<V: Copy>(
        &self,
        value: V,
        exchange: impl Fn(V, u32, u32) -> V,
        f: impl Fn(V, V) -> V + Copy,
    ) -> V {
        let value = tree::<V, 32>(u32::MAX, value, exchange, f);
        if LANES <= 32 {
            return value;
        }
        // SAFETY: the first bytes of shared memory are for this; the barriers stand between writes and reads.
        unsafe {
            let partial = shared_memory().cast::<V>();
            let lane = thread_x() as usize;
            if lane % 32 == 0 {
                partial.add(lane / 32).write(value);
            }
            block_barrier();
            let mut total = partial.read();
            for warp in 1..LANES / 32 {
                total = f(total, partial.add(warp).read());
            }
            block_barrier();
            total
        }
    }
}

impl<const LANES: usize> Team for DeviceBlock<LANES> {
    const LANES: usize = LANES;
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
        f(thread());
    }

    #[inline(always)]
    fn each(&self, n: usize, mut f: impl FnMut(usize, usize)) {
        let lane = thread();
        let mut i = lane;
        while i < n {
            f(lane, i);
            i += LANES;
        }
    }

    #[inline(always)]
    fn each_read<const M: usize, V: Copy>(
        &self,
        n: usize,
        read: impl Fn(usize) -> V,
        mut f: impl FnMut(usize, usize, V),
    ) {
        let lane = thread();
        each_batch::<LANES, M, V>(lane, n, read, |first, left, values| {
            each_there::<LANES, M, V>((first, left), values, |i, value| f(lane, i, value));
        });
    }

    #[inline(always)]
    fn each_value<const M: usize, S: Source>(
        &self,
        n: usize,
        source: &S,
        mut f: impl FnMut(usize, usize, S::Value),
    ) {
        let lane = thread();
        each_batch::<LANES, M, S::Read>(
            lane,
            n,
            |i| source.read(i),
            |first, left, read| {
                each_there::<LANES, M, S::Value>((first, left), source.values(read), |i, value| {
                    f(lane, i, value)
                });
            },
        );
    }

    #[inline(always)]
    fn barrier(&self) {
        // SAFETY: all threads of the block run this: barriers stand outside of lane closures.
        unsafe { block_barrier() }
    }

    #[inline(always)]
    fn sum(&self, values: &Register<f32>) -> f32 {
        self.join(values.0, exchange_f32, |a, b| a + b)
    }

    #[inline(always)]
    fn sum_u64(&self, values: &Register<u64>) -> u64 {
        self.join(values.0, exchange_u64, u64::wrapping_add)
    }

    #[inline(always)]
    fn max(&self, values: &Register<f32>) -> f32 {
        math::max(self.join(values.0, exchange_f32, math::max), f32::NEG_INFINITY)
    }

    #[inline(always)]
    fn max_u64(&self, values: &Register<u64>) -> u64 {
        self.join(values.0, exchange_u64, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn scan_u64(&self, values: &Register<u64>) -> Register<u64> {
        let lane = thread();
        let within = scan_warp(values.0, lane % 32);
        if LANES <= 32 {
            return Register(within);
        }
        // SAFETY: as in `join`.
        unsafe {
            let partial = shared_memory().cast::<u64>();
            if lane % 32 == 31 {
                partial.add(lane / 32).write(within.wrapping_add(values.0));
            }
            block_barrier();
            let mut before = within;
            for warp in 0..LANES / 32 {
                if warp < lane / 32 {
                    before = before.wrapping_add(partial.add(warp).read());
                }
            }
            block_barrier();
            Register(before)
        }
    }
}

impl<const LANES: usize> Block for DeviceBlock<LANES> {
    type Group<const N: usize> = DeviceGroup<N>;
    type Warp = DeviceGroup<32>;
    type PerWarp<V: Copy, const W: usize> = Register<V>;
    type Scratch<V: Copy> = Shared<V>;

    #[inline(always)]
    fn x(&self) -> usize {
        // SAFETY: reads a register.
        unsafe { block_x() as usize }
    }

    #[inline(always)]
    fn y(&self) -> usize {
        // SAFETY: reads a register.
        unsafe { block_y() as usize }
    }

    #[inline(always)]
    fn launch_successor(&self) {
        // SAFETY: no requirement.
        unsafe { launch_successor() }
    }

    #[inline(always)]
    fn await_predecessors(&self) {
        // SAFETY: no requirement.
        unsafe { await_predecessors() }
    }

    #[inline(always)]
    fn scratch<V: Copy>(&self, len: usize) -> Shared<V> {
        let offset = self.used.get();
        self.used.set(offset + (len * size_of::<V>()).next_multiple_of(16));
        // SAFETY: within what the kernel's geometry asked for; aligned, since offsets are multiples of 16.
        Shared::new(unsafe { shared_memory().add(offset) }.cast())
    }

    #[inline(always)]
    fn align(&self) {
        self.used.set(self.used.get().next_multiple_of(1024));
    }

    #[inline(always)]
    fn groups<const N: usize>(&self, mut f: impl FnMut(usize, &DeviceGroup<N>)) {
        const { assert!(N.is_power_of_two() && N <= 32 && LANES % N == 0) };
        f(thread() / N, &DeviceGroup(()));
    }

    #[inline(always)]
    fn per_warp<V: Copy, const W: usize>(
        &self,
        mut f: impl FnMut(usize, &DeviceGroup<32>) -> V,
    ) -> Register<V> {
        const { assert!(LANES == W * 32) };
        Register(f(thread() / 32, &DeviceGroup(())))
    }

    #[inline(always)]
    fn warps(&self, f: impl FnMut(usize, &DeviceGroup<32>)) {
        self.groups::<32>(f);
    }

    #[inline(always)]
    fn split<const W: usize, const PARTS: usize, V: Copy>(
        &self,
        turns: u32,
        mut begin: impl FnMut(usize, &DeviceGroup<32>) -> V,
        mut first: impl FnMut(&mut V, usize, &DeviceGroup<32>, u32, usize),
        mut end: impl FnMut(&mut V, usize, &DeviceGroup<32>),
        mut second: impl FnMut(usize, &DeviceGroup<32>, u32, usize),
    ) {
        let (index, warp) = (thread() / 32, DeviceGroup(()));
        macro_rules! run {
            (|$turn:ident, $part:ident| $f:expr) => {{
                let mut $turn = 0;
                loop {
                    unrolled::<PARTS>(
                        #[inline(always)]
                        |$part| {
                            $f;
                            self.barrier();
                        },
                    );
                    $turn += 1;
                    if $turn >= turns {
                        break;
                    }
                }
            }};
        }
        if index < W {
            let mut state = begin(index, &warp);
            run!(|turn, part| first(&mut state, index, &warp, turn, part));
            end(&mut state, index, &warp);
        } else {
            run!(|turn, part| second(index, &warp, turn, part));
        }
    }

    #[inline(always)]
    fn relay<const W: usize>(
        &self,
        turns: usize,
        mut turn: impl FnMut(usize, &DeviceGroup<32>, usize, &mut Relayed),
        end: impl FnOnce(&DeviceGroup<32>, &Relayed),
    ) {
        const { assert!(LANES == W * 32 && W < 16) };
        let (thread, warp) = (thread(), thread() / 32);
        let mut sums = Relayed::new::<W>(self.scratch(LANES), thread);
        if warp == W - 1 {
            sums.hand_on();
        }
        // A GPU counts in 32 bits at half the price.
        let (mut t, turns) = (warp as u32, turns as u32);
        while t < turns {
            sums.is_last = t + 1 == turns;
            turn(warp, &DeviceGroup(()), t as usize, &mut sums);
            t += W as u32;
        }
        if sums.is_last {
            end(&DeviceGroup(()), &sums);
        }
    }
}
