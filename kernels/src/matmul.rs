//! Matrix x few rows on the tensor core, `tc` numerics: `y[t, n] = sum over k of w[n, k] x[t, k]`.
//!
//! `w` is `[n, k]` and `x` `[m, k]`, both bf16 or both f16; `y` is f32 `[m, n]`. The order of the sum is the one order:
//! one f32 accumulator from zero, `k` upwards in tensor-core steps of 16, never split.
//!
//! A warp owns 16 rows of the weights and 8 of `x`. It keeps [`STAGES`] slices of 128 columns in shared memory, each
//! filled by 16-byte asynchronous copies while the slices before it are multiplied, so that enough bytes are in flight to
//! cover the memory's latency. Within a slice the 16-byte units of row `r` are permuted by XOR with `r mod 8`: the eight
//! rows that a matrix load reads at once then lie in different banks.
//!
//! Bytes moved: `2 n k` for each 8 tokens.

use cuda_std::{Bf16, Block, F16, Geometry, In, MmaInput, Out, Scratch, Team, Warp, kernel};

/// Arguments of [`BF16`] and [`F16_`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct MatMul {
    /// `[n, k]`, 16-bit floats as bits.
    pub w: In<u16>,
    /// `[m, k]`, the same type.
    pub x: In<u16>,
    /// `[m, n]`.
    pub y: Out<f32>,
    /// Columns of the weights; a multiple of 8.
    pub k: u32,
    /// Rows of the weights.
    pub n: u32,
    /// Rows of `x`: tokens.
    pub m: u32,
}

/// Lanes in a block: two warps.
const LANES: usize = 64;
/// Slices in shared memory.
const STAGES: usize = 4;
/// Columns in a slice.
const SLICE: usize = 128;
/// 16-byte units in a row of a slice.
const UNITS: usize = SLICE / 8;
/// Rows of weights a warp owns.
const ROWS: usize = 16;
/// Tokens a warp owns.
const TOKENS: usize = 8;

fn geometry(a: &MatMul) -> Geometry {
    let warps = LANES / 32;
    Geometry {
        grid: [(a.n as usize).div_ceil(ROWS * warps), (a.m as usize).div_ceil(TOKENS)],
        scratch: 2 * warps * STAGES * (ROWS + TOKENS) * SLICE,
    }
}

/// The cell in a slice where unit `unit` of row `row` begins.
#[inline(always)]
fn swizzled(row: usize, unit: usize) -> usize {
    (row * UNITS + (unit ^ (row % UNITS))) * 8
}

#[inline(always)]
fn matmul<B: Block, I: MmaInput>(block: &B, a: &MatMul) {
    let (k, n, m) = (a.k as usize, a.n as usize, a.m as usize);
    let warps = LANES / 32;
    let weights = block.scratch::<u16>(warps * STAGES * ROWS * SLICE);
    let inputs = block.scratch::<u16>(warps * STAGES * TOKENS * SLICE);

    block.warps(|index, warp| {
        let (row0, token0) = ((block.x() * warps + index) * ROWS, block.y() * TOKENS);
        let slices = k.div_ceil(SLICE);
        let at = |slice: usize| index * STAGES + slice % STAGES;
        // Begin to copy a slice; what lies outside of the matrices becomes zero.
        let fetch_weights = |slice: usize| {
            warp.lanes(|lane| {
                for unit in (lane..ROWS * UNITS).step_by(32) {
                    let (row, unit) = (unit / UNITS, unit % UNITS);
                    let column = slice * SLICE + unit * 8;
                    let to = at(slice) * ROWS * SLICE + swizzled(row, unit);
                    let valid = row0 + row < n && column < k;
                    weights.copy_async(index * 32 + lane, to, &a.w, (row0 + row) * k + column, valid);
                }
            });
        };
        let fetch_inputs = |slice: usize| {
            warp.lanes(|lane| {
                for unit in (lane..TOKENS * UNITS).step_by(32) {
                    let (token, unit) = (unit / UNITS, unit % UNITS);
                    let column = slice * SLICE + unit * 8;
                    let to = at(slice) * TOKENS * SLICE + swizzled(token, unit);
                    let valid = token0 + token < m && column < k;
                    inputs.copy_async(index * 32 + lane, to, &a.x, (token0 + token) * k + column, valid);
                }
            });
        };

        // No kernel writes weights.
        for slice in 0..STAGES - 1 {
            fetch_weights(slice);
        }
        block.await_predecessors();
        for slice in 0..STAGES - 1 {
            fetch_inputs(slice);
            warp.copies_commit();
        }
        let mut sums = warp.zero();
        for slice in 0..slices {
            // Slice `slice` has arrived; and all lanes are done with the one before it, whose place is filled next.
            warp.copies_wait::<{ STAGES - 2 }>();
            fetch_weights(slice + STAGES - 1);
            fetch_inputs(slice + STAGES - 1);
            warp.copies_commit();
            for step in 0..SLICE / 16 {
                let (w, x) = (at(slice) * ROWS * SLICE, at(slice) * TOKENS * SLICE);
                let w = warp.load_a(&weights, |row, octet| w + swizzled(row, step * 2 + octet));
                let x = warp.load_b(&inputs, |token, octet| x + swizzled(token, step * 2 + octet));
                warp.mma::<I>(&w, &x, &mut sums);
            }
        }
        block.launch_successor();
        warp.each_c(&sums, |_, row, token, sum| {
            if row0 + row < n && token0 + token < m {
                a.y.set((token0 + token) * n + row0 + row, sum);
            }
        });
    });
}

kernel! {
    /// bf16 weights and inputs.
    pub BF16 = matmul__bf16(MatMul), lanes: LANES, geometry: geometry, body: matmul::<_, Bf16>,
    streams: weights
}
kernel! {
    /// f16 weights and inputs.
    pub F16_ = matmul__f16(MatMul), lanes: LANES, geometry: geometry, body: matmul::<_, F16>,
    streams: weights
}
