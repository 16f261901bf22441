//! Embedding lookup: row `ids[t]` of the stored table becomes row `t` of f32.
//!
//! A block a token. Bytes moved: a stored row and `4 n` for each token.

use cuda_std::{Block, Geometry, In, Out, kernel};

#[cfg(not(target_arch = "nvptx64"))]
use crate::format::Stored;
use crate::format::{
    BLOCK, Brain, F32, Format, Half, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K,
    Q6_K, Q8_0,
};

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Embed {
    /// `[vocab, n]`, stored.
    pub table: In<u8>,
    /// `[tokens]`.
    pub ids: In<u32>,
    /// `[tokens, n]`.
    pub y: Out<f32>,
    /// One value: stays as it is, unless an id is outside the vocabulary; then it becomes that token's index, and
    /// the token's row of `y` is left alone.
    pub fault: Out<u32>,
    /// Elements in a row.
    pub n: u32,
    /// Rows of the table.
    pub vocab: u32,
    /// Tokens.
    pub tokens: u32,
}

/// The value of `fault` while there is none.
pub const NO_FAULT: u32 = u32::MAX;

fn geometry(a: &Embed) -> Geometry {
    Geometry { grid: [a.tokens as usize, 1], scratch: 0 }
}

#[inline(always)]
fn embed<B: Block, F: Format>(block: &B, a: &Embed) {
    let (n, token) = (a.n as usize, block.x());
    let id = a.ids.get(token);
    if id >= a.vocab {
        block.lanes(|lane| {
            if lane == 0 {
                a.fault.set(0, token as u32);
            }
        });
        return;
    }
    let row = id as usize * F::row_bytes(n);
    block
        .each(n, |_, i| a.y.set(token * n + i, F::value::<B>(&a.table, F::place(row, i / BLOCK), i % BLOCK)));
}

macro_rules! kernels {
    ($($stored:ident: $NAME:ident = $entry:ident, $format:ty;)*) => {
        $(kernel! {
            /// See the module; the name tells the stored type.
            pub $NAME = $entry(Embed), lanes: 512, geometry: geometry, body: embed::<_, $format>
        })*

        /// The kernel for a table stored so.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(stored: Stored) -> &'static cuda_std::Kernel<Embed> {
            match stored {
                $(Stored::$stored => &$NAME,)*
            }
        }
    };
}

kernels! {
    F32: F32_TABLE = embed__f32, F32;
    F16: F16_TABLE = embed__f16, Half;
    BF16: BF16_TABLE = embed__bf16, Brain;
    Q8_0: Q8_0_TABLE = embed__q8_0, Q8_0;
    Q4_0: Q4_0_TABLE = embed__q4_0, Q4_0;
    Q4_1: Q4_1_TABLE = embed__q4_1, Q4_1;
    Q5_0: Q5_0_TABLE = embed__q5_0, Q5_0;
    Q5_1: Q5_1_TABLE = embed__q5_1, Q5_1;
    Q2_K: Q2_K_TABLE = embed__q2_k, Q2_K;
    Q3_K: Q3_K_TABLE = embed__q3_k, Q3_K;
    Q4_K: Q4_K_TABLE = embed__q4_k, Q4_K;
    Q5_K: Q5_K_TABLE = embed__q5_k, Q5_K;
    Q6_K: Q6_K_TABLE = embed__q6_k, Q6_K;
    IQ4_NL: IQ4_NL_TABLE = embed__iq4_nl, IQ4_NL;
    IQ4_XS: IQ4_XS_TABLE = embed__iq4_xs, IQ4_XS;
    MXFP4: MXFP4_TABLE = embed__mxfp4, MXFP4;
}
