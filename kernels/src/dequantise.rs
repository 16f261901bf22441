//! Quantised weights as f16, for products by a library: each value exact in f32, then rounded to nearest even.
//!
//! A block covers 4096 values. Bytes moved: the stored ones and 2 a value.

use cuda_std::{Block, F16, Geometry, In, Out, kernel};

use crate::format::{BLOCK, Format, Q4_0, Q4_1, Q8_0};

/// Values a block covers.
const SPAN: usize = 4096;

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Dequantise {
    /// `len` values, stored.
    pub w: In<u8>,
    /// `[len]`, f16 as bits.
    pub y: Out<u16>,
    /// Values, a multiple of 32.
    pub len: u64,
}

fn geometry(a: &Dequantise) -> Geometry {
    Geometry { grid: [(a.len as usize).div_ceil(SPAN), 1], scratch: 0 }
}

#[inline(always)]
fn dequantise<B: Block, F: Format>(block: &B, a: &Dequantise) {
    let first = block.x() * SPAN;
    // A lane takes values i and i + 16 of a block, whose bytes are often the same.
    block.each(SPAN.min(a.len as usize - first) / 2, |_, i| {
        let (start, i) = (first + i / 16 * BLOCK, i % 16);
        let at = start / BLOCK * F::BYTES;
        let values = F::pair(&a.w, at, F::scale::<B>(&a.w, at), i);
        a.y.set(start + i, F16::from_f32(values[0]).0);
        a.y.set(start + i + 16, F16::from_f32(values[1]).0);
    });
}

macro_rules! kernels {
    ($($NAME:ident = $entry:ident, $format:ty;)*) => {$(
        kernel! {
            /// See the module; the name tells the stored type.
            pub $NAME = $entry(Dequantise), lanes: 256, geometry: geometry, body: dequantise::<_, $format>
        }
    )*};
}

kernels! {
    Q8_0_F16 = dequantise__q8_0, Q8_0;
    Q4_0_F16 = dequantise__q4_0, Q4_0;
    Q4_1_F16 = dequantise__q4_1, Q4_1;
}
