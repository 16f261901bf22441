//! Layer norm of each row: `y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * w + bias` (Ba et al. 2016), and before
//! it the addition to the residual stream, which reads the same rows.
//!
//! A block a row, in two passes over it: the mean, then the mean of the squared distances from it. In each, lane `l` of 512
//! folds elements `l, l + 512, ...`, then [`Team::sum`](cuda_std::Team). Bytes moved: `8 n` for the addition and 2 or `4 n` for
//! the result; what is read again comes from cache.

use cuda_std::math::{mul_add, sqrt};
use cuda_std::{Block, Geometry, In, Out, Source, kernel, mapped};

use crate::product::Product;
use crate::rows::{Form, Plain, Rounded, Rows, Scaled};

/// Arguments of [`F32`], [`F16_`] and [`BF16`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LayerNorm {
    /// `[.., n]`: the residual stream; the product is added to the rows that are read.
    pub x: Out<f32>,
    /// `[.., n]`, added before the norm; without sums nothing is added.
    pub product: Product,
    /// `[rows]`: which rows of `x` and of the product are read; empty for the first `rows`. None twice.
    pub from: In<u32>,
    /// `[n]`.
    pub w: In<f32>,
    /// `[n]`.
    pub bias: In<f32>,
    /// `[rows, n]`; may not overlap `x`.
    pub y: Rows,
    /// Added to the mean of squares.
    pub epsilon: f32,
    /// Elements in a row.
    pub n: u32,
    /// Rows.
    pub rows: u32,
}

fn geometry(a: &LayerNorm) -> Geometry {
    Geometry { grid: [a.rows as usize, 1], scratch: 0 }
}

/// A row, once its mean and its scale are known.
struct Normed<'a> {
    a: &'a LayerNorm,
    start: usize,
    mean: f32,
    scale: f32,
}

impl Source for Normed<'_> {
    type Read = [f32; 3];
    type Value = f32;

    #[inline(always)]
    fn read(&self, i: usize) -> [f32; 3] {
        [self.a.x.get(self.start + i), self.a.w.get(i), self.a.bias.get(i)]
    }

    #[inline(always)]
    fn values<const N: usize>(&self, read: [[f32; 3]; N]) -> [f32; N] {
        mapped(read, |[x, w, bias]| mul_add((x - self.mean) * self.scale, w, bias))
    }
}

#[inline(always)]
fn layer_norm<B: Block, F: Form>(block: &B, a: &LayerNorm) {
    let (n, row) = (a.n as usize, block.x());
    let from = if a.from.is_empty() { row } else { a.from.get(row) as usize };
    // A lane reads here and below what it wrote itself.
    if !a.product.sums.is_empty() {
        let product = a.product.row(from);
        let read = |i: usize| (a.x.get(from * n + i), product.read(i));
        block.each_read::<8, _>(n, read, |_, i, (x, parts)| a.x.set(from * n + i, x + product.value(parts)));
    }
    let x = |i: usize| a.x.get(from * n + i);
    let mut sums = block.per_lane(0.0f32);
    block.each(n, |lane, i| sums[lane] += x(i));
    let mean = block.sum(&sums) / n as f32;
    let mut squares = block.per_lane(0.0f32);
    block.each(n, |lane, i| squares[lane] = mul_add(x(i) - mean, x(i) - mean, squares[lane]));
    let scale = 1.0 / sqrt(block.sum(&squares) / n as f32 + a.epsilon);
    let normed = Normed { a, start: from * n, mean, scale };
    F::write(block, &a.y, (row, n), (0, n), &normed);
}

kernel! {
    /// See the module; rows in the form f32.
    pub F32 = layer_norm__f32(LayerNorm), lanes: 512, geometry: geometry, body: layer_norm::<_, Plain>
}
kernel! {
    /// See the module; rows in the form f16.
    pub F16_ = layer_norm__f16(LayerNorm), lanes: 512, geometry: geometry, body: layer_norm::<_, Scaled>
}
kernel! {
    /// See the module; rows in the form bf16.
    pub BF16 = layer_norm__bf16(LayerNorm), lanes: 512, geometry: geometry, body: layer_norm::<_, Rounded>
}
