//! Teams: lanes that cooperate, and what they can do together.
//!
//! A kernel alternates between *phases*, closures that every lane runs by itself, and *collectives*, in which the
//! lanes combine their values. Between a phase that writes scratch memory and one in which other lanes read it
//! stands a [`Team::barrier`].

use core::ops::IndexMut;

use crate::{F16, Warp, WarpGroup};

/// Lanes that walk together.
pub trait Team {
    /// How many lanes; a power of two.
    const LANES: usize;

    /// A value that each lane keeps from one phase to the next: a register on the GPU, an array on the host.
    /// Indexed by the lane that runs, never by another.
    type PerLane<V: Copy>: Copy + IndexMut<usize, Output = V>;

    /// An f16 that all lanes share as f32; exact. Takes the processor's own conversion, which a lane's values must not: it
    /// would keep them from becoming SIMD, so that they use [`F16::to_f32`].
    fn widen(value: F16) -> f32;

    /// One value a lane, all equal at first.
    fn per_lane<V: Copy>(&self, value: V) -> Self::PerLane<V>;

    /// A phase: every lane runs `f(lane)`.
    fn lanes(&self, f: impl FnMut(usize));

    /// A phase over `0..n`: lane `l` runs `f(l, i)` for `i = l, l + LANES, l + 2 LANES, ...`, in that order.
    fn each(&self, n: usize, f: impl FnMut(usize, usize));

    /// [`each`](Self::each) with values that are read first: lane `l` runs `f(l, i, read(i))`. Where `f` writes to memory, a lane
    /// of the device waits once for `N` values, up to 16, and not for each; `read` may be asked for a value in vain.
    fn each_read<const N: usize, V: Copy>(
        &self,
        n: usize,
        read: impl Fn(usize) -> V,
        f: impl FnMut(usize, usize, V),
    );

    /// [`each_read`](Self::each_read) of a [`Source`]: lane `l` runs `f(l, i, value)` with value `i`.
    fn each_value<const N: usize, S: Source>(
        &self,
        n: usize,
        source: &S,
        f: impl FnMut(usize, usize, S::Value),
    );

    /// Lanes wait for each other; what they wrote to scratch memory before can be read by all after.
    fn barrier(&self);

    /// Sum over the lanes, the same bits in all of them. The order, on every team: within each 32 lanes a
    /// halving tree (lane `l` takes lane `l + 16`, then `l + 8`, ... `l + 1`), then the 32s from the first to the last.
    fn sum(&self, values: &Self::PerLane<f32>) -> f32;

    /// Exact sum over the lanes, wrapping.
    fn sum_u64(&self, values: &Self::PerLane<u64>) -> u64;

    /// Greatest value over the lanes; NaN never wins, and without any number the answer is negative infinity.
    fn max(&self, values: &Self::PerLane<f32>) -> f32;

    /// Greatest value over the lanes.
    fn max_u64(&self, values: &Self::PerLane<u64>) -> u64;

    /// Exclusive prefix sum: lane `l` gets the exact sum of the lanes before it, wrapping.
    fn scan_u64(&self, values: &Self::PerLane<u64>) -> Self::PerLane<u64>;
}

/// Where values come from, several at a time: what they share is then decided once.
pub trait Source {
    /// What is read for a value.
    type Read: Copy;
    /// A value.
    type Value: Copy;

    /// Reads what value `i` is made of; may be asked in vain.
    fn read(&self, i: usize) -> Self::Read;
    /// The values made of what was read.
    fn values<const N: usize>(&self, read: [Self::Read; N]) -> [Self::Value; N];
}

/// The lanes of a thread block.
pub trait Block: Team {
    /// Lanes of a block that form a smaller team: `N` of them, a power of two up to 32.
    type Group<const N: usize>: Team;
    /// A group of 32 lanes, which can use the tensor core.
    type Warp: WarpGroup;
    /// A value that each of `W` warps keeps from one phase to the next. Indexed by the warp that runs, never by another.
    type PerWarp<V: Copy, const W: usize>: Copy + IndexMut<usize, Output = V>;
    /// Memory that the lanes of a block share.
    type Scratch<V: Copy>: Scratch<V>;

    /// Where the block stands in its grid.
    fn x(&self) -> usize;
    /// Where the block stands in its grid.
    fn y(&self) -> usize;

    /// Once all blocks of this kernel have come here or ended, blocks of the next one come to where there is room, and wait there.
    /// A kernel is here when its body begins, unless it is made with `streams: weights`: too early for one with many blocks, since
    /// the next one's would crowd where the first of these end.
    fn launch_successor(&self);

    /// Waits until all kernels launched before this one have ended: what they write may not be read earlier, and what they read
    /// not be written. A kernel has waited when its body begins, unless it is made with `streams: weights`: one that first reads
    /// what no kernel writes, weights.
    fn await_predecessors(&self);

    /// Takes `len` values of scratch memory, uninitialised, out of what the kernel's geometry asked for.
    fn scratch<V: Copy>(&self, len: usize) -> Self::Scratch<V>;

    /// Lets what is taken next begin at a multiple of 1024 bytes of the device's shared memory, for which the geometry asked for as many
    /// more.
    fn align(&self);

