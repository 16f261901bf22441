//! Experts' matrices x the rows of their tokens on the tensor core, `tc` numerics:
//! `y[p, n] = sum over k of w[expert(p), n, k] x[p / share, k]` for pairs `p` of a token and an expert, see
//! [`crate::experts`].
//!
//! A weight is widened to f32 and rounded to the type of `x`, which changes no 16-bit one. The order of a sum is that of
//! [`crate::matmul`]; it does not depend on the other pairs. A block owns 16 rows of one expert's weights and a tile of
//! pairs, see [`crate::router`]: a warp 8 of them, or 32 where there are many tokens. How weights are read is that of
//! [`crate::qmatmul`]. Bytes moved: the weights of the experts that have pairs, once for each of their tiles; those of
//! others are not read.

use cuda_std::{Bf16, Block, F16, Geometry, In, MmaInput, Out, Scratch, Warp, kernel, unrolled};

use crate::experts::Tile;
#[cfg(not(target_arch = "nvptx64"))]
use crate::format::Stored;
use crate::format::{BLOCK, Brain, Format, Half, MXFP4, Q4_0, Q8_0};

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExpertMatMul {
    /// `[experts, n, k]`, stored.
    pub w: In<u8>,
    /// `[pairs / share, k]`, f16 or bf16 as bits.
    pub x: In<u16>,
    /// `[pairs, n]`.
    pub y: Out<f32>,
    /// `[pairs]`: see [`crate::router::Group`].
    pub sorted: In<u32>,
    /// `[count, 3]`: see [`crate::router::Group`].
    pub tiles: In<u32>,
    /// Columns of the weights; whole blocks or super-blocks, 32 also of types that have none.
    pub k: u32,
    /// Rows of an expert's weights.
    pub n: u32,
    /// Neighbouring pairs that multiply the same row.
    pub share: u32,
    /// Tiles.
    pub count: u32,
}

const WARPS: usize = 4;
const LANES: usize = WARPS * 32;
/// Rows of weights a block owns.
const ROWS: usize = 16;
/// Pairs of a tensor-core step.
const PAIRS: usize = 8;
/// Steps' pairs that a warp owns where there are many tokens.
const MANY: usize = 4;
/// Columns in a slice: two a lane.
const SLICE: usize = 2 * LANES;
/// Cells from one row of a slice to the next: not a multiple of 128 bytes, against bank conflicts.
const STRIDE: usize = SLICE + 8;
/// Steps whose inputs are under way at once.
const AHEAD: usize = 4;

/// Pairs of a tile at most, of the kernel for so many pairs and experts.
pub fn tile(pairs: usize, experts: usize) -> usize {
    let few = WARPS * PAIRS;
    if pairs > few * experts { MANY * few } else { few }
}

fn geometry<const OCTETS: usize>(a: &ExpertMatMul) -> Geometry {
    Geometry {
        grid: [(a.n as usize).div_ceil(ROWS), a.count as usize],
        scratch: 2 * 2 * ROWS * STRIDE + 4 * WARPS * OCTETS * PAIRS,
    }
}

#[inline(always)]
fn matmul<B: Block, F: Format, I: MmaInput, const OCTETS: usize>(block: &B, a: &ExpertMatMul) {
    let (k, n, share) = (a.k as usize, a.n as usize, a.share as usize);
    let Tile { expert, first: first_pair, count } = Tile::get(&a.tiles, block.y());
    if count == 0 {
        return;
    }
    let row0 = block.x() * ROWS;
    let tile = block.scratch::<u16>(2 * ROWS * STRIDE);
    // By pair: its row of `x`.
    let inputs = block.scratch::<u32>(WARPS * OCTETS * PAIRS);
    block.each(WARPS * OCTETS * PAIRS, |lane, t| {
        let row = if t < count { a.sorted.get(first_pair + t) as usize / share } else { 0 };
        inputs.set(lane, t, row as u32);
    });

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
                    let place = F::place((expert * n + (row0 + row).min(n - 1)) * F::row_bytes(k), b);
                    read[row] = F::pair(&a.w, place, F::scale::<B>(&a.w, place), lane % 16).map(I::bits);
                });
                values[lane] = read;
            })
        };
    }

    read!(0);
    let mut sums = block.per_warp::<_, WARPS>(|_, warp| [warp.zero(); OCTETS]);
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
            let pair0 = index * OCTETS * PAIRS;
            if pair0 < count {
                let steps = SLICE.min(k - first) / 16;
                for step in (0..steps).step_by(AHEAD) {
                    unrolled::<AHEAD>(|i| {
                        // Past the slice's end the inputs are zeros, which leave every sum as it is.
                        let (column0, there) = ((step + i) * 16, step + i < steps);
                        let w = warp.load_a(&tile, |row, octet| (place + row) * STRIDE + column0 + octet * 8);
                        unrolled::<OCTETS>(|octet| {
                            let x = warp.fill_b(|column, row| {
                                let t = pair0 + octet * PAIRS + column;
                                let input = inputs.get(index * 32, t) as usize;
                                a.x.pair_if(there && t < count, input * k + first + column0 + row)
                            });
                            warp.mma::<I>(&w, &x, &mut sums[index][octet]);
                        });
                    });
                }
            }
        });
        place = ROWS - place;
    }
    block.warps(|index, warp| {
        unrolled::<OCTETS>(|octet| {
            warp.each_c(&sums[index][octet], |_, row, column, sum| {
                let t = (index * OCTETS + octet) * PAIRS + column;
                if row0 + row < n && t < count {
                    a.y.set(a.sorted.get(first_pair + t) as usize * n + row0 + row, sum);
                }
            });
        });
    });
}

/// Two kernels a stored type: for few and for many pairs an expert.
macro_rules! kernels {
    ($($stored:ident: $FEW:ident = $few:ident, $MANY:ident = $many:ident, $format:ty, $input:ty;)*) => {
        $(kernel! {
            /// See the module; the name tells the stored type and how many pairs a block computes.
            pub $FEW = $few(ExpertMatMul), lanes: LANES, geometry: geometry::<1>, body: matmul::<_, $format, $input, 1>
        }
        kernel! {
            /// See the module; the name tells the stored type and how many pairs a block computes.
            pub $MANY = $many(ExpertMatMul), lanes: LANES, geometry: geometry::<MANY>,
            body: matmul::<_, $format, $input, MANY>
        })*

        /// The kernel for weights stored so and tiles of so many pairs, see [`tile`]; none for F32, and for types that experts
        /// have not been seen in.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(stored: Stored, tile: usize) -> Option<&'static cuda_std::Kernel<ExpertMatMul>> {
            match stored {
                $(Stored::$stored => Some(if tile == WARPS * PAIRS { &$FEW } else { &$MANY }),)*
                _ => None,
            }
        }
    };
}

kernels! {
    F16: F16_32 = expert_matmul__f16_32, F16_128 = expert_matmul__f16_128, Half, F16;
    BF16: BF16_32 = expert_matmul__bf16_32, BF16_128 = expert_matmul__bf16_128, Brain, Bf16;
    Q8_0: Q8_0_32 = expert_matmul__q8_0_32, Q8_0_128 = expert_matmul__q8_0_128, Q8_0, F16;
    Q4_0: Q4_0_32 = expert_matmul__q4_0_32, Q4_0_128 = expert_matmul__q4_0_128, Q4_0, F16;
    MXFP4: MXFP4_32 = expert_matmul__mxfp4_32, MXFP4_128 = expert_matmul__mxfp4_128, MXFP4, Bf16;
}
