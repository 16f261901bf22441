//! The product of stored weights with few rows on the tensor core, as a block computes it: what [`crate::qmatmul`] and
//! [`crate::expert_matmul`] share.
//!
//! A value is dequantised in f32 and rounded to the type of `x`. The order of a sum is that of [`crate::matmul`].
//!
//! A warp owns 8 rows of the weights. The stored bytes of the next slices of columns come by 16-byte asynchronous copies, and
//! with them those of `x`, which the warps of a block share. A lane dequantises the values that the
//! tensor core wants of it, two neighbours at a time, straight into its registers ([`Warp::multiply_rows`]).

use core::marker::PhantomData;

use cuda_std::{Block, In, Meanwhile, MmaInput, Scratch, Team, Warp};

use crate::format::{BLOCK, Format, SUPER_BLOCK, Staged};

/// Warps of a block of a kernel for so many tokens. Of the most, the tokens' values fill a multiprocessor's scratch memory: whoever
/// is there shares them. Of fewer, a matrix of 4096 rows would leave half of the multiprocessors idle.
pub(crate) const fn warps(tokens: usize) -> usize {
    if tokens <= 32 { 4 } else { 8 }
}

/// Rows of weights a warp owns.
const ROWS: usize = 8;
/// Rows of weights that a block of a kernel for so many tokens owns.
pub(crate) const fn block_rows(tokens: usize) -> usize {
    warps(tokens) * ROWS
}

/// Lanes that copy a row: what they ask for at once is a line of 128 bytes.
const SHARE: usize = 8;
/// Parts of a warp's rows that are copied by turns.
const GROUPS: usize = ROWS * SHARE / 32;
/// Tokens whose sums are kept together.
const TILE: usize = 16;
/// Tokens of a block at most.
pub(crate) const MOST: usize = 64;
/// Slices in scratch memory.
const STAGES: usize = 3;
/// Columns of a slice at most.
const MOST_COLUMNS: usize = 2 * SUPER_BLOCK;

/// Columns of a slice: the fewer tokens, the more is there room for.
#[inline(always)]
const fn slice_columns(tokens: usize) -> usize {
    if tokens <= 8 { MOST_COLUMNS } else { SUPER_BLOCK }
}

/// Units of 16 bytes that so many columns of a row lie in, wherever in a unit they begin.
#[inline(always)]
const fn units<F: Format>(columns: usize) -> usize {
    let bytes = columns / F::VALUES * F::BYTES;
    // A row begins at a multiple of the greatest power of two that divides a block.
    let step = 1usize << F::BYTES.trailing_zeros();
    (16usize.saturating_sub(step) + bytes).div_ceil(16)
}

/// Bytes of scratch memory from one row of a slice to the next: an odd number of units, against bank conflicts.
#[inline(always)]
const fn stride<F: Format>(columns: usize) -> usize {
    (units::<F>(columns) | 1) * 16
}

/// Cells of `x` from one token of a slice to the next: not a multiple of 128 bytes, against bank conflicts.
#[inline(always)]
const fn x_stride(columns: usize) -> usize {
    columns + 8
}

/// Cells of `x` in scratch memory: of every stage, and a row of zeros.
#[inline(always)]
fn x_cells(columns: usize, count: usize) -> usize {
    STAGES * count * x_stride(columns) + columns
}

/// Bytes of scratch memory of a kernel for so many tokens of which there are `count`.
pub(crate) fn scratch<F: Format>(tokens: usize, count: usize) -> usize {
    let columns = slice_columns(tokens);
    STAGES * block_rows(tokens) * stride::<F>(columns) + 2 * x_cells(columns, count)
}

/// What a block multiplies.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    /// Stored rows of `k` columns; and what fills the last 16 bytes up, whatever it is.
    pub(crate) w: In<u8>,
    /// Rows of `k` columns, f16 or bf16 as bits.
    pub(crate) x: In<u16>,
    /// Columns: whole blocks or super-blocks.
    pub(crate) k: usize,
    /// The first of the matrix's rows in `w`, and their number.
    pub(crate) first: usize,
    pub(crate) n: usize,
    /// Tokens: `TOKENS` at most.
    pub(crate) count: usize,
}

