//! Teams: lanes that cooperate, and what they can do together.
//!
//! A kernel alternates between *phases*, closures that every lane runs by itself, and *collectives*, in which the
//! lanes combine their values. Between a phase that writes scratch memory and one in which other lanes read it
//! stands a [`Team::barrier`].

use core::ops::IndexMut;

use crate::F16;

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
    type Warp: Warp;
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

/// 32 lanes with a tensor core: `C += A B`, A 16 x 16, B 16 x 8, C 16 x 8 in f32.
///
/// Fragments are opaque; a warp loads them from scratch memory or fills them element by element, multiplies, and hands C
/// out element by element. A lane is numbered within its warp here.
pub trait Warp: Team {
    /// 16 rows x 16 columns of 16-bit values, spread over the lanes.
    type A: Copy;
    /// 16 rows x 8 columns of 16-bit values, spread over the lanes.
    type B: Copy;
    /// 16 rows x 8 columns of f32, spread over the lanes.
    type C: Copy;
    /// Sums of 16 tokens and 8 rows of weights, see [`multiply_rows`](Self::multiply_rows).
    type Sums: Copy;
    /// Sums of 8 tokens and 16 rows of weights that go from warp to warp, see [`Block::relay`].
    type Relayed: Copy;
    /// A value for each of C's 16 rows, which every lane keeps for the rows that it holds elements of. Indexed by one of
    /// those rows.
    type Rows<V: Copy>: Copy + IndexMut<usize, Output = V>;

    /// A C of zeros.
    fn zero(&self) -> Self::C;

    /// One value a row, all equal at first.
    fn rows<V: Copy>(&self, value: V) -> Self::Rows<V>;

    /// A phase over the rows of C: every lane runs `f(lane, row)` for the rows that it holds elements of. Four lanes
    /// share a row and each runs it; the host runs it once, as the first of them.
    fn each_row(&self, f: impl FnMut(usize, usize));

    /// Loads A. `at(row, octet)` is the cell where eight values lie side by side: row `row` of A, columns
    /// `8 octet ..`; a multiple of 8 cells.
    fn load_a<S: Scratch<u16>>(&self, scratch: &S, at: impl Fn(usize, usize) -> usize) -> Self::A;

    /// Loads B. `at(column, octet)` is the cell where eight values lie side by side: column `column` of B, rows
    /// `8 octet ..`; a multiple of 8 cells.
    fn load_b<S: Scratch<u16>>(&self, scratch: &S, at: impl Fn(usize, usize) -> usize) -> Self::B;

    /// Makes B: `f(column, row)`, where `row` is even, gives the elements `(row, column)` and `(row + 1, column)`.
    fn fill_b(&self, f: impl FnMut(usize, usize) -> [u16; 2]) -> Self::B;

    /// Each B with zeros in the rows outside of `first..end`.
    fn keep_rows<const N: usize>(&self, b: &[Self::B; N], first: usize, end: usize) -> [Self::B; N];

    /// No tokens' sums yet.
    fn no_sums(&self) -> Self::Sums;

    /// Multiplies `EIGHTS` times 8 rows of weights by tokens, one block of 32 columns after the other: two tensor-core steps each.
    ///
    /// What a weight is made of is read by `shared(block, row)` and `read(block, row, column)`, which answer the same for as many
    /// neighbouring blocks as `together` says of each; `values(block, shared, raw, column)` makes of it the weights in `column`, an even
    /// one below 16, and the one beside it, and in the columns 16 further on. `at(block, token, octet)` is the cell of `x` where eight
    /// values of a token lie side by side, columns `8 octet ..`; it is asked for up to the next multiple of 8 of `TOKENS` tokens on
    /// the device, of 16 on the host. `sums` has, of each 8 rows, 16 tokens each.
    ///
    /// On the device `WRITTEN` blocks at a time are written out, see [`unrolled`], and what the next one's weights are made of is
    /// read before this one is made: a warp that waits for memory, and only then for the tensor core, is as slow as both.
    /// `meanwhile` runs by turns with them, but for the last ones if they are fewer than `WRITTEN`.
    #[allow(clippy::too_many_arguments, reason = "each is one step of a pipeline")]
    fn multiply_rows<
        I: MmaInput,
        const TOKENS: usize,
        const EIGHTS: usize,
        const WRITTEN: usize,
        const TILES: usize,
        S: Copy,
        R: Copy,
        X: Scratch<u16>,
    >(
        &self,
        blocks: usize,
        together: [usize; 2],
        shared: impl Fn(usize, usize) -> S,
        read: impl Fn(usize, usize, usize) -> R,
        values: impl Fn(usize, S, R, usize) -> [[u16; 2]; 2],
        x: &X,
        at: impl Fn(usize, usize, usize) -> usize,
        meanwhile: &impl Meanwhile,
        sums: &mut [[Self::Sums; TILES]; EIGHTS],
    );

