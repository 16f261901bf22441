//! The residual addition by itself, where no norm follows at once: `x += product`.
//!
//! A block covers 1024 elements; 12 bytes moved an element.

use cuda_std::{Block, Geometry, Out, kernel};

use crate::product::Product;

/// Elements a block covers.
const SPAN: usize = 1024;

/// Arguments of [`ADD`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Add {
    /// `[rows, n]`.
    pub x: Out<f32>,
    /// `[rows, n]`.
    pub product: Product,
    /// Elements in a row.
    pub n: u32,
    /// Rows.
    pub rows: u32,
}

fn geometry(a: &Add) -> Geometry {
    Geometry { grid: [(a.n as usize).div_ceil(SPAN), a.rows as usize], scratch: 0 }
}

#[inline(always)]
fn add<B: Block>(block: &B, a: &Add) {
    let (n, row, first) = (a.n as usize, block.y(), block.x() * SPAN);
    block.each(SPAN.min(n - first), |_, i| {
        let at = row * n + first + i;
        a.x.set(at, a.x.get(at) + a.product.get(row, first + i));
    });
}

kernel! {
    /// `x += product`.
    pub ADD = residual__add(Add), lanes: 256, geometry: geometry, body: add
}
