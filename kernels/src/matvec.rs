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
#[cfg(target_arch = "nvptx64")]
use cuda_std::unrolled;
use cuda_std::{Block, Geometry, In, Out, Team, kernel};

#[cfg(not(target_arch = "nvptx64"))]
use crate::format::Stored;
use crate::format::{
    BLOCK, Brain, F32, Format, Half, IQ4_NL, IQ4_XS, MXFP4, Place, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1,
    Q5_K, Q6_K, Q8_0,
};

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
    /// Columns of the weights; whole blocks or super-blocks if they are quantised.
    pub k: u32,
    /// Rows of the weights.
    pub n: u32,
    /// Rows of `x`: tokens.
    pub m: u32,
}

/// Lanes in a block.
pub(crate) const LANES: usize = 64;
/// Lanes that share a sum.
pub(crate) const GROUP: usize = 16;
/// Rows of weights a group owns.
pub(crate) const ROWS: usize = 2;
/// Blocks of 32 columns that a GPU waits for at once.
#[cfg(target_arch = "nvptx64")]
const AHEAD: usize = 4;
/// Rows of weights a block owns.
pub(crate) const BLOCK_ROWS: usize = LANES / GROUP * ROWS;

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
        chains::<B, F, M>(group, &a.w, &a.x, k, rows, tokens, |r, t, y| {
            if row0 + r < n && token0 + t < m {
                a.y.set((token0 + t) * n + row0 + r, y);
            }
        });
    });
}

/// `put(r, t, y)` with the sum `y` of the weights from byte `rows[r]` on and the `k` values of `x` from `tokens[t]` on, in
/// the module's order.
#[inline(always)]
pub(crate) fn chains<B: Block, F: Format, const M: usize>(
    group: &B::Group<GROUP>,
    w: &In<u8>,
    x: &In<f32>,
    k: usize,
    rows: [usize; ROWS],
    tokens: [usize; M],
    mut put: impl FnMut(usize, usize, f32),
) {
    let mut sums = [[group.per_lane(0.0f32); M]; ROWS];
    let blocks = k / BLOCK;
    // A GPU waits for several blocks at once. A CPU reads ahead by itself, and makes SIMD of the plain loop below.
    #[cfg(target_arch = "nvptx64")]
    group.lanes(|lane| {
        macro_rules! fold {
            ($ahead:expr, $first:expr) => {
                let place: [[Place; ROWS]; $ahead] = from_fn(|i| rows.map(|row| F::place(row, $first + i)));
                let shared = place.map(|places| places.map(|place| F::shared(w, place)));
                let raw = place.map(|places| places.map(|place| F::read::<1>(w, place, lane)));
                let x: [[[f32; 2]; M]; $ahead] = from_fn(|i| {
                    let at = ($first + i) * BLOCK + lane;
                    tokens.map(|token| [x.get(token + at), x.get(token + at + GROUP)])
                });
                unrolled::<$ahead>(|i| {
                    for r in 0..ROWS {
                        let scale = F::scale::<B>(shared[i][r], place[i][r]);
                        let [[w0], [w1]] = F::values(raw[i][r], place[i][r], scale, lane);
                        for t in 0..M {
                            let sum = mul_add(w0, x[i][t][0], sums[r][t][lane]);
                            sums[r][t][lane] = mul_add(w1, x[i][t][1], sum);
                        }
                    }
                });
            };
        }
        let mut first = 0;
        while first + AHEAD <= blocks {
            fold!(AHEAD, first);
            first += AHEAD;
        }
        while first < blocks {
            fold!(1, first);
            first += 1;
        }
    });
    #[cfg(not(target_arch = "nvptx64"))]
    for b in 0..blocks {
        let places: [Place; ROWS] = from_fn(|r| F::place(rows[r], b));
        let scales: [F::Scale; ROWS] = from_fn(|r| F::scale::<B>(F::shared(w, places[r]), places[r]));
        group.lanes(|lane| {
            for r in 0..ROWS {
                let [[w0], [w1]] = F::values(F::read(w, places[r], lane), places[r], scales[r], lane);
                for t in 0..M {
                    let at = tokens[t] + b * BLOCK + lane;
                    let sum = mul_add(w0, x.get(at), sums[r][t][lane]);
                    sums[r][t][lane] = mul_add(w1, x.get(at + GROUP), sum);
                }
            }
        });
    }
    if F::PARTIAL {
        let whole = k / BLOCK * BLOCK;
        group.each(k - whole, |lane, i| {
            for r in 0..ROWS {
                let w = F::value::<B>(w, F::place(rows[r], k / BLOCK), i);
                for t in 0..M {
                    sums[r][t][lane] = mul_add(w, x.get(tokens[t] + whole + i), sums[r][t][lane]);
                }
            }
        });
    }
    for (r, sums) in sums.iter().enumerate() {
        for (t, sum) in sums.iter().enumerate() {
            let y = group.sum(sum);
            group.lanes(|lane| {
                if lane == 0 {
                    put(r, t, y);
                }
            });
        }
    }
}