    /// [`multiply_rows`](Self::multiply_rows) with the instructions that four neighbouring warps, the first of them a multiple of 4, run
    /// together, each with 16 rows of its own, so that `EIGHTS` is 2, or, `PADDED`, with eight and zeros in place of the others, whose sums
    /// are of no use; Hopper has them, for 32, 64 or 128 tokens. What is in `x` was
    /// [shown](Self::show) to them by the warps that wrote it. It is cut into parts of 64 columns, in which a token's octets lie side
    /// by side, 128 bytes that begin at a multiple of as many, octet `i` of token `t` in place `i ^ t % 8`; eight tokens' begin at a
    /// multiple of 1024 bytes. On the device a block is made while the tensor core multiplies the one before it.
    #[allow(clippy::too_many_arguments, reason = "each is one step of a pipeline")]
    fn multiply_group<
        I: MmaInput,
        const TOKENS: usize,
        const EIGHTS: usize,
        const WRITTEN: usize,
        const TILES: usize,
        const PADDED: bool,
        S: Copy,
        R: Copy,
        X: Scratch<u16>,
    >(
        &self,
        blocks: usize,
        together: [usize; 2],
        shared: impl Fn(usize, usize) -> S,
        read: impl Fn(usize, usize, usize) -> R,
        values: impl Fn(usize, S, R, usize) -> [[u16; 2]; 2],
        x: &X,
        at: impl Fn(usize, usize, usize) -> usize,
        meanwhile: &impl Meanwhile,
        sums: &mut [[Self::Sums; TILES]; EIGHTS],
    );

    /// [`multiply_rows`](Self::multiply_rows) of 16 rows of weights and up to 8 tokens, eight blocks at most, in a turn of a
    /// [relay](Block::relay): all weights are made before the sums are taken.
    #[allow(clippy::too_many_arguments, reason = "each is one step of a pipeline")]
    fn relay_rows<I: MmaInput, S: Copy, R: Copy, X: Scratch<u16>>(
        &self,
        blocks: usize,
        together: [usize; 2],
        shared: impl Fn(usize, usize) -> S,
        read: impl Fn(usize, usize, usize) -> R,
        values: impl Fn(usize, S, R, usize) -> [[u16; 2]; 2],
        x: &X,
        at: impl Fn(usize, usize, usize) -> usize,
        meanwhile: &impl Meanwhile,
        sums: &mut Self::Relayed,
    );

    /// Every sum of 8 tokens and 16 rows of weights once: `f(token, row, sum)`.
    fn each_relayed(&self, sums: &Self::Relayed, f: impl FnMut(usize, usize, f32));

    /// Lets [`multiply_group`](Self::multiply_group) read, after the next barrier of the block, what this warp wrote to scratch memory.
    fn show(&self);

    /// Every sum of the first `TOKENS` tokens, up to the next multiple of 8, and of the rows of weights once:
    /// `f(token, row, sum)`.
    fn each_sum<const TOKENS: usize, const EIGHTS: usize, const TILES: usize>(
        &self,
        sums: &[[Self::Sums; TILES]; EIGHTS],
        f: impl FnMut(usize, usize, f32),
    );

    /// The sums of [`each_sum`](Self::each_sum) of 16 rows of weights once: `f(token, row, first, second)`, of `token` and the next one those
    /// of row `row` of the first eight, and those of the second eight.
    fn each_two<const TOKENS: usize, const EIGHTS: usize, const TILES: usize>(
        &self,
        sums: &[[Self::Sums; TILES]; EIGHTS],
        f: impl FnMut(usize, usize, [f32; 2], [f32; 2]),
    );

    /// One tensor-core step, `c += a b`: m16n8k16 with an f32 accumulator. What it computes to the bit is
    /// [`tensor_core`](crate::tensor_core)'s model.
    fn mma<I: MmaInput>(&self, a: &Self::A, b: &Self::B, c: &mut Self::C);

