//! Experts' matrices x the rows of their tokens, f32 numerics: `y[p, n] = sum over k of w[expert(p), n, k] x[p / share, k]`
//! for pairs `p` of a token and an expert, see [`crate::experts`].
//!
//! The order of a sum is that of [`crate::matvec`]; it does not depend on the other pairs. A block owns eight rows of one
//! expert's weights and a tile of up to `M` pairs, see [`crate::router`]. Bytes moved: the weights of the experts that have
//! pairs, once for each of their tiles; those of others are not read.

use core::array::from_fn;

use cuda_std::{Block, Geometry, In, Out, kernel};

use crate::experts::Tile;
#[cfg(not(target_arch = "nvptx64"))]
use crate::format::Stored;
use crate::format::{Brain, F32, Format, Half, IQ4_NL, MXFP4, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use crate::matvec::{BLOCK_ROWS, GROUP, LANES, ROWS, chains};

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExpertMatVec {
    /// `[experts, n, k]`, stored.
    pub w: In<u8>,
    /// `[pairs / share, k]`.
    pub x: In<f32>,
    /// `[pairs, n]`.
    pub y: Out<f32>,
    /// `[pairs]`: see [`crate::router::Group`].
    pub sorted: In<u32>,
    /// `[count, 3]`: see [`crate::router::Group`]; tiles of up to `M` pairs.
    pub tiles: In<u32>,
    /// Columns of the weights; whole blocks or super-blocks if they are quantised.
    pub k: u32,
    /// Rows of an expert's weights.
    pub n: u32,
    /// Neighbouring pairs that multiply the same row.
    pub share: u32,
    /// Tiles.
    pub count: u32,
}

/// Pairs of a tile at most, of the kernel for so many tokens.
pub fn tile(tokens: usize) -> usize {
    if tokens == 1 { 1 } else { 8 }
}

fn geometry(a: &ExpertMatVec) -> Geometry {
    Geometry { grid: [(a.n as usize).div_ceil(BLOCK_ROWS), a.count as usize], scratch: 0 }
}

#[inline(always)]
fn matvec<B: Block, F: Format, const M: usize>(block: &B, a: &ExpertMatVec) {
    let (k, n, share) = (a.k as usize, a.n as usize, a.share as usize);
    let Tile { expert, first, count } = Tile::get(&a.tiles, block.y());
    if count == 0 {
        return;
    }
    block.groups::<GROUP>(|index, group| {
        let row0 = block.x() * BLOCK_ROWS + index * ROWS;
        if row0 >= n {
            return;
        }
        // Past the end the last row or pair is computed again, and not stored.
        let pair = |t: usize| a.sorted.get(first + t.min(count - 1)) as usize;
        let rows: [usize; ROWS] = from_fn(|r| (expert * n + (row0 + r).min(n - 1)) * F::row_bytes(k));
        let inputs: [usize; M] = from_fn(|t| pair(t) / share * k);
        chains::<B, F, M>(group, &a.w, &a.x, k, rows, inputs, |r, t, y| {
            if row0 + r < n && t < count {
                a.y.set(pair(t) * n + row0 + r, y);
            }
        });
    });
}

/// Two kernels a stored type: for one token, and for more.
macro_rules! kernels {
    ($($stored:ident: $ONE:ident = $one:ident, $EIGHT:ident = $eight:ident, $format:ty;)*) => {
        $(kernel! {
            /// See the module; the name tells the stored type and how many pairs a block computes.
            pub $ONE = $one(ExpertMatVec), lanes: LANES, geometry: geometry, body: matvec::<_, $format, 1>
        }
        kernel! {
            /// See the module; the name tells the stored type and how many pairs a block computes.
            pub $EIGHT = $eight(ExpertMatVec), lanes: LANES, geometry: geometry, body: matvec::<_, $format, 8>
        })*

        /// The kernel for weights stored so and tiles of so many pairs, see [`tile`]; none for types that experts have not been
        /// seen in.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(stored: Stored, tile: usize) -> Option<&'static cuda_std::Kernel<ExpertMatVec>> {
            match stored {
                $(Stored::$stored => Some(if tile == 1 { &$ONE } else { &$EIGHT }),)*
                _ => None,
            }
        }
    };
}

kernels! {
    F32: F32_1 = expert_matvec__f32_1, F32_8 = expert_matvec__f32_8, F32;
    F16: F16_1 = expert_matvec__f16_1, F16_8 = expert_matvec__f16_8, Half;
    BF16: BF16_1 = expert_matvec__bf16_1, BF16_8 = expert_matvec__bf16_8, Brain;
    Q8_0: Q8_0_1 = expert_matvec__q8_0_1, Q8_0_8 = expert_matvec__q8_0_8, Q8_0;
    Q4_0: Q4_0_1 = expert_matvec__q4_0_1, Q4_0_8 = expert_matvec__q4_0_8, Q4_0;
    MXFP4: MXFP4_1 = expert_matvec__mxfp4_1, MXFP4_8 = expert_matvec__mxfp4_8, MXFP4;
    Q4_1: Q4_1_1 = expert_matvec__q4_1_1, Q4_1_8 = expert_matvec__q4_1_8, Q4_1;
    Q5_0: Q5_0_1 = expert_matvec__q5_0_1, Q5_0_8 = expert_matvec__q5_0_8, Q5_0;
    Q5_1: Q5_1_1 = expert_matvec__q5_1_1, Q5_1_8 = expert_matvec__q5_1_8, Q5_1;
    IQ4_NL: IQ4_NL_1 = expert_matvec__iq4_nl_1, IQ4_NL_8 = expert_matvec__iq4_nl_8, IQ4_NL;
}