/// Where a slice's copies go, and where the rows come from.
struct Slices<'a, W, X, R> {
    a: Operands,
    /// A block's first row.
    row0: usize,
    weights: W,
    inputs: X,
    row_of: &'a R,
}

impl<W: Scratch<u8>, X: Scratch<u16>, R: Fn(usize, usize) -> usize> Slices<'_, W, X, R> {
    /// Where a row's part of a slice begins among the stored bytes. Past the last row it is read again, and its sums are not
    /// stored.
    #[inline(always)]
    fn begin<F: Format>(&self, row: usize, slice: usize, columns: usize) -> usize {
        let Operands { k, first, n, .. } = self.a;
        (first + (self.row0 + row).min(n - 1)) * F::row_bytes(k) + slice * F::row_bytes(columns)
    }

    /// Of the copies that bring a warp's rows of a slice and its share of the tokens, begins number `i` and every `of`-th after it;
    /// nothing of a slice that there is not.
    #[inline(always)]
    fn copy<T: Team, F: Format, const TOKENS: usize>(
        &self,
        (index, warp): (usize, &T),
        (slice, stage): (u32, u32),
        (i, of): (usize, usize),
    ) {
        let Operands { w, x, k, count, .. } = self.a;
        let (columns, stage) = (slice_columns(TOKENS), stage as usize);
        let units = units::<F>(columns);
        let first_column = slice * columns as u32;
        let at_once = warps(TOKENS) * 32 * 8 / columns;
        // A host would walk the lanes for nothing.
        let is_host = cfg!(not(target_arch = "nvptx64"));
        if is_host && i >= units.div_ceil(SHARE) * GROUPS && i * at_once >= TOKENS {
            return;
        }
        warp.lanes(|lane| {
            let whole_lane = index * 32 + lane;
            let (lane_row, part) = (lane / SHARE, lane % SHARE * 16);
            let mut number = i;
            while number < units.div_ceil(SHARE) * GROUPS {
                let row = index * ROWS + number % GROUPS * (ROWS / GROUPS) + lane_row;
                let from = self.begin::<F>(row, slice as usize, columns);
                // Bytes of the row from the unit on in which it begins.
                let ends = (F::row_bytes(k) + from % 16) as u32;
                let left = ends.saturating_sub(slice * F::row_bytes(columns) as u32);
                let byte = part + number / GROUPS * SHARE * 16;
                if byte < 16 * units && (byte as u32) < left {
                    let to = (stage * block_rows(TOKENS) + row) * stride::<F>(columns) + byte;
                    self.weights.copy_async(whole_lane, to, &w, from / 16 * 16 + byte, true);
                }
                number += of;
            }
            let (first, column) = (whole_lane / (columns / 8), whole_lane % (columns / 8) * 8);
            let mut number = i;
            while number * at_once < TOKENS {
                let token = first + number * at_once;
                if token < count && first_column + (column as u32) < k as u32 {
                    let to = (stage * count + token) * x_stride(columns) + column;
                    let from = (self.row_of)(whole_lane, token) * k + first_column as usize + column;
                    self.inputs.copy_async(whole_lane, to, &x, from, true);
                }
                number += of;
            }
        });
    }
}

/// A warp's copies of a slice, in `OF` pieces.
struct Pieces<'a, T, F, W, X, R, const TOKENS: usize, const OF: usize> {
    slices: &'a Slices<'a, W, X, R>,
    warp: (usize, &'a T),
    /// And its place.
    slice: (u32, u32),
    format: PhantomData<F>,
}

impl<T: Team, F: Format, W, X, R, const TOKENS: usize, const OF: usize> Meanwhile
    for Pieces<'_, T, F, W, X, R, TOKENS, OF>
where
    W: Scratch<u8>,
    X: Scratch<u16>,
    R: Fn(usize, usize) -> usize,
{
    #[inline(always)]
    fn run(&self, i: usize) {
        self.slices.copy::<T, F, TOKENS>(self.warp, self.slice, (i, OF));
    }
}