    /// Splits the block into groups of `N` neighbouring lanes; each runs `f(index, group)`.
    fn groups<const N: usize>(&self, f: impl FnMut(usize, &Self::Group<N>));

    /// One value a warp, `f(index, warp)`; the block has `W` warps.
    fn per_warp<V: Copy, const W: usize>(
        &self,
        f: impl FnMut(usize, &Self::Warp) -> V,
    ) -> Self::PerWarp<V, W>;

    /// Splits the block into warps; each runs `f(index, warp)`.
    fn warps(&self, f: impl FnMut(usize, &Self::Warp));

    /// Splits the block's warps: the first `W` run `first(state, index, warp, turn, part)` and the others `second(index, warp, turn, part)`, in
    /// each of `turns` turns for each part below `PARTS`, after which all wait for each other as at a [`barrier`](Team::barrier). The
    /// first ones keep a state, of `begin(index, warp)`, and run `end(state, index, warp)` when all is done. There is one turn at least. On the
    /// device each runs a loop of its own, in which it needs no registers for what the others do.
    fn split<const W: usize, const PARTS: usize, V: Copy>(
        &self,
        turns: u32,
        begin: impl FnMut(usize, &Self::Warp) -> V,
        first: impl FnMut(&mut V, usize, &Self::Warp, u32, usize),
        end: impl FnMut(&mut V, usize, &Self::Warp),
        second: impl FnMut(usize, &Self::Warp, u32, usize),
    );

    /// A chain of sums that the block's `W` warps, fewer than 16, take by turns: warp `t % W` runs `turn(index, warp, t, sums)`, which goes
    /// on with what turn `t - 1` left by one call of [`Warp::relay_rows`]; what that call does before it needs the sums, and the rest of a turn,
    /// goes on beside other warps' turns. The warp of the last one runs `end(warp, sums)`. There is one turn at least. It takes
    /// [`RELAY`] bytes of scratch memory a warp.
    fn relay<const W: usize>(
        &self,
        turns: usize,
        turn: impl FnMut(usize, &Self::Warp, usize, &mut <Self::Warp as Warp>::Relayed),
        end: impl FnOnce(&Self::Warp, &<Self::Warp as Warp>::Relayed),
    );
}

/// Bytes of scratch memory a warp that [`Block::relay`] takes.
pub const RELAY: usize = 512;

/// Memory shared by the lanes of a block.
///
/// A cell may be read by the lane that wrote it, and by the others after a barrier. [`CheckBlock`](crate::CheckBlock)
/// panics on anything else.
pub trait Scratch<V: Copy>: Copy {
    /// The value of cell `i`, as `lane` sees it.
    fn get(&self, lane: usize, i: usize) -> V;
    /// `lane` writes cell `i`.
    fn set(&self, lane: usize, i: usize, value: V);
    /// `lane` writes a value over cells `i..`, at a multiple of the value's alignment.
    fn set_as<W: Copy>(&self, lane: usize, i: usize, value: W);
    /// The value whose bytes begin at cell `i` of bytes, a multiple of the value's alignment, as `lane` sees it.
    fn get_as<W: Copy>(&self, lane: usize, i: usize) -> W;
    /// `lane` begins to copy 16 bytes from `source[from..]` to cells `to..`; both addresses are multiples of 16
    /// bytes. Without `valid` nothing is read and the cells become zero. Complete after [`Warp::copies_wait`].
    fn copy_async(&self, lane: usize, to: usize, source: &crate::In<V>, from: usize, valid: bool);
    /// Where cell `i` lies, for instructions that take an address.
    #[cfg(target_arch = "nvptx64")]
    fn address(&self, i: usize) -> *const V;
}

/// `f(0)`, `f(1)`, up to `f(N - 1)`, for `N` up to 16. Written out on the device: a loop over an array of fragments that the
/// compiler keeps as a loop would keep the fragments in memory instead of in registers. A loop on the host, where a closure
/// with one caller is inlined and one with many is not.
#[inline(always)]
pub fn unrolled<const N: usize>(mut f: impl FnMut(usize)) {
    const { assert!(N <= 16) };
    #[cfg(not(target_arch = "nvptx64"))]
    for i in 0..N {
        f(i);
    }
    #[cfg(target_arch = "nvptx64")]
    {
        macro_rules! each {
            ($($i:literal)*) => {$(
                if $i < N {
                    f($i);
                }
            )*};
        }
        each!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
}

/// `f` of each number below `N`. The library's own `from_fn` is not inlined into the SIMD versions of the host.
#[inline(always)]
pub fn made<V: Copy + Default, const N: usize>(f: impl Fn(usize) -> V) -> [V; N] {
    #[cfg(target_arch = "nvptx64")]
    {
        core::array::from_fn(f)
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        let mut made = [V::default(); N];
        for (i, made) in made.iter_mut().enumerate() {
            *made = f(i);
        }
        made
    }
}

/// `f` of each value: see [`made`].
#[inline(always)]
pub fn mapped<A: Copy, V: Copy + Default, const N: usize>(values: [A; N], f: impl Fn(A) -> V) -> [V; N] {
    #[cfg(target_arch = "nvptx64")]
    {
        values.map(f)
    }
    #[cfg(not(target_arch = "nvptx64"))]
    made(|i| f(values[i]))
}
