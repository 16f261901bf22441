//! The host's teams: one thread walks the lanes. What differs between running and checking is the memory behind
//! scratch cells and barriers.

use core::cell::Cell;
use core::marker::PhantomData;
use core::ops::{Index, IndexMut};

use crate::math;
use crate::tensor_core::simd::{self, A, B, C};
use crate::{Block, F16, In, MmaInput, Scratch, Source, Team};

mod warp;
mod warp_group;

/// Scratch memory and its barriers, of one block, and what else differs between versions. A copyable reference.
pub trait Memory: Copy {
    /// Cells in this memory.
    type Scratch<V: Copy>: Scratch<V>;
    /// See [`Team::widen`].
    fn widen(value: F16) -> f32;
    /// See [`Warp::mma`](crate::Warp::mma).
    fn step<I: MmaInput>(a: &A, b: &B, c: &mut C);
    /// `len` cells from byte `offset` on.
    fn cells<V: Copy>(self, offset: usize, len: usize) -> Self::Scratch<V>;
    /// Lanes `first .. first + lanes` wait for each other.
    fn barrier(self, first: usize, lanes: usize);
    /// The warp from lane `first` closes a group of asynchronous copies.
    fn copies_commit(self, first: usize);
    /// The warp from lane `first` waits until at most `pending` groups are under way.
    fn copies_wait(self, first: usize, pending: usize);
}

/// One value a lane.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Lanes<V, const N: usize>([V; N]);

impl<V, const N: usize> Index<usize> for Lanes<V, N> {
    type Output = V;
    #[inline(always)]
    fn index(&self, lane: usize) -> &V {
        debug_assert!(lane < N);
        // SAFETY: lanes are numbered below N by every team.
        unsafe { self.0.get_unchecked(lane) }
    }
}

impl<V, const N: usize> IndexMut<usize> for Lanes<V, N> {
    #[inline(always)]
    fn index_mut(&mut self, lane: usize) -> &mut V {
        debug_assert!(lane < N);
        // SAFETY: as above.
        unsafe { self.0.get_unchecked_mut(lane) }
    }
}

/// Of two times 8 rows of weights, the sums of 16 tokens.
#[derive(Clone, Copy)]
pub struct Relayed([[C; 1]; 2]);

/// `N` lanes that one thread walks: a block, or a group of a block's lanes.
pub struct HostTeam<const N: usize, M> {
    /// Where the block stands in its grid.
    at: (usize, usize),
    /// The block's lane that is this team's lane 0.
    first: usize,
    memory: M,
    /// Bytes of scratch memory taken.
    used: Cell<usize>,
}

/// A thread block on the host. `S` names the instructions that its kernel is compiled for: with a type of its own, each
/// version is compiled by itself, down to the closures, which no attribute can force inline.
pub type HostBlock<'a, const LANES: usize, S> = HostTeam<LANES, Plain<'a, S>>;

/// The [`HostBlock`] of kernels compiled for the architecture's baseline.
#[derive(Clone, Copy)]
pub struct Baseline;

/// The [`HostBlock`] of kernels compiled for AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub struct Avx2;

/// What a version of the kernels takes from its instructions by hand.
pub trait Instructions: Copy {
    /// See [`Team::widen`].
    #[inline(always)]
    fn widen(value: F16) -> f32 {
        value.to_f32()
    }

    /// See [`Warp::mma`](crate::Warp::mma). Called, not inlined: kernels are compiled sooner.
    #[inline(never)]
    fn step<I: MmaInput>(a: &A, b: &B, c: &mut C) {
        simd::step::<I>(a, b, c);
    }
}

impl Instructions for Baseline {}

impl Instructions for Avx2 {
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn widen(value: F16) -> f32 {
        use core::arch::x86_64::{_mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtss_f32};
        // SAFETY: these kernels run where F16C was found.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(value.0 as i32))) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn step<I: MmaInput>(a: &A, b: &B, c: &mut C) {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn compiled<I: MmaInput>(a: &A, b: &B, c: &mut C) {
            simd::step::<I>(a, b, c);
        }
        // SAFETY: these kernels run where these instructions were found.
        unsafe { compiled::<I>(a, b, c) }
    }
}

