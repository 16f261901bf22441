//! What the experts of a token give together: `y[t] = sum over i of weight[t, i] value[t, i]`, a chain of fused multiply-adds
//! from zero, the expert of the greatest weight first.
//!
//! A block covers 256 elements of a token. Bytes moved: `4 (used + 1)` an element.

use core::array;

use cuda_std::math::mul_add;
use cuda_std::{Block, Geometry, In, Out, kernel, unrolled};

use crate::experts::ExpertProduct;

/// Elements a block covers: one a lane.
const SPAN: usize = LANES;
const LANES: usize = 256;
/// Experts that a lane waits for at once.
const AHEAD: usize = 4;

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
        let (mut sum, mut slot) = (0.0f32, 0);
        while slot < used {
            // Past the last expert it is read again.
            let pairs: [usize; AHEAD] = array::from_fn(|j| token * used + (slot + j).min(used - 1));
            let weights = pairs.map(|pair| a.weights.get(pair));
            let lines = pairs.map(|pair| a.values.row(pair));
            let parts = lines.map(|line| line.read(first + i));
            unrolled::<AHEAD>(|j| {
                if slot + j < used {
                    sum = mul_add(weights[j], lines[j].value(parts[j]), sum);
                }
            });
            slot += AHEAD;
        }
        a.y.set(token * n + first + i, sum);
    });
}

kernel! {
    /// The weighted sum of each token's experts.
    pub SUM = expert_sum__sum(ExpertSum), lanes: LANES, geometry: geometry, body: sum
}
