//! Root-mean-square norm of each row: `y = x / sqrt(mean(x^2) + epsilon) * w` (Zhang and Sennrich 2019), and before it the
//! addition to the residual stream, which reads the same rows.
//!
//! A block a row; lane `l` of 512 folds the squares of elements `l, l + 512, ...`, then [`Team::sum`](cuda_std::Team).
//! Bytes moved: `8 n` for the addition and 2 or `4 n` for the result; what is read again comes from cache.

use cuda_std::math::{mul_add, sqrt};
use cuda_std::{Block, Geometry, In, Out, Scratch, Source, kernel, mapped};

use crate::product::{Line, Parts, Product};
use crate::rows::{Form, Plain, Rounded, Rows, Scaled};

/// Arguments of [`F32`], [`F16_`] and [`BF16`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct RmsNorm {
    /// `[.., n]`: the residual stream; the product is added to the rows that are read.
    pub x: Out<f32>,
    /// `[.., n]`, added before the norm; without sums nothing is added.
    pub product: Product,
    /// `[rows]`: which rows of `x` and of the product are read; empty for the first `rows`. None twice.
    pub from: In<u32>,
    /// `[n]`.
    pub w: In<f32>,
    /// `[rows, n]`; may not overlap `x`.
    pub y: Rows,
    /// Added to the mean of squares.
    pub epsilon: f32,
    /// Elements in a row.
    pub n: u32,
    /// Rows.
    pub rows: u32,
}

/// Elements of a row that scratch memory holds at most; of longer ones each is read again.
const MOST_HELD: usize = 8 << 10;

/// Cells that hold a row before its norm, and as many that hold the weights.
fn held(n: usize) -> usize {
    if n <= MOST_HELD { n } else { 0 }
}

fn geometry(a: &RmsNorm) -> Geometry {
    let held = held(a.n as usize);
    Geometry { grid: [a.rows as usize, 1], scratch: (4 * held).next_multiple_of(16) + 4 * held }
}

/// A row with the product added to it, and the weights, which are waited for at the same time.
struct Added<'a, const HOLDS: bool> {
    a: &'a RmsNorm,
    start: usize,
    product: Line,
    adds: bool,
}

impl<const HOLDS: bool> Source for Added<'_, HOLDS> {
    type Read = (f32, Parts, f32);
    type Value = (f32, f32);

    #[inline(always)]
    fn read(&self, i: usize) -> Self::Read {
        let parts = if self.adds { self.product.read(i) } else { [0.0; 2] };
        (self.a.x.get(self.start + i), parts, if HOLDS { self.a.w.get(i) } else { 0.0 })
    }

    #[inline(always)]
    fn values<const N: usize>(&self, read: [Self::Read; N]) -> [(f32, f32); N] {
        let mut values = mapped(read, |(x, _, w)| (x, w));
        if self.adds {
            let products = self.product.values(mapped(read, |(_, parts, _)| parts));
            for i in 0..N {
                values[i].0 += products[i];
            }
        }
        values
    }
}

/// A row once its scale is known. A lane reads what it wrote itself.
struct Normed<'a, B: Block, const HOLDS: bool> {
    a: &'a RmsNorm,
    start: usize,
    held: B::Scratch<f32>,
    weights: B::Scratch<f32>,
    scale: f32,
}

impl<B: Block, const HOLDS: bool> Source for Normed<'_, B, HOLDS> {
    type Read = (f32, f32);
    type Value = f32;

    #[inline(always)]
    fn read(&self, i: usize) -> (f32, f32) {
        let lane = i % B::LANES;
        if HOLDS {
            (self.held.get(lane, i), self.weights.get(lane, i))
        } else {
            (self.a.x.get(self.start + i), self.a.w.get(i))
        }
    }

    #[inline(always)]
    fn values<const N: usize>(&self, read: [(f32, f32); N]) -> [f32; N] {
        mapped(read, |(x, w)| x * self.scale * w)
    }
}

#[inline(always)]
fn rms_norm<B: Block, F: Form>(block: &B, a: &RmsNorm) {
    if a.n as usize <= MOST_HELD {
        norm_row::<B, F, true>(block, a);
    } else {
        norm_row::<B, F, false>(block, a);
    }
}

/// With `HOLDS` scratch memory has the row and the weights.
#[inline(always)]
fn norm_row<B: Block, F: Form, const HOLDS: bool>(block: &B, a: &RmsNorm) {
    let (n, row) = (a.n as usize, block.x());
    let from = if a.from.is_empty() { row } else { a.from.get(row) as usize };
    let (start, adds) = (from * n, !a.product.sums.is_empty());
    let [held, weights] = [0; 2].map(|_| block.scratch::<f32>(held(n)));

    let mut squares = block.per_lane(0.0f32);
    let added = Added::<HOLDS> { a, start, product: a.product.row(from), adds };
    block.each_value::<8, _>(n, &added, |lane, i, (x, w)| {
        squares[lane] = mul_add(x, x, squares[lane]);
        if adds {
            a.x.set(start + i, x);
        }
        if HOLDS {
            held.set(lane, i, x);
            weights.set(lane, i, w);
        }
    });
    let scale = 1.0 / sqrt(block.sum(&squares) / n as f32 + a.epsilon);
    let normed = Normed::<B, HOLDS> { a, start, held, weights, scale };
    F::write(block, &a.y, (row, n), (0, n), &normed);
}

kernel! {
    /// See the module; rows in the form f32.
    pub F32 = norm__rms_f32(RmsNorm), lanes: 512, geometry: geometry, body: rms_norm::<_, Plain>
}
kernel! {
    /// See the module; rows in the form f16.
    pub F16_ = norm__rms_f16(RmsNorm), lanes: 512, geometry: geometry, body: rms_norm::<_, Scaled>
}
kernel! {
    /// See the module; rows in the form bf16.
    pub BF16 = norm__rms_bf16(RmsNorm), lanes: 512, geometry: geometry, body: rms_norm::<_, Rounded>
}