    /// `c += a b`, one step after the other, with the instructions that four neighbouring warps, the first of them a multiple of 4, run
    /// together, each with an A and a C of its own. `at(column, octet)` is the cell where eight values of b lie side by side, column
    /// `column` and rows `8 octet ..`; they lie and were shown as [`multiply_group`](Self::multiply_group) wants it of tokens. There
    /// are 64 or 128 columns, and 8 steps, or 4 of 128 columns. C may not be used, nor the cells of b be written, before
    /// [`wait_group`](Self::wait_group) was called for it.
    fn mma_group<I: MmaInput, const STEPS: usize, const OCTETS: usize, S: Scratch<u16>>(
        &self,
        a: &[Self::A; STEPS],
        b: &S,
        at: impl Fn(usize, usize) -> usize,
        c: &mut [Self::C; OCTETS],
    );

    /// `c += a b`, four steps of 16, one after the other, with the instructions that four neighbouring warps, the first of them a multiple
    /// of 4, run together. Of `a`, which all four share, the first has rows 0 to 15, the next 16 to 31, and so on. `row(row, octet)` and
    /// `column(column, octet)` are the cells where eight values lie side by side, as [`multiply_group`](Self::multiply_group) wants it of
    /// tokens, and were shown. There are 128 or 256 columns. C may not be used, nor the cells be written, before
    /// [`wait_group`](Self::wait_group) was called for it.
    fn multiply_shared<I: MmaInput, const OCTETS: usize, S: Scratch<u16>>(
        &self,
        a: (&S, impl Fn(usize, usize) -> usize),
        b: (&S, impl Fn(usize, usize) -> usize),
        c: &mut [Self::C; OCTETS],
    );

    /// Waits for all that [`mma_group`](Self::mma_group) or [`multiply_shared`](Self::multiply_shared) has begun.
    fn wait_group<const OCTETS: usize>(&self, c: &mut [Self::C; OCTETS]);

    /// Every element of C once: `f(lane, row, column, value)`, in the lane that holds it on the device:
    /// `row % 8 * 4 + column / 2`.
    fn each_c(&self, c: &Self::C, f: impl FnMut(usize, usize, usize, f32));

    /// Every two neighbours of C in a row once: `f(row, column, [value, its right neighbour])`, for even columns.
    fn each_pair(&self, c: &Self::C, f: impl FnMut(usize, usize, [f32; 2]));

    /// [`each_pair`](Self::each_pair) of two C: `f(row, column, pair, the other's pair)`.
    fn each_two_pairs(&self, c: &Self::C, other: &Self::C, f: impl FnMut(usize, usize, [f32; 2], [f32; 2]));

    /// Replaces every element of C by `f(row, column, value, other's value)`.
    fn zip_c(&self, c: &mut Self::C, other: &Self::C, f: impl FnMut(usize, usize, f32, f32) -> f32);

    /// Makes A of two C, the columns of one after those of the other, each element rounded to nearest even.
    fn round_to_a<I: MmaInput>(&self, left: &Self::C, right: &Self::C) -> Self::A;

    /// The greatest element of each row of all these C; as [`Team::max`].
    fn max_rows<const N: usize>(&self, c: &[Self::C; N]) -> Self::Rows<f32>;

    /// The sum of each row of all these C, side by side, none of whose elements is negative zero; `N` is a multiple of 4. The
    /// order: column `i` of 32 takes columns `i + 32`, `i + 64`, ...; these 32 as in [`Team::sum`].
    fn sum_rows<const N: usize>(&self, c: &[Self::C; N]) -> Self::Rows<f32>;

    /// Closes a group of asynchronous copies of every lane.
    fn copies_commit(&self);

    /// Waits until at most the last `PENDING` groups of copies are under way, and makes the finished ones visible to
    /// the warp.
    fn copies_wait<const PENDING: usize>(&self);
}

/// Work that is done in pieces by turns with other work. No closure: it has many callers, and must be inlined in all.
pub trait Meanwhile {
    /// Piece `i` of those that go with the group of pieces which begins at `first`.
    fn run(&self, first: usize, i: usize);
}

/// A 16-bit input type of the tensor core.
pub trait MmaInput: Copy + 'static {
    /// Whether the bits are bf16; f16 otherwise.
    const BF16: bool;
    /// Rounded to nearest, ties to even, as bits.
    fn bits(value: f32) -> u16;
    /// [`bits`](Self::bits) of two values, in one instruction of the device.
    fn both(values: [f32; 2]) -> [u16; 2];
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
