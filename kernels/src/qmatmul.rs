//! Quantised matrix x few rows on the tensor core, `tc` numerics: `y[t, n] = sum over k of w[n, k] x[t, k]`.
//!
//! `w` is `[n, k]` in its stored form; a value is dequantised in f32 and rounded to f16 or, where scales exceed that, bf16.
//! `x` is `[m, k]` of the same type and `y` f32 `[m, n]`. The order of the sum is that of [`crate::matmul`].
//!
//! A block owns 16 rows of the weights and 32 of `x`, a warp 8 of these. All its lanes read a slice of 256 columns, a lane
//! values `i` and `i + 16` of a stored block in each of the 16 rows, so that many loads are under way at once; they leave it
//! as 16-bit floats in scratch memory. While the warps multiply it the next slice is read into registers. Bytes moved: the stored
//! ones for each 32 tokens.

use cuda_std::{Bf16, Block, F16, Geometry, In, MmaInput, Out, Scratch, Warp, kernel, unrolled};

#[cfg(not(target_arch = "nvptx64"))]
use crate::format::Stored;
use crate::format::{
    BLOCK, Format, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0,
};

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct QMatMul {
    /// `[n, k]`, stored.
    pub w: In<u8>,
    /// `[m, k]`, f16 or bf16 as bits.
    pub x: In<u16>,
    /// `[m, n]`.
    pub y: Out<f32>,
    /// Columns of the weights; whole blocks or super-blocks.
    pub k: u32,
    /// Rows of the weights.
    pub n: u32,
    /// Rows of `x`: tokens.
    pub m: u32,
}

const WARPS: usize = 4;
const LANES: usize = WARPS * 32;
/// Rows of weights a block owns.
const ROWS: usize = 16;
/// Tokens a warp owns.
const TOKENS: usize = 8;
/// Columns in a slice: two a lane.
const SLICE: usize = 2 * LANES;
/// Cells from one row of a slice to the next: not a multiple of 128 bytes, against bank conflicts.
const STRIDE: usize = SLICE + 8;
/// Steps whose inputs are under way at once.
const AHEAD: usize = 4;

fn geometry(a: &QMatMul) -> Geometry {
    let grid = [(a.n as usize).div_ceil(ROWS), (a.m as usize).div_ceil(WARPS * TOKENS)];
    Geometry { grid, scratch: 2 * 2 * ROWS * STRIDE }
}

#[inline(always)]
fn qmatmul<B: Block, F: Format, I: MmaInput>(block: &B, a: &QMatMul) {
    let (k, n, m) = (a.k as usize, a.n as usize, a.m as usize);
    let (row0, token0) = (block.x() * ROWS, block.y() * WARPS * TOKENS);
    let tile = block.scratch::<u16>(2 * ROWS * STRIDE);

    // A lane's two values of each row, of the slice from column `first` on.
    let mut values = block.per_lane([[0u16; 2]; ROWS]);
    macro_rules! read {
        ($first:expr) => {
            block.lanes(|lane| {
                // Past the end the last block and the last row are read again: their sums are not stored, or
                // multiplied by zeros.
                let b = ($first / BLOCK + lane / 16).min(k / BLOCK - 1);
                let mut read = [[0u16; 2]; ROWS];
                unrolled::<ROWS>(|row| {
                    let place = F::place((row0 + row).min(n - 1) * F::row_bytes(k), b);
                    let [one, two] = F::pair(&a.w, place, F::scale::<B>(&a.w, place), lane % 16);
                    read[row] = [I::bits(one), I::bits(two)];
                });
                values[lane] = read;
            })
        };
    }

    read!(0);
    let mut sums = block.per_warp::<_, WARPS>(|_, warp| warp.zero());
    let mut place = 0;
    for first in (0..k).step_by(SLICE) {
        block.lanes(|lane| {
            let column = lane / 16 * BLOCK + lane % 16;
            unrolled::<ROWS>(|row| {
                let [one, two] = values[lane][row];
                tile.set(lane, (place + row) * STRIDE + column, one);
                tile.set(lane, (place + row) * STRIDE + column + 16, two);
            });
        });
        // The slice is there; and all are done with the one before the last, whose place is filled next.
        block.barrier();
        if first + SLICE < k {
            read!(first + SLICE);
        }
        block.warps(|index, warp| {
            let token0 = token0 + index * TOKENS;
            if token0 < m {
                let steps = SLICE.min(k - first) / 16;
                for step in (0..steps).step_by(AHEAD) {
                    unrolled::<AHEAD>(|i| {
                        // Past the slice's end the inputs are zeros, which leave every sum as it is.
                        let (column0, there) = ((step + i) * 16, step + i < steps);
                        let w = warp.load_a(&tile, |row, octet| (place + row) * STRIDE + column0 + octet * 8);
                        let x = warp.fill_b(|column, row| {
                            let token = token0 + column;
                            a.x.pair_if(there && token < m, token * k + first + column0 + row)
                        });
                        warp.mma::<I>(&w, &x, &mut sums[index]);
                    });
                }
            }
        });
        place = ROWS - place;
    }
    block.warps(|index, warp| {
        warp.each_c(&sums[index], |_, row, column, sum| {
            let token = token0 + index * TOKENS + column;
            if row0 + row < n && token < m {
                a.y.set(token * n + row0 + row, sum);
            }
        });
    });
}

macro_rules! kernels {
    ($($NAME:ident = $entry:ident, $format:ident, $input:ty;)*) => {
        $(kernel! {
            /// See the module; the name tells the stored type and that of `x`.
            pub $NAME = $entry(QMatMul), lanes: LANES, geometry: geometry, body: qmatmul::<_, $format, $input>
        })*

        /// The kernel for weights stored so, if they are quantised.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(stored: Stored) -> Option<&'static cuda_std::Kernel<QMatMul>> {
            match stored {
                Stored::F32 | Stored::F16 | Stored::BF16 => None,
                $(Stored::$format => Some(&$NAME),)*
            }
        }
    };
}

kernels! {
    Q8_0_F16 = qmatmul__q8_0, Q8_0, F16;
    Q4_0_F16 = qmatmul__q4_0, Q4_0, F16;
    Q4_1_F16 = qmatmul__q4_1, Q4_1, F16;
    Q5_0_F16 = qmatmul__q5_0, Q5_0, F16;
    Q5_1_F16 = qmatmul__q5_1, Q5_1, F16;
    Q2_K_F16 = qmatmul__q2_k, Q2_K, F16;
    Q3_K_F16 = qmatmul__q3_k, Q3_K, F16;
    Q4_K_F16 = qmatmul__q4_k, Q4_K, F16;
    Q5_K_F16 = qmatmul__q5_k, Q5_K, F16;
    Q6_K_F16 = qmatmul__q6_k, Q6_K, F16;
    IQ4_NL_F16 = qmatmul__iq4_nl, IQ4_NL, F16;
    IQ4_XS_F16 = qmatmul__iq4_xs, IQ4_XS, F16;
    MXFP4_BF16 = qmatmul__mxfp4, MXFP4, Bf16;
}
