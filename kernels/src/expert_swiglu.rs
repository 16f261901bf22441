//! The clamped gated activation of gpt-oss: `y = g / (1 + e^(-alpha g)) (u + 1)` with `g = min(gate, limit)` and
//! `u = min(max(up, -limit), limit)`, as rows for the next product, of pairs of a token and an expert.
//!
//! A block a pair, or several. Bytes moved: `8 n` read (twice of the longest rows of the form f16), 2 or `4 n` written a pair.

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

fn geometry<F: Form>(a: &ExpertSwiglu) -> Geometry {
    let n = a.n as usize;
    Geometry { grid: [a.pairs as usize, F::parts(a.pairs as usize, n)], scratch: F::scratch(n) }
}

#[inline(always)]
fn swiglu<B: Block, F: Form>(block: &B, a: &ExpertSwiglu) {
    let (pair, n) = (block.x(), a.n as usize);
    // A NaN stays one.
    let below = |value: f32| if value > a.limit { a.limit } else { value };
    let read = |i: usize| (a.gate.get(pair, i), a.up.get(pair, i));
    F::write(block, &a.y, (pair, n), F::part(block.y(), a.pairs as usize, n), read, |(gate, up)| {
        let (gate, up) = (below(gate), below(up));
        let up = if up < -a.limit { -a.limit } else { up };
        gate / (1.0 + exp(-a.alpha * gate)) * (up + 1.0)
    });
}

kernel! {
    /// Rows in the form f32.
    pub F32 = expert_swiglu__f32(ExpertSwiglu), lanes: 512, geometry: geometry::<Plain>, body: swiglu::<_, Plain>
}
kernel! {
    /// Rows in the form f16.
    pub F16_ = expert_swiglu__f16(ExpertSwiglu), lanes: 512, geometry: geometry::<Scaled>, body: swiglu::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = expert_swiglu__bf16(ExpertSwiglu), lanes: 512, geometry: geometry::<Rounded>, body: swiglu::<_, Rounded>
}
