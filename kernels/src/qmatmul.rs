//! Quantised matrix x few rows on the tensor core, `tc` numerics: `y[t, n] = sum over k of w[n, k] x[t, k]`.
//!
//! `w` is `[n, k]` in its stored form; a value is dequantised in f32 and rounded to f16, in the register that the tensor
//! core takes it from. `x` is `[m, k]` f16 and `y` f32 `[m, n]`. The order of the sum is that of [`crate::matmul`].
//!
//! A warp owns 16 rows of the weights and 8 of `x`. The 32 values of a stored block are two steps: a lane reads the bytes
//! of its own elements, of which value `i` and value `i + 16` are often one. Bytes moved: the stored ones for each 8
//! tokens.

use cuda_std::{Block, F16, Geometry, In, Out, Warp, kernel, unrolled};

use crate::format::{BLOCK, Format, Q4_0, Q4_1, Q8_0};

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct QMatMul {
    /// `[n, k]`, stored.
    pub w: In<u8>,
    /// `[m, k]`, f16 as bits.
    pub x: In<u16>,
    /// `[m, n]`.
    pub y: Out<f32>,
    /// Columns of the weights; a multiple of 32.
    pub k: u32,
    /// Rows of the weights.
    pub n: u32,
    /// Rows of `x`: tokens.
    pub m: u32,
}

/// Lanes in a block: two warps.
const LANES: usize = 64;
/// Rows of weights a warp owns.
const ROWS: usize = 16;
/// Blocks whose bytes are under way at once: without it each would wait for the memory by itself.
const AHEAD: usize = 4;
/// Tokens a warp owns.
const TOKENS: usize = 8;

fn geometry(a: &QMatMul) -> Geometry {
    let rows = ROWS * LANES / 32;
    Geometry { grid: [(a.n as usize).div_ceil(rows), (a.m as usize).div_ceil(TOKENS)], scratch: 0 }
}

#[inline(always)]
fn bits(value: f32) -> u16 {
    F16::from_f32(value).0
}

#[inline(always)]
fn qmatmul<B: Block, F: Format>(block: &B, a: &QMatMul) {
    let (k, n, m) = (a.k as usize, a.n as usize, a.m as usize);
    block.warps(|index, warp| {
        let (row0, token0) = ((block.x() * (LANES / 32) + index) * ROWS, block.y() * TOKENS);
        if row0 >= n {
            return;
        }
        let mut sums = warp.zero();
        let blocks = k / BLOCK;
        for first in (0..blocks).step_by(AHEAD) {
            unrolled::<AHEAD>(|i| {
                // Past the end the last block is read again, and multiplied by zeros, which leaves every sum as it is.
                let (b, there) = ((first + i).min(blocks - 1), first + i < blocks);
                let weights = warp.fill_a::<2>(|row, column| {
                    // Past the end the last row is computed again, and not stored.
                    let at = (row0 + row).min(n - 1) * F::row_bytes(k) + b * F::BYTES;
                    let [[w0, w1], [w16, w17]] = F::square(&a.w, at, F::scale::<B>(&a.w, at), column);
                    [[bits(w0), bits(w1)], [bits(w16), bits(w17)]]
                });
                unrolled::<2>(|step| {
                    let x = warp.fill_b(|column, row| {
                        let token = token0 + column;
                        let at = b * BLOCK + step * 16 + row;
                        if there && token < m { a.x.pair(token * k + at) } else { [0, 0] }
                    });
                    warp.mma::<F16>(&weights[step], &x, &mut sums);
                });
            });
        }
        warp.each_c(&sums, |_, row, token, sum| {
            if row0 + row < n && token0 + token < m {
                a.y.set((token0 + token) * n + row0 + row, sum);
            }
        });
    });
}

macro_rules! kernels {
    ($($NAME:ident = $entry:ident, $format:ty;)*) => {$(
        kernel! {
            /// See the module; the name tells the stored type.
            pub $NAME = $entry(QMatMul), lanes: LANES, geometry: geometry, body: qmatmul::<_, $format>
        }
    )*};
}

kernels! {
    Q8_0_F16 = qmatmul__q8_0, Q8_0;
    Q4_0_F16 = qmatmul__q4_0, Q4_0;
    Q4_1_F16 = qmatmul__q4_1, Q4_1;
}
