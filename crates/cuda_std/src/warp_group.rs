//! Warpgroups: what four warps can do on a tensor core together.

use crate::{Meanwhile, MmaInput, Scratch, Warp};

/// A warp among four neighbours, the first of them a multiple of 4, that run an instruction together; Hopper has them.
pub trait WarpGroup: Warp {
    /// [`multiply_rows`](Warp::multiply_rows) by four warps, each with 16 rows of its own, so that `EIGHTS` is 2, or, `PADDED`, with eight
    /// and zeros in place of the others, whose sums are of no use; of 32, 64 or 128 tokens. What is in `x` was [shown](Self::show) to them
    /// by the warps that wrote it. It is cut into parts of 64 columns, in which a token's octets lie side by side, 128 bytes that begin at
    /// a multiple of as many, octet `i` of token `t` in place `i ^ t % 8`; eight tokens' begin at a multiple of 1024 bytes. On the device a
    /// block is made while the tensor core multiplies the one before it.
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

    /// Lets [`multiply_group`](Self::multiply_group) read, after the next barrier of the block, what this warp wrote to scratch memory.
    fn show(&self);

    /// `c += a b`, one step after the other, by four warps, each with an A and a C of its own. `at(column, octet)` is the cell where eight values of b lie side by side, column
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

    /// `c += a b`, four steps of 16, one after the other, by four warps. Of `a`, which all four share, the first has rows 0 to 15, the next 16 to 31, and so on. `row(row, octet)` and
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
}