impl<'a, const N: usize, S: Instructions> HostBlock<'a, N, S> {
    /// The block at `(x, y)` of its grid; `scratch` is as large as the kernel's geometry asks.
    #[inline(always)]
    pub fn new(x: usize, y: usize, scratch: &'a mut [u128]) -> Self {
        Self::over(x, y, Plain::new(scratch))
    }
}

impl<const N: usize, M: Memory> HostTeam<N, M> {
    /// The block at `(x, y)` of its grid.
    #[inline(always)]
    pub(crate) fn over(x: usize, y: usize, memory: M) -> Self {
        Self { at: (x, y), first: 0, memory, used: Cell::new(0) }
    }
}

/// Joins lanes in the order of [`Team::sum`].
#[inline(always)]
fn join<V: Copy, const N: usize>(values: &Lanes<V, N>, f: impl Fn(V, V) -> V) -> V {
    let mut tree = values.0;
    let mut step = if N < 32 { N / 2 } else { 16 };
    while step > 0 {
        for warp in (0..N).step_by(32) {
            for lane in warp..warp + step {
                tree[lane] = f(tree[lane], tree[lane + step]);
            }
        }
        step /= 2;
    }
    let mut total = tree[0];
    for warp in (32..N).step_by(32) {
        total = f(total, tree[warp]);
    }
    total
}

impl<const N: usize, M: Memory> Team for HostTeam<N, M> {
    const LANES: usize = N;
    type PerLane<V: Copy> = Lanes<V, N>;

    #[inline(always)]
    fn widen(value: F16) -> f32 {
        M::widen(value)
    }

    #[inline(always)]
    fn per_lane<V: Copy>(&self, value: V) -> Lanes<V, N> {
        Lanes([value; N])
    }

    #[inline(always)]
    fn lanes(&self, mut f: impl FnMut(usize)) {
        for lane in 0..N {
            f(lane);
        }
    }

    #[inline(always)]
    fn each(&self, n: usize, mut f: impl FnMut(usize, usize)) {
        let mut base = 0;
        while base < n {
            for lane in 0..N.min(n - base) {
                f(lane, base + lane);
            }
            base += N;
        }
    }

    #[inline(always)]
    fn each_read<const AHEAD: usize, V: Copy>(
        &self,
        n: usize,
        read: impl Fn(usize) -> V,
        mut f: impl FnMut(usize, usize, V),
    ) {
        let mut base = 0;
        while base < n {
            for lane in 0..N.min(n - base) {
                f(lane, base + lane, read(base + lane));
            }
            base += N;
        }
    }

    #[inline(always)]
    fn each_value<const AHEAD: usize, S: Source>(
        &self,
        n: usize,
        source: &S,
        mut f: impl FnMut(usize, usize, S::Value),
    ) {
        self.each_read::<1, _>(
            n,
            |i| source.read(i),
            |lane, i, read| {
                let [value] = source.values([read]);
                f(lane, i, value);
            },
        );
    }

    #[inline(always)]
    fn barrier(&self) {
        self.memory.barrier(self.first, N);
    }

    #[inline(always)]
    fn sum(&self, values: &Lanes<f32, N>) -> f32 {
        join(values, |a, b| a + b)
    }

    #[inline(always)]
    fn sum_u64(&self, values: &Lanes<u64, N>) -> u64 {
        join(values, u64::wrapping_add)
    }

    #[inline(always)]
    fn max(&self, values: &Lanes<f32, N>) -> f32 {
        math::max(join(values, math::max), f32::NEG_INFINITY)
    }

    #[inline(always)]
    fn max_u64(&self, values: &Lanes<u64, N>) -> u64 {
        join(values, u64::max)
    }

