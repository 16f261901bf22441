//! The product of stored weights with few rows on the tensor core, as a block computes it: what [`crate::qmatmul`] and
//! [`crate::expert_matmul`] share.
//!
//! A value is dequantised in f32 and rounded to the type of `x`. The order of a sum is that of [`crate::matmul`].
//!
//! A warp owns 8 rows of the weights. The stored bytes of the next slices of 256 columns come by 16-byte asynchronous copies,
//! four lanes a row, and with them those of `x`, which the warps of a block share. A lane dequantises the values that the
//! tensor core wants of it, two neighbours at a time, straight into its registers ([`Warp::multiply_rows`]).

use cuda_std::{Block, In, MmaInput, Scratch, Warp, unrolled};

use crate::format::{BLOCK, Format, SUPER_BLOCK, Staged};

const WARPS: usize = 4;
/// Lanes of a block.
pub(crate) const LANES: usize = WARPS * 32;
/// Rows of weights a warp owns.
const ROWS: usize = 8;
/// Rows of weights a block owns.
pub(crate) const BLOCK_ROWS: usize = WARPS * ROWS;
/// Lanes that copy a row.
const SHARE: usize = 32 / ROWS;
/// Tokens whose sums are kept together.
const TILE: usize = 16;
/// Tokens of a block at most.
pub(crate) const MOST: usize = 64;
/// Columns in a slice.
const SLICE: usize = SUPER_BLOCK;
/// Blocks in a slice.
const BLOCKS: usize = SLICE / BLOCK;
/// Blocks of a grid from which on they are many for a GPU.
const MANY: usize = 512;
/// Cells of `x` from one token of a slice to the next: not a multiple of 128 bytes, against bank conflicts.
const X_STRIDE: usize = SLICE + 8;

/// Units of 16 bytes in scratch memory for a row of a slice, at most.
const MOST_UNITS: usize = 36;

/// Slices in scratch memory. Where blocks are few, each has more bytes under way; where they are many, more blocks share a
/// multiprocessor.
#[inline(always)]
fn stages(n: usize) -> usize {
    if n <= MANY * BLOCK_ROWS { 4 } else { 3 }
}

/// Units of 16 bytes that a row of a slice lies in, wherever in a unit it begins.
#[inline(always)]
const fn units<F: Format>() -> usize {
    let bytes = SLICE / F::VALUES * F::BYTES;
    // A row begins at a multiple of the greatest power of two that divides a block.
    let step = 1usize << F::BYTES.trailing_zeros();
    (16usize.saturating_sub(step) + bytes).div_ceil(16)
}

/// Bytes of scratch memory from one row of a slice to the next: an odd number of units, against bank conflicts.
#[inline(always)]
const fn stride<F: Format>() -> usize {
    (units::<F>() | 1) * 16
}

/// Cells of `x` in scratch memory: of every stage, and a row of zeros.
#[inline(always)]
fn x_cells(stages: usize, tokens: usize) -> usize {
    stages * tokens * X_STRIDE + SLICE
}

