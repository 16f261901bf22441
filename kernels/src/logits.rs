//! The last product's sums become logits in place, where it has a bias. See [`crate::product`].
//!
//! A block covers 4096 elements; 8 bytes moved an element.

use cuda_std::{Block, Geometry, In, Out, kernel};

/// Elements a block covers.
const SPAN: usize = 4096;

/// Arguments of [`FINISH`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Finish {
    /// `[rows, n]`.
    pub y: Out<f32>,
    /// `[n]`.
    pub bias: In<f32>,
    /// Elements in a row.
    pub n: u32,
    /// Rows.
    pub rows: u32,
}

fn geometry(a: &Finish) -> Geometry {
    Geometry { grid: [(a.n as usize).div_ceil(SPAN), a.rows as usize], scratch: 0 }
}

#[inline(always)]
fn finish<B: Block>(block: &B, a: &Finish) {
    let (n, row, first) = (a.n as usize, block.y(), block.x() * SPAN);
    block.each(SPAN.min(n - first), |_, i| {
        let at = row * n + first + i;
        a.y.set(at, a.y.get(at) + a.bias.get(first + i));
    });
}

kernel! {
    /// `y = y + bias`.
    pub FINISH = logits__finish(Finish), lanes: 256, geometry: geometry, body: finish
}
