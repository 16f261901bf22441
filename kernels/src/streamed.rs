//! The product of stored weights with few rows on the tensor core, as a block computes it: what [`crate::qmatmul`] and
//! [`crate::expert_matmul`] share.
//!
//! A value is dequantised in f32 and rounded to the type of `x`. The order of a sum is that of [`crate::matmul`].
//!
//! A warp owns 8 rows of the weights, the columns of its tensor-core steps; up to 16 tokens are the rows of one. The stored
//! bytes of the next slices of 256 columns come by 16-byte asynchronous copies, four lanes a row, and with them those of
//! `x`, which the warps of a block share. A lane dequantises the values that the tensor core wants of it, two neighbours at
//! a time, straight into its registers.

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
/// Tokens in a tensor-core step.
const STEP: usize = 16;
/// Tokens of a block at most.
pub(crate) const MOST: usize = 64;
/// Columns in a slice.
const SLICE: usize = SUPER_BLOCK;
/// Slices in scratch memory.
const STAGES: usize = 4;
/// Cells of `x` from one token of a slice to the next: not a multiple of 128 bytes, against bank conflicts.
const X_STRIDE: usize = SLICE + 8;

/// Units of 16 bytes in scratch memory for a row of a slice, at most.
const MOST_UNITS: usize = 36;

/// Units of 16 bytes in scratch memory for a row of a slice, wherever in a unit it begins: an odd number, against bank
/// conflicts.
#[inline(always)]
const fn units<F: Format>() -> usize {
    let bytes = SLICE / F::VALUES * F::BYTES;
    // A row begins at a multiple of the greatest power of two that divides a block.
    let step = 1usize << F::BYTES.trailing_zeros();
    (16usize.saturating_sub(step) + bytes).div_ceil(16) | 1
}

/// Cells of `x` in scratch memory: of every stage, and a row of zeros.
#[inline(always)]
fn x_cells(tokens: usize) -> usize {
    STAGES * tokens * X_STRIDE + SLICE
}

/// Bytes of scratch memory for so many tokens.
pub(crate) fn scratch<F: Format>(count: usize) -> usize {
    STAGES * BLOCK_ROWS * units::<F>() * 16 + 2 * x_cells(count)
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
    let row0 = block.x() * BLOCK_ROWS;
    let stride = units::<F>() * 16;
    let weights = block.scratch::<u8>(STAGES * WARPS * ROWS * stride);
    let inputs = block.scratch::<u16>(x_cells(count));
    let zeros = STAGES * count * X_STRIDE;
    block.each(SLICE, |lane, i| inputs.set(lane, zeros + i, 0));

    // Where a row's part of a slice begins among the stored bytes. Past the last row it is read again, and its sums are not
    // stored.
    let begin = |row: usize, slice: usize| {
        (a.first + (row0 + row).min(n - 1)) * F::row_bytes(k) + slice * F::row_bytes(SLICE)
    };
    // Begins to copy a slice, if there is such.
    macro_rules! fetch {
        ($slice:expr, $stage:expr) => {
            block.lanes(|lane| {
                let row = lane / SHARE;
                let from = begin(row, $slice);
                // Bytes of the row from the unit on in which it begins.
                let left = (F::row_bytes(k) + from % 16).saturating_sub($slice * F::row_bytes(SLICE)) as u32;
                let to = ($stage * WARPS * ROWS + row) * stride;
                unrolled::<{ MOST_UNITS / SHARE }>(|i| {
                    let byte = 16 * (lane % SHARE + i * SHARE);
                    if byte < stride && (byte as u32) < left {
                        weights.copy_async(lane, to + byte, &a.w, from / 16 * 16 + byte, true);
                    }
                });
                let column = $slice * SLICE + lane % 32 * 8;
                unrolled::<{ MOST / WARPS }>(|i| {
                    let token = lane / 32 + i * WARPS;
                    if i * WARPS < TOKENS && token < count && column < k {
                        let to = ($stage * count + token) * X_STRIDE + lane % 32 * 8;
                        inputs.copy_async(lane, to, &a.x, row_of(lane, token) * k + column, true);
                    }
                });
            });
            block.warps(|_, warp| warp.copies_commit());
        };
    }

    for stage in 0..STAGES - 1 {
        fetch!(stage, stage);
    }
    let mut sums = block.per_warp::<_, WARPS>(|_, warp| [warp.zero(); MOST / STEP]);
    let (mut stage, mut free) = (0, STAGES - 1);
    for slice in 0..k.div_ceil(SLICE) {
        block.warps(|_, warp| warp.copies_wait::<{ STAGES - 2 }>());
        // The slice is there, of all warps; and all are done with the one before it, whose place is filled next.
        block.barrier();
        fetch!(slice + STAGES - 1, free);
        free = stage;
        block.warps(|index, warp| {
            let bytes = |row: usize, column: usize| Staged {
                bytes: weights,
                lane: index * 32 + row * 4 + column % 8 / 2,
            };
            let shared = |b: usize, row: usize| {
                let at = index * ROWS + row;
                let place = F::place((stage * WARPS * ROWS + at) * stride + begin(at, slice) % 16, b);
                (place, F::shared(&bytes(row, 0), place))
            };
            let read = |(place, _), row, column| F::read::<2>(&bytes(row, column), place, column);
            let values = |(place, shared), raw, _, column| {
                let [first, second] = F::values(raw, place, F::scale::<B>(shared, place), column);
                [I::both(first), I::both(second)]
            };
            // A tile of half a block; tokens that there are not are zeros.
            let load = |b: usize, half: usize, tile: usize| {
                let at = |token: usize, octet: usize| {
                    let token = tile * STEP + token;
                    let row = if token < count { (stage * count + token) * X_STRIDE } else { zeros };
                    row + b * BLOCK + half * 16 + octet * 8
                };
                if TOKENS < STEP { warp.load_upper_a(&inputs, at) } else { warp.load_a(&inputs, at) }
            };
            let multiply_block = |b: usize, first: [_; 2], w: [_; 2]| {
                for half in 0..2 {
                    unrolled::<{ MOST / STEP }>(|tile| {
                        if tile * STEP < TOKENS {
                            let x = if tile == 0 { first[half] } else { load(b, half, tile) };
                            warp.mma::<I>(&x, &w[half], &mut sums[index][tile]);
                        }
                    });
                }
            };
            let load = |b| [load(b, 0, 0), load(b, 1, 0)];
            // The more there is to do for a block, the fewer are written out.
            let blocks = SLICE.min(k - slice * SLICE) / BLOCK;
            if TOKENS <= STEP {
                warp.each_two_b::<{ SLICE / BLOCK }, _, _, _>(
                    blocks,
                    shared,
                    read,
                    values,
                    load,
                    multiply_block,
                );
            } else if TOKENS <= 2 * STEP {
                warp.each_two_b::<4, _, _, _>(blocks, shared, read, values, load, multiply_block);
            } else {
                warp.each_two_b::<2, _, _, _>(blocks, shared, read, values, load, multiply_block);
            }
        });
        stage = if stage + 1 < STAGES { stage + 1 } else { 0 };
    }
    block.warps(|index, warp| {
        unrolled::<{ MOST / STEP }>(|tile| {
            if tile * STEP < TOKENS {
                warp.each_c(&sums[index][tile], |_, token, row, sum| {
                    let (token, row) = (tile * STEP + token, row0 + index * ROWS + row);
                    if token < count && row < n {
                        put(token, row, sum);
                    }
                });
            }
        });
    });
}
