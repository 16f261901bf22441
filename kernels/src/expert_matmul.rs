//! Experts' matrices x the rows of their tokens on the tensor core, `tc` numerics:
//! `y[p, n] = sum over k of w[expert(p), n, k] x[p / share, k]` for pairs `p` of a token and an expert, see
//! [`crate::experts`].
//!
//! A weight is dequantised into the type of `x` ([`Format::rounded`]). The order of a sum is that of
//! [`crate::matmul`]; it does not depend on the other pairs. A block owns rows of one expert's weights and a tile of
//! pairs, see [`crate::router`]; it is that of `streamed.rs`. Bytes moved: the weights of the experts that have pairs, once
//! for each of their tiles; those of others are not read.

use cuda_std::{Bf16, Block, F16, Geometry, In, MmaInput, Out, Scratch, kernel};

use crate::experts::Tile as Pairs;
#[cfg(not(target_arch = "nvptx64"))]
use crate::format::Stored;
use crate::format::{Brain, Format, Half, IQ4_NL, MXFP4, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use crate::streamed::{self, Operands};
use crate::tile::{Tile, tiled};

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExpertMatMul {
    /// `[experts, n, k]`, stored; and what fills the last 16 bytes up, whatever it is.
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

/// Pairs of a tile at most, of the kernel for so many pairs and experts, whose blocks may take `room` bytes of scratch memory.
#[cfg(not(target_arch = "nvptx64"))]
pub fn tile(pairs: usize, experts: usize, room: usize) -> usize {
    let fits = |pairs: &usize| {
        let tile =
            [Tile::FEW, Tile::MANY_WIDE, Tile::MOST_WIDE].into_iter().find(|tile| tile.tokens() == *pairs);
        // Of no stored type that experts have a row is longer.
        tile.is_some_and(|tile| scratch::<Half>(tile) <= room)
    };
    let mut tiles = TILES.into_iter().filter(fits);
    let enough = tiles.clone().find(|tile| pairs <= tile * experts);
    enough.or(tiles.next_back()).unwrap_or(TILES[0])
}

/// Pairs of a tile that there are kernels for.
#[cfg(not(target_arch = "nvptx64"))]
pub const TILES: [usize; 3] = [8, 32, 64];

fn geometry<F: Format>(tile: Tile, a: &ExpertMatMul) -> Geometry {
    Geometry { grid: [(a.n as usize).div_ceil(tile.rows()), a.count as usize], scratch: scratch::<F>(tile) }
}

/// Bytes of scratch memory of a block.
fn scratch<F: Format>(tile: Tile) -> usize {
    tile.scratch::<F>(tile.tokens()) + 4 * tile.tokens()
}

#[inline(always)]
fn matmul<
    B: Block,
    F: Format,
    I: MmaInput,
    const WARPS: usize,
    const EIGHTS: usize,
    const PART: usize,
    const SIXTEENS: usize,
    const PARTS: usize,
    const GROUP: bool,
    const COLUMNS: usize,
    const PADDED: bool,
>(
    block: &B,
    a: &ExpertMatMul,
) {
    let ExpertMatMul { w, x, .. } = *a;
    let (k, n, share) = (a.k as usize, a.n as usize, a.share as usize);
    block.await_predecessors();
    let Pairs { expert, first, count } = Pairs::get(&a.tiles, block.y());
    if count == 0 {
        return;
    }
    // By pair: its row of `x`.
    let inputs = block.scratch::<u32>(PART * PARTS);
    block.each(count, |lane, t| inputs.set(lane, t, a.sorted.get(first + t) / share as u32));
    block.barrier();
    streamed::multiply::<B, F, I, WARPS, EIGHTS, PART, SIXTEENS, PARTS, GROUP, COLUMNS, PADDED>(
        block,
        Operands { w, x, k, first: expert * n, n, count, gates: false },
        |lane, t| inputs.get(lane, t) as usize,
        |t, row, sum| a.y.set(a.sorted.get(first + t) as usize * n + row, sum),
        |_, _, _, _| {},
    );
}

/// A kernel for each stored type and each of [`TILES`].
macro_rules! kernels {
    ($($stored:ident, $format:ident, $input:ident { $($NAME:ident = $entry:ident, $tile:ident;)* })*) => {
        $($(kernel! {
            /// See the module; the name tells the stored type and how many pairs a block computes.
            pub $NAME = $entry(ExpertMatMul), lanes: 32 * Tile::$tile.warps,
            geometry: |a| geometry::<$format>(Tile::$tile, a),
            body: tiled!(matmul, $format, $input, $tile), streams: weights
        })*)*

        /// The kernel for weights stored so and one of [`TILES`]; none for F32, and for types whose super-blocks experts' rows have
        /// not been seen in.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(stored: Stored, tile: usize) -> Option<&'static cuda_std::Kernel<ExpertMatMul>> {
            let kernels: &[(usize, &'static cuda_std::Kernel<ExpertMatMul>)] = match stored {
                $(Stored::$stored => &[$((Tile::$tile.tokens(), &$NAME)),*],)*
                _ => return None,
            };
            kernels.iter().find(|(most, _)| tile == *most).map(|&(_, kernel)| kernel)
        }
    };
}

kernels! {
    F16, Half, F16 {
        F16_T8 = expert_matmul__f16_8, FEW;
        F16_T32 = expert_matmul__f16_32, MANY_WIDE;
        F16_T64 = expert_matmul__f16_64, MOST_WIDE;
    }
    BF16, Brain, Bf16 {
        BF16_T8 = expert_matmul__bf16_8, FEW;
        BF16_T32 = expert_matmul__bf16_32, MANY_WIDE;
        BF16_T64 = expert_matmul__bf16_64, MOST_WIDE;
    }
    Q8_0, Q8_0, F16 {
        Q8_0_T8 = expert_matmul__q8_0_8, FEW;
        Q8_0_T32 = expert_matmul__q8_0_32, MANY_WIDE;
        Q8_0_T64 = expert_matmul__q8_0_64, MOST_WIDE;
    }
    Q4_0, Q4_0, F16 {
        Q4_0_T8 = expert_matmul__q4_0_8, FEW;
        Q4_0_T32 = expert_matmul__q4_0_32, MANY_WIDE;
        Q4_0_T64 = expert_matmul__q4_0_64, MOST_WIDE;
    }
    Q4_1, Q4_1, F16 {
        Q4_1_T8 = expert_matmul__q4_1_8, FEW;
        Q4_1_T32 = expert_matmul__q4_1_32, MANY_WIDE;
        Q4_1_T64 = expert_matmul__q4_1_64, MOST_WIDE;
    }
    Q5_0, Q5_0, F16 {
        Q5_0_T8 = expert_matmul__q5_0_8, FEW;
        Q5_0_T32 = expert_matmul__q5_0_32, MANY_WIDE;
        Q5_0_T64 = expert_matmul__q5_0_64, MOST_WIDE;
    }
    Q5_1, Q5_1, F16 {
        Q5_1_T8 = expert_matmul__q5_1_8, FEW;
        Q5_1_T32 = expert_matmul__q5_1_32, MANY_WIDE;
        Q5_1_T64 = expert_matmul__q5_1_64, MOST_WIDE;
    }
    IQ4_NL, IQ4_NL, F16 {
        IQ4_NL_T8 = expert_matmul__iq4_nl_8, FEW;
        IQ4_NL_T32 = expert_matmul__iq4_nl_32, MANY_WIDE;
        IQ4_NL_T64 = expert_matmul__iq4_nl_64, MOST_WIDE;
    }
    MXFP4, MXFP4, Bf16 {
        MXFP4_T8 = expert_matmul__mxfp4_8, FEW;
        MXFP4_T32 = expert_matmul__mxfp4_32, MANY_WIDE;
        MXFP4_T64 = expert_matmul__mxfp4_64, MOST_WIDE;
    }
}