    #[inline(always)]
    fn scan_u64(&self, values: &Lanes<u64, N>) -> Lanes<u64, N> {
        let mut before = 0u64;
        Lanes(values.0.map(|value| {
            let here = before;
            before = before.wrapping_add(value);
            here
        }))
    }
}

impl<const N: usize, M: Memory> Block for HostTeam<N, M> {
    type Group<const G: usize> = HostTeam<G, M>;
    type Warp = HostTeam<32, M>;
    type PerWarp<V: Copy, const W: usize> = [V; W];
    type Scratch<V: Copy> = M::Scratch<V>;

    #[inline(always)]
    fn x(&self) -> usize {
        self.at.0
    }

    #[inline(always)]
    fn y(&self) -> usize {
        self.at.1
    }

    // A host's kernels run one after the other.
    #[inline(always)]
    fn launch_successor(&self) {}

    #[inline(always)]
    fn await_predecessors(&self) {}

    #[inline(always)]
    fn scratch<V: Copy>(&self, len: usize) -> M::Scratch<V> {
        let offset = self.used.get();
        self.used.set(offset + (len * size_of::<V>()).next_multiple_of(16));
        self.memory.cells(offset, len)
    }

    #[inline(always)]
    fn align(&self) {}

    #[inline(always)]
    fn groups<const G: usize>(&self, mut f: impl FnMut(usize, &HostTeam<G, M>)) {
        const { assert!(G.is_power_of_two() && G <= 32 && N.is_multiple_of(G)) };
        for group in 0..N / G {
            let team = HostTeam { at: self.at, first: group * G, memory: self.memory, used: Cell::new(0) };
            f(group, &team);
        }
    }

    #[inline(always)]
    fn per_warp<V: Copy, const W: usize>(&self, mut f: impl FnMut(usize, &HostTeam<32, M>) -> V) -> [V; W] {
        const { assert!(N == W * 32) };
        core::array::from_fn(|index| {
            let team = HostTeam { at: self.at, first: index * 32, memory: self.memory, used: Cell::new(0) };
            f(index, &team)
        })
    }

    #[inline(always)]
    fn warps(&self, f: impl FnMut(usize, &HostTeam<32, M>)) {
        self.groups::<32>(f);
    }

    #[inline(always)]
    fn split<const W: usize, const PARTS: usize, V: Copy>(
        &self,
        turns: u32,
        mut begin: impl FnMut(usize, &HostTeam<32, M>) -> V,
        mut first: impl FnMut(&mut V, usize, &HostTeam<32, M>, u32, usize),
        mut end: impl FnMut(&mut V, usize, &HostTeam<32, M>),
        mut second: impl FnMut(usize, &HostTeam<32, M>, u32, usize),
    ) {
        let mut states = Vec::with_capacity(W);
        self.warps(|index, warp| {
            if index < W {
                states.push(begin(index, warp));
            }
        });
        for turn in 0..turns {
            for part in 0..PARTS {
                self.warps(|index, warp| match states.get_mut(index) {
                    Some(state) => first(state, index, warp, turn, part),
                    None => second(index, warp, turn, part),
                });
                self.barrier();
            }
        }
        self.warps(|index, warp| {
            if let Some(state) = states.get_mut(index) {
                end(state, index, warp);
            }
        });
    }

    #[inline(always)]
    fn relay<const W: usize>(
        &self,
        turns: usize,
        mut turn: impl FnMut(usize, &HostTeam<32, M>, usize, &mut Relayed),
        end: impl FnOnce(&HostTeam<32, M>, &Relayed),
    ) {
        const { assert!(N == W * 32 && W < 16) };
        let warp = |index: usize| HostTeam {
            at: self.at,
            first: index * 32,
            memory: self.memory,
            used: Cell::new(0),
        };
        let mut sums = Relayed([[C([[0.0; 16]; 8])]; 2]);
        for t in 0..turns {
            turn(t % W, &warp(t % W), t, &mut sums);
        }
        end(&warp((turns - 1) % W), &sums);
    }
}

/// In place of a lane, with the warp's first lane: the warp as a whole reads.
pub(crate) const WHOLE_WARP: usize = 1 << (usize::BITS - 1);

