//! [`crate::qmatmul`] for more rows of `x`, on the tensor core of Hopper: four warps multiply together.
//!
//! The sums are the same to the bit. What the tensor core reads of `x` it reads from scratch memory by itself, once for the 64 rows
//! of weights of four warps, and while it does the warps dequantise the next block of their rows. How weights are read is in
//! `streamed.rs`. Bytes moved: the stored ones, once for up to 128 tokens. There are kernels for the types and the numbers of tokens for
//! which this was found to be faster.

use cuda_std::{Bf16, F16, kernel};
#[cfg(test)]
use cuda_std::{In, Out};

#[cfg(not(target_arch = "nvptx64"))]
use crate::format::Stored;
use crate::format::{MXFP4, Q4_0, Q4_1, Q4_K, Q5_K, Q6_K, Q8_0};
#[cfg(not(target_arch = "nvptx64"))]
use crate::qmatmul::{Chosen, geometry};
use crate::qmatmul::{QMatMul, qmatmul};
use crate::tile::{Tile, tiled};

/// A kernel for each stored type and [`Tile`].
macro_rules! kernels {
    ($($stored:ident, $input:ident { $($NAME:ident = $entry:ident, $tile:ident;)* })*) => {
        $($(kernel! {
            /// See the module; the name tells the stored type and what a block computes.
            pub $NAME = $entry(QMatMul), lanes: 32 * Tile::$tile.warps,
            geometry: |a| geometry::<$stored>(Tile::$tile, a),
            body: tiled!(qmatmul, $stored, $input, $tile), streams: weights
        })*)*

        /// The kernel for weights stored so, so many rows of them and so many tokens, if there is one.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(stored: Stored, rows: usize, tokens: usize) -> Option<Chosen> {
            let tile = Tile::of_group(rows, tokens);
            let kernel = match stored {
                $(Stored::$stored => [$((Tile::$tile, &$NAME)),*].into_iter().find(|kernel| kernel.0 == tile)?.1,)*
                _ => return None,
            };
            Some(Chosen { kernel, gates: tile.gates() })
        }
    };
}

