//! Warps: what 32 lanes can do on a tensor core.

use core::ops::IndexMut;

use crate::{Scratch, Team};

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
