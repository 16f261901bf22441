//! Quantised weights as f16 or bf16, for products by a library: the values that [`crate::qmatmul`] multiplies.
//!
//! A block covers 4096 values. Bytes moved: the stored ones and 2 a value.

use cuda_std::{Bf16, Block, F16, Geometry, In, MmaInput, Out, kernel};

#[cfg(not(target_arch = "nvptx64"))]
use crate::format::Stored;
use crate::format::{
    BLOCK, Format, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0,
};

/// Values a block covers.
const SPAN: usize = 4096;

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Dequantise {
    /// `len` values, stored.
    pub w: In<u8>,
    /// `[len]`, f16 or bf16 as bits.
    pub y: Out<u16>,
    /// Values, whole blocks or super-blocks.
    pub len: u64,
}

fn geometry(a: &Dequantise) -> Geometry {
    Geometry { grid: [(a.len as usize).div_ceil(SPAN), 1], scratch: 0 }
}

#[inline(always)]
fn dequantise<B: Block, F: Format, I: MmaInput>(block: &B, a: &Dequantise) {
    let first = block.x() * SPAN;
    // A lane takes two neighbours, and the two that are 16 further, whose bytes are often the same.
    block.each(SPAN.min(a.len as usize - first) / 4, |_, i| {
        let (start, i) = (first + i / 8 * BLOCK, i % 8 * 2);
        let place = F::place(0, start / BLOCK);
        let [one, two] = F::rounded::<I, B>(F::read(&a.w, place, i), place, F::shared(&a.w, place), i);
        a.y.set_pair(start + i, one);
        a.y.set_pair(start + i + 16, two);
    });
}

macro_rules! kernels {
    ($($NAME:ident = $entry:ident, $format:ident, $to:ty;)*) => {
        $(kernel! {
            /// See the module; the name tells the stored type and what it becomes.
            pub $NAME = $entry(Dequantise), lanes: 256, geometry: geometry, body: dequantise::<_, $format, $to>
        })*

        /// The kernel for weights stored so, if they are quantised.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(stored: Stored) -> Option<&'static cuda_std::Kernel<Dequantise>> {
            match stored {
                Stored::F32 | Stored::F16 | Stored::BF16 => None,
                $(Stored::$format => Some(&$NAME),)*
            }
        }
    };
}

kernels! {
    Q8_0_F16 = dequantise__q8_0, Q8_0, F16;
    Q4_0_F16 = dequantise__q4_0, Q4_0, F16;
    Q4_1_F16 = dequantise__q4_1, Q4_1, F16;
    Q5_0_F16 = dequantise__q5_0, Q5_0, F16;
    Q5_1_F16 = dequantise__q5_1, Q5_1, F16;
    Q2_K_F16 = dequantise__q2_k, Q2_K, F16;
    Q3_K_F16 = dequantise__q3_k, Q3_K, F16;
    Q4_K_F16 = dequantise__q4_k, Q4_K, F16;
    Q5_K_F16 = dequantise__q5_k, Q5_K, F16;
    Q6_K_F16 = dequantise__q6_k, Q6_K, F16;
    IQ4_NL_F16 = dequantise__iq4_nl, IQ4_NL, F16;
    IQ4_XS_F16 = dequantise__iq4_xs, IQ4_XS, F16;
    MXFP4_BF16 = dequantise__mxfp4, MXFP4, Bf16;
}
