//! What the experts of a token give together: `y[t] = sum over i of weight[t, i] value[t, i]`, a chain of fused multiply-adds
//! from zero, the expert of the greatest weight first.
//!
//! A block covers 1024 elements of a token. Bytes moved: `4 (used + 1)` an element.

use cuda_std::math::mul_add;
use cuda_std::{Block, Geometry, In, Out, kernel};

use crate::experts::ExpertProduct;

/// Elements a block covers.
const SPAN: usize = 1024;

/// Arguments of [`SUM`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExpertSum {
    /// `[tokens used, n]`.
    pub values: ExpertProduct,
    /// `[tokens, used]`.
    pub weights: In<f32>,
    /// `[tokens, n]`.
    pub y: Out<f32>,
    /// Elements in a row.
    pub n: u32,
    /// Experts of a token.
    pub used: u32,
    /// Tokens.
    pub tokens: u32,
}

fn geometry(a: &ExpertSum) -> Geometry {
    Geometry { grid: [(a.n as usize).div_ceil(SPAN), a.tokens as usize], scratch: 0 }
}

#[inline(always)]
fn sum<B: Block>(block: &B, a: &ExpertSum) {
    let (n, used, token, first) = (a.n as usize, a.used as usize, block.y(), block.x() * SPAN);
    block.each(SPAN.min(n - first), |_, i| {
        let mut sum = 0.0f32;
        for pair in token * used..(token + 1) * used {
            sum = mul_add(a.weights.get(pair), a.values.get(pair, first + i), sum);
        }
        a.y.set(token * n + first + i, sum);
    });
}

kernel! {
    /// The weighted sum of each token's experts.
    pub SUM = expert_sum__sum(ExpertSum), lanes: 256, geometry: geometry, body: sum
}