/// The block at `x` of the grid, of `WARPS` warps, takes the rows from `x` times [`block_rows`] on. Token `t` multiplies row `row_of(lane, t)` of
/// `x`; `put(t, row, sum)` gets the sums.
#[inline(always)]
pub(crate) fn multiply<B: Block, F: Format, I: MmaInput, const TOKENS: usize, const WARPS: usize>(
    block: &B,
    a: Operands,
    row_of: impl Fn(usize, usize) -> usize,
    put: impl Fn(usize, usize, f32),
) {
    const { assert!(WARPS == warps(TOKENS)) };
    let Operands { k, n, count, .. } = a;
    let (columns, x_stride) = (slice_columns(TOKENS), x_stride(slice_columns(TOKENS)));
    let row0 = block.x() * block_rows(TOKENS);
    let weights = block.scratch::<u8>(STAGES * block_rows(TOKENS) * stride::<F>(columns));
    let inputs = block.scratch::<u16>(x_cells(columns, count));
    let zeros = STAGES * count * x_stride;
    block.each(columns, |lane, i| inputs.set(lane, zeros + i, 0));

    let slices = Slices { a, row0, weights, inputs, row_of: &row_of };
    for stage in 0..STAGES as u32 - 1 {
        block.warps(|index, warp| {
            slices.copy::<_, F, TOKENS>((index, warp), (stage, stage), (0, 1));
            warp.copies_commit();
        });
    }
    let mut sums = block.per_warp::<_, WARPS>(|_, warp| [warp.no_sums(); MOST / TILE]);
    let (mut stage, mut free) = (0, STAGES as u32 - 1);
    // A GPU counts in 32 bits at half the price.
    for slice in 0..(k as u32).div_ceil(columns as u32) {
        block.warps(|_, warp| warp.copies_wait::<{ STAGES - 2 }>());
        // The slice is there, of all warps; and all are done with the one before it, whose place is filled next.
        block.barrier();
        block.warps(|index, warp| {
            let (first_row, first_token) = (stage as usize * block_rows(TOKENS), stage as usize * count);
            let bytes = |row: usize, column: usize| Staged {
                bytes: weights,
                lane: index * 32 + row * 4 + column % 8 / 2,
            };
            let place = |b: usize, row: usize| {
                let at = index * ROWS + row;
                let begin = slices.begin::<F>(at, slice as usize, columns);
                F::place((first_row + at) * stride::<F>(columns) + begin % 16, b)
            };
            let shared = |b: usize, row: usize| F::shared(&bytes(row, 0), place(b, row));
            let read = |b: usize, row: usize, column: usize| {
                F::read::<2>(&bytes(row, column), place(b, row), column)
            };
            let values = |b: usize, shared, raw, column: usize| {
                F::rounded::<I, B>(raw, F::place(0, b), shared, column)
            };
            // Tokens that there are not are zeros.
            let at = |b: usize, token: usize, octet: usize| {
                let row = if token < count { (first_token + token) * x_stride } else { zeros };
                row + b * BLOCK + octet * 8
            };
            let blocks = (k as u32 - slice * columns as u32).min(columns as u32) as usize / BLOCK;
            let sums = &mut sums[index];
            macro_rules! multiply {
                ($written:literal) => {{
                    let next = Pieces::<_, F, _, _, _, TOKENS, $written> {
                        slices: &slices,
                        warp: (index, warp),
                        slice: (slice + STAGES as u32 - 1, free),
                        format: PhantomData,
                    };
                    warp.multiply_rows::<I, TOKENS, $written, { MOST / TILE }, _, _, _>(
                        blocks,
                        F::TOGETHER,
                        shared,
                        read,
                        values,
                        &inputs,
                        at,
                        &next,
                        sums,
                    )
                }};
            }
            // The more there is to do for a block, the fewer are written out: what is too long is not inlined.
            if TOKENS <= 8 && !F::LONG {
                multiply!(16);
            } else if TOKENS <= 32 {
                multiply!(8);
            } else {
                multiply!(4);
            }
            warp.copies_commit();
        });
        free = stage;
        stage = if stage + 1 < STAGES as u32 { stage + 1 } else { 0 };
    }
    block.warps(|index, warp| {
        warp.each_sum::<TOKENS, { MOST / TILE }>(&sums[index], |token, row, sum| {
            let row = row0 + index * ROWS + row;
            if token < count && row < n {
                put(token, row, sum);
            }
        });
    });
}