/// Scratch memory without checks.
#[derive(Clone, Copy)]
pub struct Plain<'a, S> {
    base: *mut u8,
    bytes: usize,
    memory: PhantomData<(&'a mut [u128], S)>,
}

impl<'a, S> Plain<'a, S> {
    #[inline(always)]
    fn new(scratch: &'a mut [u128]) -> Self {
        Self { base: scratch.as_mut_ptr().cast(), bytes: size_of_val(scratch), memory: PhantomData }
    }
}

impl<'a, S: Instructions> Memory for Plain<'a, S> {
    type Scratch<V: Copy> = PlainCells<'a, V>;

    #[inline(always)]
    fn widen(value: F16) -> f32 {
        S::widen(value)
    }

    #[inline(always)]
    fn step<I: MmaInput>(a: &A, b: &B, c: &mut C) {
        S::step::<I>(a, b, c);
    }

    #[inline(always)]
    fn cells<V: Copy>(self, offset: usize, len: usize) -> PlainCells<'a, V> {
        assert!(offset + len * size_of::<V>() <= self.bytes, "scratch of {} bytes is too small", self.bytes);
        // SAFETY: inside the scratch memory, as just checked; aligned, since offsets are multiples of 16.
        PlainCells { base: unsafe { self.base.add(offset) }.cast(), len, memory: PhantomData }
    }

    #[inline(always)]
    fn barrier(self, _: usize, _: usize) {}
    #[inline(always)]
    fn copies_commit(self, _: usize) {}
    #[inline(always)]
    fn copies_wait(self, _: usize, _: usize) {}
}

/// Cells of [`Plain`] memory. Their bits are whatever was there before, so only types without invalid bits belong in.
pub struct PlainCells<'a, V> {
    base: *mut V,
    len: usize,
    memory: PhantomData<&'a mut [u128]>,
}

impl<V> Clone for PlainCells<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<V> Copy for PlainCells<'_, V> {}

impl<V: Copy> Scratch<V> for PlainCells<'_, V> {
    #[inline(always)]
    fn get(&self, _: usize, i: usize) -> V {
        debug_assert!(i < self.len, "scratch read at {i} of {}", self.len);
        // SAFETY: below `len`, which the kernel's own geometry sizes; debug builds check.
        unsafe { self.base.add(i).read() }
    }

    #[inline(always)]
    fn get_as<W: Copy>(&self, _: usize, i: usize) -> W {
        debug_assert!(i + size_of::<W>() <= self.len * size_of::<V>(), "scratch read at {i} of {}", self.len);
        // SAFETY: as above, and the kernel keeps to the value's alignment; the checking team sees to that.
        unsafe { self.base.add(i).cast::<W>().read() }
    }

    #[inline(always)]
    fn set(&self, _: usize, i: usize, value: V) {
        debug_assert!(i < self.len, "scratch write at {i} of {}", self.len);
        // SAFETY: as above.
        unsafe { self.base.add(i).write(value) }
    }

    #[inline(always)]
    fn set_as<W: Copy>(&self, _: usize, i: usize, value: W) {
        let cells = size_of::<W>() / size_of::<V>();
        debug_assert!(i + cells <= self.len, "scratch write at {i} of {}", self.len);
        // SAFETY: as above, and the kernel keeps to the value's alignment; the checking team sees to that.
        unsafe { self.base.add(i).cast::<W>().write(value) }
    }

    #[inline(always)]
    fn copy_async(&self, _: usize, to: usize, source: &In<V>, from: usize, valid: bool) {
        let n = 16 / size_of::<V>();
        debug_assert!(to + n <= self.len, "copy to {to} of {}", self.len);
        // SAFETY: as above; the source is checked by its view in the same way.
        unsafe {
            if valid {
                self.base.add(to).copy_from_nonoverlapping(source.address(from, n), n);
            } else {
                self.base.add(to).write_bytes(0, n);
            }
        }
    }
}