kernels! {
    Q8_0, F16 {
        Q8_0_T32_HALF = warpgroup__q8_0_32_half, GROUP_32_HALF;
        Q8_0_T32 = warpgroup__q8_0_32, GROUP_32;
        Q8_0_T32_WIDE = warpgroup__q8_0_32_wide, GROUP_32_WIDE;
        Q8_0_T64 = warpgroup__q8_0_64, GROUP_64;
        Q8_0_T64_WIDE = warpgroup__q8_0_64_wide, GROUP_64_WIDE;
        Q8_0_T128_WIDE = warpgroup__q8_0_128_wide, GROUP_128_WIDE;
    }
    Q4_0, F16 {
        Q4_0_T32_HALF = warpgroup__q4_0_32_half, GROUP_32_HALF;
        Q4_0_T32 = warpgroup__q4_0_32, GROUP_32;
        Q4_0_T32_WIDE = warpgroup__q4_0_32_wide, GROUP_32_WIDE;
        Q4_0_T64 = warpgroup__q4_0_64, GROUP_64;
        Q4_0_T64_WIDE = warpgroup__q4_0_64_wide, GROUP_64_WIDE;
        Q4_0_T128_WIDE = warpgroup__q4_0_128_wide, GROUP_128_WIDE;
    }
    Q4_1, F16 {
        Q4_1_T32_HALF = warpgroup__q4_1_32_half, GROUP_32_HALF;
        Q4_1_T32 = warpgroup__q4_1_32, GROUP_32;
        Q4_1_T32_WIDE = warpgroup__q4_1_32_wide, GROUP_32_WIDE;
        Q4_1_T64 = warpgroup__q4_1_64, GROUP_64;
        Q4_1_T64_WIDE = warpgroup__q4_1_64_wide, GROUP_64_WIDE;
        Q4_1_T128_WIDE = warpgroup__q4_1_128_wide, GROUP_128_WIDE;
    }
    Q4_K, F16 {
        Q4_K_T32_HALF = warpgroup__q4_k_32_half, GROUP_32_HALF;
        Q4_K_T32 = warpgroup__q4_k_32, GROUP_32;
        Q4_K_T32_WIDE = warpgroup__q4_k_32_wide, GROUP_32_WIDE;
        Q4_K_T64 = warpgroup__q4_k_64, GROUP_64;
        Q4_K_T64_WIDE = warpgroup__q4_k_64_wide, GROUP_64_WIDE;
        Q4_K_T128_WIDE = warpgroup__q4_k_128_wide, GROUP_128_WIDE;
    }
    Q5_K, F16 {
        Q5_K_T64 = warpgroup__q5_k_64, GROUP_64;
        Q5_K_T64_WIDE = warpgroup__q5_k_64_wide, GROUP_64_WIDE;
        Q5_K_T128_WIDE = warpgroup__q5_k_128_wide, GROUP_128_WIDE;
    }
    Q6_K, F16 {
        Q6_K_T32_HALF = warpgroup__q6_k_32_half, GROUP_32_HALF;
        Q6_K_T32 = warpgroup__q6_k_32, GROUP_32;
        Q6_K_T32_WIDE = warpgroup__q6_k_32_wide, GROUP_32_WIDE;
        Q6_K_T64 = warpgroup__q6_k_64, GROUP_64;
        Q6_K_T64_WIDE = warpgroup__q6_k_64_wide, GROUP_64_WIDE;
        Q6_K_T128_WIDE = warpgroup__q6_k_128_wide, GROUP_128_WIDE;
    }
    MXFP4, Bf16 {
        MXFP4_T32_HALF = warpgroup__mxfp4_32_half, GROUP_32_HALF;
        MXFP4_T32 = warpgroup__mxfp4_32, GROUP_32;
        MXFP4_T32_WIDE = warpgroup__mxfp4_32_wide, GROUP_32_WIDE;
        MXFP4_T64 = warpgroup__mxfp4_64, GROUP_64;
        MXFP4_T64_WIDE = warpgroup__mxfp4_64_wide, GROUP_64_WIDE;
        MXFP4_T128_WIDE = warpgroup__mxfp4_128_wide, GROUP_128_WIDE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swiglu::Gated;
    use crate::tile::WIDE;

    #[test]
    fn blocks_fit_into_a_multiprocessor_of_hopper() {
        let mut count = 0;
        for &stored in Stored::ALL {
            for (rows, tokens) in [(1, 9), (1, 128), (WIDE, 9), (WIDE, 64), (WIDE, 131)] {
                let Some(Chosen { kernel, .. }) = of(stored, rows, tokens) else { continue };
                count += 1;
                let (n, m) = (rows as u32, tokens as u32);
                // SAFETY: nothing is read.
                let args = unsafe {
                    let nowhere = core::ptr::null_mut::<u64>();
                    let (w, x) = (In::new(nowhere.cast(), 0), In::new(nowhere.cast(), 0));
                    QMatMul { w, x, y: Out::new(nowhere.cast(), 0), gated: Gated::nothing(), k: 256, n, m }
                };
                let geometry = (kernel.geometry)(&args);
                assert!(geometry.scratch + 256 <= 227 << 10, "{}", kernel.name);
            }
        }
        assert_eq!(count, 6 * 5 + 3);
    }

    #[test]
    fn few_rows_of_weights_are_spread_over_more_blocks() {
        let name = |rows, tokens| of(Stored::Q4_K, rows, tokens).map(|chosen| chosen.kernel.name);
        assert_eq!(name(WIDE - 1, 32), Some("warpgroup__q4_k_32_half"));
        assert_eq!(name(WIDE - 1, 64), Some("warpgroup__q4_k_32"));
        assert_eq!(name(WIDE - 1, 65), Some("warpgroup__q4_k_64"));
        assert_eq!(name(WIDE, 32), Some("warpgroup__q4_k_32_wide"));
        assert_eq!(name(WIDE, 200), Some("warpgroup__q4_k_128_wide"));
        assert!(of(Stored::F16, 1, 64).is_none());
    }
}