/// Bytes of scratch memory for so many rows of weights and tokens.
pub(crate) fn scratch<F: Format>(n: usize, count: usize) -> usize {
    let stages = stages(n);
    stages * BLOCK_ROWS * stride::<F>() + 2 * x_cells(stages, count)
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

/// The block at `x` of the grid takes the rows from `x` times [`BLOCK_ROWS`] on. Token `t` multiplies row `row_of(lane, t)` of
/// `x`; `put(t, row, sum)` gets the sums.
#[inline(always)]
pub(crate) fn multiply<B: Block, F: Format, I: MmaInput, const TOKENS: usize>(
    block: &B,
    a: Operands,
    row_of: impl Fn(usize, usize) -> usize,
    put: impl Fn(usize, usize, f32),
) {
    let Operands { k, n, count, .. } = a;
    let (row0, stages) = (block.x() * BLOCK_ROWS, stages(n));
    let weights = block.scratch::<u8>(stages * BLOCK_ROWS * stride::<F>());
    let inputs = block.scratch::<u16>(x_cells(stages, count));
    let zeros = stages * count * X_STRIDE;
    block.each(SLICE, |lane, i| inputs.set(lane, zeros + i, 0));

    // Where a row's part of a slice begins among the stored bytes. Past the last row it is read again, and its sums are not
    // stored.
    let begin = |row: usize, slice: usize| {
        (a.first + (row0 + row).min(n - 1)) * F::row_bytes(k) + slice * F::row_bytes(SLICE)
    };
    // Begins to copy a slice. Of one with another after it all is there, and a little of the next may be copied in vain;
    // nothing is read beyond a row's last one.
    let copy = |slice: u32, stage: u32, is_last: bool| {
        let (slice, stage) = (slice as usize, stage as usize);
        block.lanes(|lane| {
            let (row, part) = (lane / SHARE, lane % SHARE * 16);
            let from = begin(row, slice);
            // Bytes of the row from the unit on in which it begins.
            let left = (F::row_bytes(k) + from % 16).saturating_sub(slice * F::row_bytes(SLICE)) as u32;
            let to = (stage * BLOCK_ROWS + row) * stride::<F>() + part;
            let from = from / 16 * 16 + part;
            unrolled::<{ MOST_UNITS / SHARE }>(|i| {
                let byte = i * SHARE * 16;
                if part + byte < units::<F>() * 16 && (!is_last || ((part + byte) as u32) < left) {
                    weights.copy_async(lane, to + byte, &a.w, from + byte, true);
                }
            });
            let column = slice * SLICE + lane % 32 * 8;
            unrolled::<{ MOST / WARPS }>(|i| {
                let token = lane / 32 + i * WARPS;
                if i * WARPS < TOKENS && token < count && (!is_last || column < k) {
                    let to = (stage * count + token) * X_STRIDE + lane % 32 * 8;
                    inputs.copy_async(lane, to, &a.x, row_of(lane, token) * k + column, true);
                }
            });
        });
    };
    // A GPU counts in 32 bits at half the price.
    let (columns, stages) = (k as u32, stages as u32);
    let slices = columns.div_ceil(SLICE as u32);
    let fetch = |slice: u32, stage: u32| {
        if slice + 1 < columns / SLICE as u32 {
            copy(slice, stage, false);
        } else if slice < slices {
            copy(slice, stage, true);
        }
        block.warps(|_, warp| warp.copies_commit());
    };

    for stage in 0..stages - 1 {
        fetch(stage, stage);
    }
    let mut sums = block.per_warp::<_, WARPS>(|_, warp| [warp.no_sums(); MOST / TILE]);
    let (mut stage, mut free) = (0, stages - 1);
    for slice in 0..slices {
        block.warps(|_, warp| {
            if stages == 4 {
                warp.copies_wait::<2>();
            } else {
                warp.copies_wait::<1>();
            }
        });
        // The slice is there, of all warps; and all are done with the one before it, whose place is filled next.
        block.barrier();
        fetch(slice + stages - 1, free);
        free = stage;
        block.warps(|index, warp| {
            let bytes = |row: usize, column: usize| Staged {
                bytes: weights,
                lane: index * 32 + row * 4 + column % 8 / 2,
            };
            let (first_row, first_token) = (stage as usize * BLOCK_ROWS, stage as usize * count);
            let place = |b: usize, row: usize| {
                let at = index * ROWS + row;
                F::place((first_row + at) * stride::<F>() + begin(at, slice as usize) % 16, b)
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
                let row = if token < count { (first_token + token) * X_STRIDE } else { zeros };
                row + b * BLOCK + octet * 8
            };
            let blocks = ((columns - slice * SLICE as u32).min(SLICE as u32) / BLOCK as u32) as usize;
            let sums = &mut sums[index];
            macro_rules! multiply {
                ($written:expr) => {
                    warp.multiply_rows::<I, TOKENS, { $written }, { MOST / TILE }, _, _, _>(
                        blocks,
                        F::TOGETHER,
                        shared,
                        read,
                        values,
                        &inputs,
                        at,
                        sums,
                    )
                };
            }
            // The more there is to do for a block, the fewer are written out.
            if TOKENS <= 16 {
                multiply!(BLOCKS);
            } else if TOKENS <= 32 {
                multiply!(BLOCKS / 2);
            } else {
                multiply!(BLOCKS / 4);
            }
        });
        stage = if stage + 1 < stages { stage + 1 } else { 0 };
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
