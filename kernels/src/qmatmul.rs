//! Stored matrix x few rows on the tensor core, `tc` numerics: `y[t, n] = sum over k of w[n, k] x[t, k]`.
//!
//! `w` is `[n, k]` in its stored form; a value is dequantised into f16 or, where scales exceed that, bf16 ([`Format::rounded`]);
//! 16-bit ones are taken as they are, by matrices of few rows: twice the warps of [`crate::matmul`], whose chains of steps are
//! what such a product waits for.
//! `x` is `[m, k]` of the same type and `y` f32 `[m, n]`. The order of the sum is that of [`crate::matmul`]. How weights are
//! read is in `streamed.rs`. Bytes moved: the stored ones, once for all tokens of a block.

use cuda_std::{Bf16, Block, F16, Geometry, In, MmaInput, Out, kernel};

#[cfg(not(target_arch = "nvptx64"))]
use crate::format::Stored;
use crate::format::{
    Brain, Format, Half, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0,
};
use crate::streamed::{self, Operands};
use crate::swiglu::Gated;
use crate::tile::{Tile, tiled};

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct QMatMul {
    /// `[n, k]`, stored; and what fills the last 16 bytes up, whatever it is.
    pub w: In<u8>,
    /// `[m, k]`, f16 or bf16 as bits.
    pub x: In<u16>,
    /// `[m, n]`; empty where it is made an activation at once.
    pub y: Out<f32>,
    /// Where `y` is empty: the first half of the matrix's rows are gates, the others what they gate, and `[m, n / 2]` of their activation
    /// is written. Only by kernels that [`gate`](Chosen::gates).
    pub gated: Gated,
    /// Columns of the weights; whole blocks or super-blocks, 32 also of types that have none.
    pub k: u32,
    /// Rows of the weights.
    pub n: u32,
    /// Rows of `x`: tokens.
    pub m: u32,
}

/// Tokens that the blocks at `y` own: `first..first + count`.
#[inline(always)]
fn tokens(tile: Tile, a: &QMatMul, y: usize) -> (usize, usize) {
    let first = y * tile.tokens();
    (first, (a.m as usize - first).min(tile.tokens()))
}

pub(crate) fn geometry<F: Format>(tile: Tile, a: &QMatMul) -> Geometry {
    let grid = [(a.n as usize).div_ceil(tile.rows()), (a.m as usize).div_ceil(tile.tokens())];
    let (_, count) = tokens(tile, a, 0);
    Geometry { grid, scratch: tile.scratch::<F>(count) }
}

#[inline(always)]
pub(crate) fn qmatmul<
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
    a: &QMatMul,
) {
    let QMatMul { w, x, .. } = *a;
    let (k, n) = (a.k as usize, a.n as usize);
    let tile = Tile {
        warps: WARPS,
        eights: EIGHTS,
        part: PART,
        parts: PARTS,
        group: GROUP,
        columns: COLUMNS,
        padded: PADDED,
    };
    let (token0, count) = tokens(tile, a, block.y());
    streamed::multiply::<B, F, I, WARPS, EIGHTS, PART, SIXTEENS, PARTS, GROUP, COLUMNS, PADDED>(
        block,
        Operands { w, x, k, first: 0, n, count, gates: a.y.is_empty() },
        |_, token| token0 + token,
        |token, row, sum| a.y.set((token0 + token) * n + row, sum),
        #[inline(always)]
        |(token, both), row, gates, ups| {
            let bits = a.gated.pair::<I>(gates, ups);
            let at = (token0 + token) * (n / 2) + row;
            a.gated.y.set(at, bits[0]);
            if both {
                a.gated.y.set(at + n / 2, bits[1]);
            }
        },
    );
}

/// A kernel for a product.
#[cfg(not(target_arch = "nvptx64"))]
#[derive(Clone, Copy)]
pub struct Chosen {
    /// The kernel.
    pub kernel: &'static cuda_std::Kernel<QMatMul>,
    /// Whether it makes an activation, if it is asked to: see [`QMatMul::gated`].
    pub gates: bool,
}

