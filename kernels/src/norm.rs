//! Root-mean-square norm of each row: `y = x / sqrt(mean(x^2) + epsilon) * w` (Zhang and Sennrich 2019).
//!
//! A block a row; lane `l` of 256 folds the squares of elements `l, l + 256, ...`, then [`Team::sum`](cuda_std::Team).

use cuda_std::math::{mul_add, sqrt};
use cuda_std::{Block, Geometry, In, Out, kernel};

/// Arguments of [`RMS`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct RmsNorm {
    /// `[rows, n]`.
    pub x: In<f32>,
    /// `[n]`.
    pub w: In<f32>,
    /// `[rows, n]`; may not overlap `x`.
    pub y: Out<f32>,
    /// Added to the mean of squares.
    pub epsilon: f32,
    /// Elements in a row.
    pub n: u32,
    /// Rows.
    pub rows: u32,
}

fn geometry(a: &RmsNorm) -> Geometry {
    Geometry { grid: [a.rows as usize, 1], scratch: 0 }
}

#[inline(always)]
fn rms_norm<B: Block>(block: &B, a: &RmsNorm) {
    let n = a.n as usize;
    let row = block.x() * n;
    let mut squares = block.per_lane(0.0f32);
    block.each(n, |lane, i| squares[lane] = mul_add(a.x.get(row + i), a.x.get(row + i), squares[lane]));
    let scale = 1.0 / sqrt(block.sum(&squares) / n as f32 + a.epsilon);
    block.each(n, |_, i| a.y.set(row + i, a.x.get(row + i) * scale * a.w.get(i)));
}

kernel! {
    /// Root-mean-square norm, see the module.
    pub RMS = norm__rms(RmsNorm), lanes: 256, geometry: geometry, body: rms_norm
}
