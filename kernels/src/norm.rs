//! Root-mean-square norm of each row: `y = x / sqrt(mean(x^2) + epsilon) * w` (Zhang and Sennrich 2019), and before it the
//! addition to the residual stream, which reads the same rows.
//!
//! A block a row; lane `l` of 512 folds the squares of elements `l, l + 512, ...`, then [`Team::sum`](cuda_std::Team).
//! Bytes moved: `8 n` for the addition and 2 or `4 n` for the result; what is read again comes from cache.

use cuda_std::math::{mul_add, sqrt};
use cuda_std::{Block, Geometry, In, Out, Scratch, kernel};

use crate::product::Product;
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

/// Cells that hold a row.
fn held(n: usize) -> usize {
    if n <= MOST_HELD { n } else { 0 }
}

fn geometry<F: Form>(a: &RmsNorm) -> Geometry {
    let n = a.n as usize;
    Geometry { grid: [a.rows as usize, 1], scratch: (4 * held(n)).next_multiple_of(16) + F::scratch(n) }
}

#[inline(always)]
fn rms_norm<B: Block, F: Form>(block: &B, a: &RmsNorm) {
    let (n, row) = (a.n as usize, block.x());
    let from = if a.from.is_empty() { row } else { a.from.get(row) as usize };
    let (held, holds) = (block.scratch::<f32>(held(n)), n <= MOST_HELD);
    let mut squares = block.per_lane(0.0f32);
    let mut take = |lane: usize, i: usize, x: f32| {
        squares[lane] = mul_add(x, x, squares[lane]);
        if holds {
            held.set(lane, i, x);
        }
    };
    let x = |i: usize| a.x.get(from * n + i);
    if a.product.sums.is_empty() {
        block.each_read::<8, _>(n, x, take);
    } else {
        let product = a.product.row(from);
        block.each_read::<8, _>(
            n,
            |i| (x(i), product.read(i)),
            |lane, i, (x, parts)| {
                let x = x + product.value(parts);
                a.x.set(from * n + i, x);
                take(lane, i, x);
            },
        );
    }
    let scale = 1.0 / sqrt(block.sum(&squares) / n as f32 + a.epsilon);
    // A lane reads what it wrote itself.
    let x = |i: usize| if holds { held.get(i % B::LANES, i) } else { x(i) };
    F::write(block, &a.y, (row, n), (0, n), |i| (x(i), a.w.get(i)), |(x, w)| x * scale * w);
}

kernel! {
    /// See the module; rows in the form f32.
    pub F32 = norm__rms_f32(RmsNorm), lanes: 512, geometry: geometry::<Plain>, body: rms_norm::<_, Plain>
}
kernel! {
    /// See the module; rows in the form f16.
    pub F16_ = norm__rms_f16(RmsNorm), lanes: 512, geometry: geometry::<Scaled>, body: rms_norm::<_, Scaled>
}
kernel! {
    /// See the module; rows in the form bf16.
    pub BF16 = norm__rms_bf16(RmsNorm), lanes: 512, geometry: geometry::<Rounded>, body: rms_norm::<_, Rounded>
}
