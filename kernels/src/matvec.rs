//! Matrix x few rows, f32 numerics: `y[t, n] = sum over k of w[n, k] x[t, k]`.
//!
//! `w` is `[n, k]` in its stored form, `x` `[m, k]`, `y` `[m, n]`, both f32.
//!
//! The order of the sum, for any `m` and any device: 16 lanes; lane `l` folds elements `l, l + 16, l + 32, ...` by fused
//! multiply-adds from zero; then lane `l` takes lane `l + 8`, `l + 4`, `l + 2`, `l + 1`.
//!
//! A group of 16 lanes owns two rows of `w` and `M` rows of `x`, so a weight is read once for `M` tokens and a value of
//! `x` once for two weights. Bytes moved: `w` once for each `M` tokens, `x` from cache.

use core::array::from_fn;

use cuda_std::math::mul_add;
use cuda_std::{Block, Geometry, In, Out, Team, kernel};

use crate::format::{BLOCK, Brain, F32, Format, Half, Q4_0, Q4_1, Q8_0};

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct MatVec {
    /// `[n, k]`, stored.
    pub w: In<u8>,
    /// `[m, k]`.
    pub x: In<f32>,
    /// `[m, n]`.
    pub y: Out<f32>,
    /// Columns of the weights; a multiple of 32 if they are quantised.
    pub k: u32,
    /// Rows of the weights.
    pub n: u32,
    /// Rows of `x`: tokens.
    pub m: u32,
}

/// Lanes in a block.
const LANES: usize = 64;
/// Lanes that share a sum.
const GROUP: usize = 16;
/// Rows of weights a group owns.
const ROWS: usize = 2;
/// Rows of weights a block owns.
const BLOCK_ROWS: usize = LANES / GROUP * ROWS;

fn geometry<const M: usize>(a: &MatVec) -> Geometry {
    Geometry { grid: [(a.n as usize).div_ceil(BLOCK_ROWS), (a.m as usize).div_ceil(M)], scratch: 0 }
}

#[inline(always)]
fn matvec<B: Block, F: Format, const M: usize>(block: &B, a: &MatVec) {
    let (k, n, m) = (a.k as usize, a.n as usize, a.m as usize);
    block.groups::<GROUP>(|index, group| {
        let (row0, token0) = (block.x() * BLOCK_ROWS + index * ROWS, block.y() * M);
        if row0 >= n {
            return;
        }
        // Past the end the last row is computed again, and not stored.
        let rows: [usize; ROWS] = from_fn(|r| (row0 + r).min(n - 1) * F::row_bytes(k));
        let tokens: [usize; M] = from_fn(|t| (token0 + t).min(m - 1) * k);
        let mut sums = [[group.per_lane(0.0f32); M]; ROWS];

        for b in 0..k / BLOCK {
            let at: [usize; ROWS] = from_fn(|r| rows[r] + b * F::BYTES);
            let scales: [F::Scale; ROWS] = from_fn(|r| F::scale::<B>(&a.w, at[r]));
            group.lanes(|lane| {
                for r in 0..ROWS {
                    let [w0, w1] = F::pair(&a.w, at[r], scales[r], lane);
                    for t in 0..M {
                        let x = tokens[t] + b * BLOCK + lane;
                        let sum = mul_add(w0, a.x.get(x), sums[r][t][lane]);
                        sums[r][t][lane] = mul_add(w1, a.x.get(x + GROUP), sum);
                    }
                }
            });
        }
        if F::PARTIAL {
            let whole = k / BLOCK * BLOCK;
            group.each(k - whole, |lane, i| {
                for r in 0..ROWS {
                    let w = F::value::<B>(&a.w, rows[r] + F::row_bytes(whole), i);
                    for t in 0..M {
                        sums[r][t][lane] = mul_add(w, a.x.get(tokens[t] + whole + i), sums[r][t][lane]);
                    }
                }
            });
        }

        for (r, sums) in sums.iter().enumerate() {
            for (t, sum) in sums.iter().enumerate() {
                let y = group.sum(sum);
                group.lanes(|lane| {
                    if lane == 0 && row0 + r < n && token0 + t < m {
                        a.y.set((token0 + t) * n + row0 + r, y);
                    }
                });
            }
        }
    });
}

/// One kernel a stored type and a number of tokens.
macro_rules! kernels {
    ($($NAME:ident = $entry:ident, $format:ty, $tokens:literal;)*) => {$(
        kernel! {
            /// See the module; the name tells the stored type and how many rows of `x` a block computes.
            pub $NAME = $entry(MatVec), lanes: LANES, geometry: geometry::<$tokens>, body: matvec::<_, $format, $tokens>
        }
    )*};
}

kernels! {
    F32_1 = matvec__f32_1, F32, 1;
    F32_8 = matvec__f32_8, F32, 8;
    F16_1 = matvec__f16_1, Half, 1;
    F16_8 = matvec__f16_8, Half, 8;
    BF16_1 = matvec__bf16_1, Brain, 1;
    BF16_8 = matvec__bf16_8, Brain, 8;
    Q8_0_1 = matvec__q8_0_1, Q8_0, 1;
    Q8_0_8 = matvec__q8_0_8, Q8_0, 8;
    Q4_0_1 = matvec__q4_0_1, Q4_0, 1;
    Q4_0_8 = matvec__q4_0_8, Q4_0, 8;
    Q4_1_1 = matvec__q4_1_1, Q4_1, 1;
    Q4_1_8 = matvec__q4_1_8, Q4_1, 8;
}
