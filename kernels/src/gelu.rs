//! The activation of GPT-2: `y = gelu(x)` (Hendrycks and Gimpel 2016, the form with a hyperbolic tangent), as rows for the
//! next product.
//!
//! A block a row, or several. Bytes moved: `4 n` read, 2 or `4 n` written a row.

use cuda_std::math::gelu;
use cuda_std::{Block, Geometry, Source, kernel};

use crate::product::{Line, Parts, Product};
use crate::rows::{self, Form, Plain, Rounded, Rows, Scaled};

/// Arguments of [`F32`], [`F16_`] and [`BF16`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Gelu {
    /// `[rows, n]`.
    pub x: Product,
    /// `[rows, n]`.
    pub y: Rows,
    /// Elements in a row.
    pub n: u32,
    /// Rows.
    pub rows: u32,
}

fn geometry(a: &Gelu) -> Geometry {
    Geometry { grid: [a.rows as usize, rows::parts(a.rows as usize, a.n as usize)], scratch: 0 }
}

/// A row of the activation.
struct Activation(Line);

impl Source for Activation {
    type Read = Parts;
    type Value = f32;

    #[inline(always)]
    fn read(&self, i: usize) -> Parts {
        self.0.read(i)
    }

    #[inline(always)]
    fn values<const N: usize>(&self, read: [Parts; N]) -> [f32; N] {
        gelu(self.0.values(read))
    }
}

#[inline(always)]
fn activate<B: Block, F: Form>(block: &B, a: &Gelu) {
    let (row, n) = (block.x(), a.n as usize);
    let part = rows::part(block.y(), a.rows as usize, n);
    F::write(block, &a.y, (row, n), part, &Activation(a.x.row(row)));
}

kernel! {
    /// Rows in the form f32.
    pub F32 = gelu__f32(Gelu), lanes: 512, geometry: geometry, body: activate::<_, Plain>
}
kernel! {
    /// Rows in the form f16.
    pub F16_ = gelu__f16(Gelu), lanes: 512, geometry: geometry, body: activate::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = gelu__bf16(Gelu), lanes: 512, geometry: geometry, body: activate::<_, Rounded>
}