/// A kernel for each stored type and [`Tile`].
macro_rules! kernels {
    ($($stored:ident, $format:ident, $input:ident { $($NAME:ident = $entry:ident, $tile:ident;)* })*) => {
        $($(kernel! {
            /// See the module; the name tells the stored type and what a block computes.
            pub $NAME = $entry(QMatMul), lanes: 32 * Tile::$tile.warps,
            geometry: |a| geometry::<$format>(Tile::$tile, a),
            body: tiled!(qmatmul, $format, $input, $tile), streams: weights
        })*)*

        /// The kernel for weights stored so, so many rows of them and so many tokens, whose blocks take no more than `room` bytes of
        /// scratch memory, if there is one; none for F32.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(
            stored: Stored,
            rows: usize,
            tokens: usize,
            room: usize,
        ) -> Option<Chosen> {
            let (tile, kernels): (Tile, &[(Tile, usize, &'static cuda_std::Kernel<QMatMul>)]) = match stored {
                Stored::F32 => return None,
                $(Stored::$stored => {
                    let room = |tile: Tile| tile.scratch::<$format>(tile.tokens());
                    (Tile::of::<$format>(rows, tokens), &[$((Tile::$tile, room(Tile::$tile), &$NAME)),*])
                })*
            };
            let fits = |tile| kernels.iter().find(|kernel| kernel.0 == tile && kernel.1 <= room);
            let tiles = [tile, Tile::MANY, Tile::FEW];
            tiles.into_iter().find_map(fits).map(|&(tile, _, kernel)| Chosen { kernel, gates: tile.gates() })
        }
    };
}

kernels! {
    F16, Half, F16 {
        F16_T8 = qmatmul__f16_8, FEW;
    }
    BF16, Brain, Bf16 {
        BF16_T8 = qmatmul__bf16_8, FEW;
    }
    Q8_0, Q8_0, F16 {
        Q8_0_T8 = qmatmul__q8_0_8, FEW;
        Q8_0_T8_WIDE = qmatmul__q8_0_8_wide, FEW_WIDE;
        Q8_0_T8_SEVEN = qmatmul__q8_0_8_seven, FEW_SEVEN_LONG;
        Q8_0_T32 = qmatmul__q8_0_32, MANY;
        Q8_0_T32_WIDE = qmatmul__q8_0_32_wide, MANY_WIDE;
        Q8_0_T64 = qmatmul__q8_0_64, MOST;
        Q8_0_T64_WIDE = qmatmul__q8_0_64_wide, MOST_WIDE;
    }
    Q4_0, Q4_0, F16 {
        Q4_0_T8 = qmatmul__q4_0_8, FEW;
        Q4_0_T8_WIDE = qmatmul__q4_0_8_wide, FEW_WIDE;
        Q4_0_T8_SEVEN = qmatmul__q4_0_8_seven, FEW_SEVEN;
        Q4_0_T32 = qmatmul__q4_0_32, MANY;
        Q4_0_T32_WIDE = qmatmul__q4_0_32_wide, MANY_WIDE;
        Q4_0_T64 = qmatmul__q4_0_64, MOST;
        Q4_0_T64_WIDE = qmatmul__q4_0_64_wide, MOST_WIDE;
    }
    Q4_1, Q4_1, F16 {
        Q4_1_T8 = qmatmul__q4_1_8, FEW;
        Q4_1_T8_WIDE = qmatmul__q4_1_8_wide, FEW_WIDE;
        Q4_1_T8_SEVEN = qmatmul__q4_1_8_seven, FEW_SEVEN;
        Q4_1_T32 = qmatmul__q4_1_32, MANY;
        Q4_1_T32_WIDE = qmatmul__q4_1_32_wide, MANY_WIDE;
        Q4_1_T64 = qmatmul__q4_1_64, MOST;
        Q4_1_T64_WIDE = qmatmul__q4_1_64_wide, MOST_WIDE;
    }
    Q5_0, Q5_0, F16 {
        Q5_0_T8 = qmatmul__q5_0_8, FEW;
        Q5_0_T8_WIDE = qmatmul__q5_0_8_wide, FEW_WIDE;
        Q5_0_T8_SEVEN = qmatmul__q5_0_8_seven, FEW_SEVEN;
        Q5_0_T32 = qmatmul__q5_0_32, MANY;
        Q5_0_T32_WIDE = qmatmul__q5_0_32_wide, MANY_WIDE;
        Q5_0_T64 = qmatmul__q5_0_64, MOST;
        Q5_0_T64_WIDE = qmatmul__q5_0_64_wide, MOST_WIDE;
    }
    Q5_1, Q5_1, F16 {
        Q5_1_T8 = qmatmul__q5_1_8, FEW;
        Q5_1_T8_WIDE = qmatmul__q5_1_8_wide, FEW_WIDE;
        Q5_1_T8_SEVEN = qmatmul__q5_1_8_seven, FEW_SEVEN;
        Q5_1_T32 = qmatmul__q5_1_32, MANY;
        Q5_1_T32_WIDE = qmatmul__q5_1_32_wide, MANY_WIDE;
        Q5_1_T64 = qmatmul__q5_1_64, MOST;
        Q5_1_T64_WIDE = qmatmul__q5_1_64_wide, MOST_WIDE;
    }
    Q2_K, Q2_K, F16 {
        Q2_K_T8 = qmatmul__q2_k_8, FEW;
        Q2_K_T8_WIDE = qmatmul__q2_k_8_wide, FEW_WIDE;
        Q2_K_T8_SEVEN = qmatmul__q2_k_8_seven, FEW_SEVEN;
        Q2_K_T32 = qmatmul__q2_k_32, MANY;
        Q2_K_T32_WIDE = qmatmul__q2_k_32_wide, MANY_WIDE;
        Q2_K_T64 = qmatmul__q2_k_64, MOST;
        Q2_K_T64_WIDE = qmatmul__q2_k_64_wide, MOST_WIDE;
    }
    Q3_K, Q3_K, F16 {
        Q3_K_T8 = qmatmul__q3_k_8, FEW;
        Q3_K_T8_WIDE = qmatmul__q3_k_8_wide, FEW_WIDE;
        Q3_K_T8_SEVEN = qmatmul__q3_k_8_seven, FEW_SEVEN;
        Q3_K_T32 = qmatmul__q3_k_32, MANY;
        Q3_K_T32_WIDE = qmatmul__q3_k_32_wide, MANY_WIDE;
        Q3_K_T64 = qmatmul__q3_k_64, MOST;
        Q3_K_T64_WIDE = qmatmul__q3_k_64_wide, MOST_WIDE;
    }
    Q4_K, Q4_K, F16 {
        Q4_K_T8 = qmatmul__q4_k_8, FEW;
        Q4_K_T8_WIDE = qmatmul__q4_k_8_wide, FEW_WIDE;
        Q4_K_T8_SEVEN = qmatmul__q4_k_8_seven, FEW_SEVEN;
        Q4_K_T32 = qmatmul__q4_k_32, MANY;
        Q4_K_T32_WIDE = qmatmul__q4_k_32_wide, MANY_WIDE;
        Q4_K_T64 = qmatmul__q4_k_64, MOST;
        Q4_K_T64_WIDE = qmatmul__q4_k_64_wide, MOST_WIDE;
    }
    Q5_K, Q5_K, F16 {
        Q5_K_T8 = qmatmul__q5_k_8, FEW;
        Q5_K_T8_WIDE = qmatmul__q5_k_8_wide, FEW_WIDE;
        Q5_K_T8_SEVEN = qmatmul__q5_k_8_seven, FEW_SEVEN;
        Q5_K_T32 = qmatmul__q5_k_32, MANY;
        Q5_K_T32_WIDE = qmatmul__q5_k_32_wide, MANY_WIDE;
        Q5_K_T64 = qmatmul__q5_k_64, MOST;
        Q5_K_T64_WIDE = qmatmul__q5_k_64_wide, MOST_WIDE;
    }
    Q6_K, Q6_K, F16 {
        Q6_K_T8 = qmatmul__q6_k_8, FEW;
        Q6_K_T8_WIDE = qmatmul__q6_k_8_wide, FEW_WIDE;
        Q6_K_T8_SEVEN = qmatmul__q6_k_8_seven, FEW_SEVEN_LONG;
        Q6_K_T32 = qmatmul__q6_k_32, MANY;
        Q6_K_T32_WIDE = qmatmul__q6_k_32_wide, MANY_WIDE;
        Q6_K_T64 = qmatmul__q6_k_64, MOST;
        Q6_K_T64_WIDE = qmatmul__q6_k_64_wide, MOST_WIDE;
    }
    IQ4_NL, IQ4_NL, F16 {
        IQ4_NL_T8 = qmatmul__iq4_nl_8, FEW;
        IQ4_NL_T8_WIDE = qmatmul__iq4_nl_8_wide, FEW_WIDE;
        IQ4_NL_T8_SEVEN = qmatmul__iq4_nl_8_seven, FEW_SEVEN;
        IQ4_NL_T32 = qmatmul__iq4_nl_32, MANY;
        IQ4_NL_T32_WIDE = qmatmul__iq4_nl_32_wide, MANY_WIDE;
        IQ4_NL_T64 = qmatmul__iq4_nl_64, MOST;
        IQ4_NL_T64_WIDE = qmatmul__iq4_nl_64_wide, MOST_WIDE;
    }
    IQ4_XS, IQ4_XS, F16 {
        IQ4_XS_T8 = qmatmul__iq4_xs_8, FEW;
        IQ4_XS_T8_WIDE = qmatmul__iq4_xs_8_wide, FEW_WIDE;
        IQ4_XS_T8_SEVEN = qmatmul__iq4_xs_8_seven, FEW_SEVEN;
        IQ4_XS_T32 = qmatmul__iq4_xs_32, MANY;
        IQ4_XS_T32_WIDE = qmatmul__iq4_xs_32_wide, MANY_WIDE;
        IQ4_XS_T64 = qmatmul__iq4_xs_64, MOST;
        IQ4_XS_T64_WIDE = qmatmul__iq4_xs_64_wide, MOST_WIDE;
    }
    MXFP4, MXFP4, Bf16 {
        MXFP4_T8 = qmatmul__mxfp4_8, FEW;
        MXFP4_T8_WIDE = qmatmul__mxfp4_8_wide, FEW_WIDE;
        MXFP4_T8_SEVEN = qmatmul__mxfp4_8_seven, FEW_SEVEN;
        MXFP4_T32 = qmatmul__mxfp4_32, MANY;
        MXFP4_T32_WIDE = qmatmul__mxfp4_32_wide, MANY_WIDE;
        MXFP4_T64 = qmatmul__mxfp4_64, MOST;
        MXFP4_T64_WIDE = qmatmul__mxfp4_64_wide, MOST_WIDE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::WIDE;

    /// Bytes of scratch memory that a block may take on GPUs of compute capability 9.0, 8.0, and 8.6 to 8.9.
    const ROOMS: [usize; 3] = [227 << 10, 163 << 10, 99 << 10];

    #[test]
    fn every_gpu_has_room_for_a_kernel_of_every_quantised_type() {
        let quantised = Stored::ALL.iter().copied().filter(|stored| stored.is_quantised());
        for (stored, room) in quantised.flat_map(|stored| ROOMS.map(|room| (stored, room))) {
            for (rows, tokens) in [(1, 1), (1, 32), (WIDE, 9), (1, 64), (WIDE, 64), (WIDE, 131)] {
                let kernel = of(stored, rows, tokens, room - 256).expect("a kernel that fits").kernel;
                let (n, m) = (rows as u32, tokens as u32);
                // SAFETY: nothing is read.
                let args = unsafe {
                    let nowhere = core::ptr::null_mut::<u64>();
                    let (w, x) = (In::new(nowhere.cast(), 0), In::new(nowhere.cast(), 0));
                    QMatMul { w, x, y: Out::new(nowhere.cast(), 0), gated: Gated::nothing(), k: 256, n, m }
                };
                let geometry = (kernel.geometry)(&args);
                assert!(geometry.scratch + 256 <= room, "{} on {room}", kernel.name);
            }
        }
    }

    #[test]
    fn many_rows_and_many_tokens_have_kernels_of_their_own() {
        let name = |rows, tokens| of(Stored::Q4_K, rows, tokens, usize::MAX).map(|chosen| chosen.kernel.name);
        assert_eq!(name(WIDE - 1, 8), Some("qmatmul__q4_k_8"));
        assert_eq!(name(WIDE, 8), Some("qmatmul__q4_k_8_wide"));
        assert_eq!(name(WIDE, 1), Some("qmatmul__q4_k_8_wide"));
        let longer = |tokens| of(Stored::Q8_0, WIDE, tokens, usize::MAX).map(|chosen| chosen.kernel.name);
        assert_eq!([longer(1), longer(2)], [Some("qmatmul__q8_0_8"), Some("qmatmul__q8_0_8_wide")]);
        // Blocks of 64 rows would be three or four on each of 132 multiprocessors.
        let uneven = |stored, tokens| of(stored, 28_672, tokens, usize::MAX).map(|chosen| chosen.kernel.name);
        assert_eq!(uneven(Stored::Q4_K, 1), Some("qmatmul__q4_k_8_seven"));
        assert_eq!(uneven(Stored::Q8_0, 1), Some("qmatmul__q8_0_8_seven"));
        assert_eq!(
            [1, 2].map(|m| uneven(Stored::Q6_K, m)),
            [Some("qmatmul__q6_k_8"), Some("qmatmul__q6_k_8_seven")]
        );
        assert_eq!(name(WIDE - 1, 9), Some("qmatmul__q4_k_32"));
        assert_eq!(name(WIDE, 32), Some("qmatmul__q4_k_32_wide"));
        assert_eq!(name(WIDE - 1, 33), Some("qmatmul__q4_k_64"));
        assert_eq!(name(WIDE, 200), Some("qmatmul__q4_k_64_wide"));
        // 16-bit weights are streamed for few tokens alone, where there is room.
        let halves = |room| of(Stored::F16, 1, 64, room).map(|chosen| chosen.kernel.name);
        assert_eq!([halves(usize::MAX), halves(99 << 10)], [Some("qmatmul__f16_8"), None]);
    }
}
