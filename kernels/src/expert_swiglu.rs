//! The clamped gated activation of gpt-oss: `y = g / (1 + e^(-alpha g)) (u + 1)` with `g = min(gate, limit)` and
//! `u = min(max(up, -limit), limit)`, as rows for the next product, of pairs of a token and an expert.
//!
//! A block a pair. Bytes moved: `8 n` read (twice for the form f16, the second time from cache), 2 or `4 n` written a pair.

use cuda_std::math::exp;
use cuda_std::{Block, Geometry, kernel};

use crate::experts::ExpertProduct;
use crate::rows::{Form, Plain, Rounded, Rows, Scaled};

/// Arguments of [`F32`], [`F16_`] and [`BF16`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExpertSwiglu {
    /// `[pairs, n]`.
    pub gate: ExpertProduct,
    /// `[pairs, n]`.
    pub up: ExpertProduct,
    /// `[pairs, n]`.
    pub y: Rows,
    /// What the gate is multiplied by within the exponential.
    pub alpha: f32,
    /// Beyond it nothing grows.
    pub limit: f32,
    /// Elements in a row.
    pub n: u32,
    /// Pairs.
    pub pairs: u32,
}

fn geometry(a: &ExpertSwiglu) -> Geometry {
    Geometry { grid: [a.pairs as usize, 1], scratch: 0 }
}

#[inline(always)]
fn swiglu<B: Block, F: Form>(block: &B, a: &ExpertSwiglu) {
    let pair = block.x();
    // A NaN stays one.
    let below = |value: f32| if value > a.limit { a.limit } else { value };
    F::write(block, &a.y, pair, a.n as usize, |i| {
        let (gate, up) = (below(a.gate.get(pair, i)), below(a.up.get(pair, i)));
        let up = if up < -a.limit { -a.limit } else { up };
        gate / (1.0 + exp(-a.alpha * gate)) * (up + 1.0)
    });
}

kernel! {
    /// Rows in the form f32.
    pub F32 = expert_swiglu__f32(ExpertSwiglu), lanes: 1024, geometry: geometry, body: swiglu::<_, Plain>
}
kernel! {
    /// Rows in the form f16.
    pub F16_ = expert_swiglu__f16(ExpertSwiglu), lanes: 1024, geometry: geometry, body: swiglu::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = expert_swiglu__bf16(ExpertSwiglu), lanes: 1024, geometry: geometry, body: swiglu::<_, Rounded>
}