/// Two kernels a stored type: for one token, and for eight.
macro_rules! kernels {
    ($($stored:ident: $ONE:ident = $one:ident, $EIGHT:ident = $eight:ident, $format:ty;)*) => {
        $(kernel! {
            /// See the module; the name tells the stored type and how many rows of `x` a block computes.
            pub $ONE = $one(MatVec), lanes: LANES, geometry: geometry::<1>, body: matvec::<_, $format, 1>
        }
        kernel! {
            /// See the module; the name tells the stored type and how many rows of `x` a block computes.
            pub $EIGHT = $eight(MatVec), lanes: LANES, geometry: geometry::<8>, body: matvec::<_, $format, 8>
        })*

        /// The kernel for weights stored so and so many tokens: beyond one, eight share a reading of the weights.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(stored: Stored, tokens: usize) -> &'static cuda_std::Kernel<MatVec> {
            match stored {
                $(Stored::$stored => if tokens == 1 { &$ONE } else { &$EIGHT },)*
            }
        }
    };
}

kernels! {
    F32: F32_1 = matvec__f32_1, F32_8 = matvec__f32_8, F32;
    F16: F16_1 = matvec__f16_1, F16_8 = matvec__f16_8, Half;
    BF16: BF16_1 = matvec__bf16_1, BF16_8 = matvec__bf16_8, Brain;
    Q8_0: Q8_0_1 = matvec__q8_0_1, Q8_0_8 = matvec__q8_0_8, Q8_0;
    Q4_0: Q4_0_1 = matvec__q4_0_1, Q4_0_8 = matvec__q4_0_8, Q4_0;
    Q4_1: Q4_1_1 = matvec__q4_1_1, Q4_1_8 = matvec__q4_1_8, Q4_1;
    Q5_0: Q5_0_1 = matvec__q5_0_1, Q5_0_8 = matvec__q5_0_8, Q5_0;
    Q5_1: Q5_1_1 = matvec__q5_1_1, Q5_1_8 = matvec__q5_1_8, Q5_1;
    Q2_K: Q2_K_1 = matvec__q2_k_1, Q2_K_8 = matvec__q2_k_8, Q2_K;
    Q3_K: Q3_K_1 = matvec__q3_k_1, Q3_K_8 = matvec__q3_k_8, Q3_K;
    Q4_K: Q4_K_1 = matvec__q4_k_1, Q4_K_8 = matvec__q4_k_8, Q4_K;
    Q5_K: Q5_K_1 = matvec__q5_k_1, Q5_K_8 = matvec__q5_k_8, Q5_K;
    Q6_K: Q6_K_1 = matvec__q6_k_1, Q6_K_8 = matvec__q6_k_8, Q6_K;
    IQ4_NL: IQ4_NL_1 = matvec__iq4_nl_1, IQ4_NL_8 = matvec__iq4_nl_8, IQ4_NL;
    IQ4_XS: IQ4_XS_1 = matvec__iq4_xs_1, IQ4_XS_8 = matvec__iq4_xs_8, IQ4_XS;
    MXFP4: MXFP4_1 = matvec__mxfp4_1, MXFP4_8 = matvec__mxfp4_8, MXFP4;
}
