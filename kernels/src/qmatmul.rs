//! Stored matrix x few rows on the tensor core, `tc` numerics: `y[t, n] = sum over k of w[n, k] x[t, k]`.
//!
//! `w` is `[n, k]` in its stored form; a value is dequantised in f32 and rounded to f16 or, where scales exceed that, bf16;
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
use crate::streamed::{self, Operands, block_rows, warps};

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct QMatMul {
    /// `[n, k]`, stored; and what fills the last 16 bytes up, whatever it is.
    pub w: In<u8>,
    /// `[m, k]`, f16 or bf16 as bits.
    pub x: In<u16>,
    /// `[m, n]`.
    pub y: Out<f32>,
    /// Columns of the weights; whole blocks or super-blocks, 32 also of types that have none.
    pub k: u32,
    /// Rows of the weights.
    pub n: u32,
    /// Rows of `x`: tokens.
    pub m: u32,
}

/// Tokens that the blocks at `y` own: `first..first + count`.
#[inline(always)]
fn tokens<const TOKENS: usize>(a: &QMatMul, y: usize) -> (usize, usize) {
    let first = y * TOKENS;
    (first, (a.m as usize - first).min(TOKENS))
}

fn geometry<F: Format, const TOKENS: usize>(a: &QMatMul) -> Geometry {
    let grid = [(a.n as usize).div_ceil(block_rows(TOKENS)), (a.m as usize).div_ceil(TOKENS)];
    let (_, count) = tokens::<TOKENS>(a, 0);
    Geometry { grid, scratch: streamed::scratch::<F>(TOKENS, count) }
}

#[inline(always)]
fn qmatmul<B: Block, F: Format, I: MmaInput, const TOKENS: usize, const WARPS: usize>(
    block: &B,
    a: &QMatMul,
) {
    let QMatMul { w, x, .. } = *a;
    let (k, n) = (a.k as usize, a.n as usize);
    let (token0, count) = tokens::<TOKENS>(a, block.y());
    streamed::multiply::<B, F, I, TOKENS, WARPS>(
        block,
        Operands { w, x, k, first: 0, n, count },
        |_, token| token0 + token,
        |token, row, sum| a.y.set((token0 + token) * n + row, sum),
    );
}

/// A kernel for each stored type and number of tokens that a block computes at most.
macro_rules! kernels {
    ($($stored:ident, $format:ident, $input:ident { $($NAME:ident = $entry:ident, $tokens:literal;)* })*) => {
        $($(kernel! {
            /// See the module; the name tells the stored type and how many tokens a block computes.
            pub $NAME = $entry(QMatMul), lanes: 32 * warps($tokens), geometry: geometry::<$format, $tokens>,
            body: qmatmul::<_, $format, $input, $tokens, { warps($tokens) }>
        })*)*

        /// The kernel for weights stored so and so many tokens; none for F32.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(stored: Stored, tokens: usize) -> Option<&'static cuda_std::Kernel<QMatMul>> {
            let kernels: &[(usize, &'static cuda_std::Kernel<QMatMul>)] = match stored {
                Stored::F32 => return None,
                $(Stored::$stored => &[$(($tokens, &$NAME)),*],)*
            };
            let fits = kernels.iter().find(|(most, _)| tokens <= *most);
            fits.or(kernels.last()).map(|&(_, kernel)| kernel)
        }
    };
}

kernels! {
    F16, Half, F16 {
        F16_T8 = qmatmul__f16_8, 8;
    }
    BF16, Brain, Bf16 {
        BF16_T8 = qmatmul__bf16_8, 8;
    }
    Q8_0, Q8_0, F16 {
        Q8_0_T8 = qmatmul__q8_0_8, 8;
        Q8_0_T32 = qmatmul__q8_0_32, 32;
    }
    Q4_0, Q4_0, F16 {
        Q4_0_T8 = qmatmul__q4_0_8, 8;
        Q4_0_T32 = qmatmul__q4_0_32, 32;
    }
    Q4_1, Q4_1, F16 {
        Q4_1_T8 = qmatmul__q4_1_8, 8;
        Q4_1_T32 = qmatmul__q4_1_32, 32;
    }
    Q5_0, Q5_0, F16 {
        Q5_0_T8 = qmatmul__q5_0_8, 8;
        Q5_0_T32 = qmatmul__q5_0_32, 32;
    }
    Q5_1, Q5_1, F16 {
        Q5_1_T8 = qmatmul__q5_1_8, 8;
        Q5_1_T32 = qmatmul__q5_1_32, 32;
    }
    Q2_K, Q2_K, F16 {
        Q2_K_T8 = qmatmul__q2_k_8, 8;
        Q2_K_T32 = qmatmul__q2_k_32, 32;
    }
    Q3_K, Q3_K, F16 {
        Q3_K_T8 = qmatmul__q3_k_8, 8;
        Q3_K_T32 = qmatmul__q3_k_32, 32;
    }
    Q4_K, Q4_K, F16 {
        Q4_K_T8 = qmatmul__q4_k_8, 8;
        Q4_K_T32 = qmatmul__q4_k_32, 32;
    }
    Q5_K, Q5_K, F16 {
        Q5_K_T8 = qmatmul__q5_k_8, 8;
        Q5_K_T32 = qmatmul__q5_k_32, 32;
    }
    Q6_K, Q6_K, F16 {
        Q6_K_T8 = qmatmul__q6_k_8, 8;
        Q6_K_T32 = qmatmul__q6_k_32, 32;
    }
    IQ4_NL, IQ4_NL, F16 {
        IQ4_NL_T8 = qmatmul__iq4_nl_8, 8;
        IQ4_NL_T32 = qmatmul__iq4_nl_32, 32;
    }
    IQ4_XS, IQ4_XS, F16 {
        IQ4_XS_T8 = qmatmul__iq4_xs_8, 8;
        IQ4_XS_T32 = qmatmul__iq4_xs_32, 32;
    }
    MXFP4, MXFP4, Bf16 {
        MXFP4_T8 = qmatmul__mxfp4_8, 8;
        MXFP4_T32 = qmatmul__mxfp4_32, 32;
    }
}
