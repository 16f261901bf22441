//! The clamped gated activation of gpt-oss: `y = g / (1 + e^(-alpha g)) (u + 1)` with `g = min(gate, limit)` and
//! `u = min(max(up, -limit), limit)`, as rows for the next product, of pairs of a token and an expert.
//!
//! A block a pair, or several. Bytes moved: `8 n` read, 2 or `4 n` written a pair.

use cuda_std::math::over_one_plus_exp;
use cuda_std::{Block, Geometry, Source, kernel, made, mapped};

use crate::experts::ExpertProduct;
use crate::product::{Line, Parts};
use crate::rows::{self, Form, Plain, Rounded, Rows, Scaled};

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
    Geometry { grid: [a.pairs as usize, rows::parts(a.pairs as usize, a.n as usize)], scratch: 0 }
}

/// A pair's row of the activation.
struct Activation {
    gate: Line,
    up: Line,
    alpha: f32,
    limit: f32,
}

impl Source for Activation {
    type Read = (Parts, Parts);
    type Value = f32;

    #[inline(always)]
    fn read(&self, i: usize) -> Self::Read {
        (self.gate.read(i), self.up.read(i))
    }

    #[inline(always)]
    fn values<const N: usize>(&self, read: [Self::Read; N]) -> [f32; N] {
        // A NaN stays one.
        let below = |value: f32| if value > self.limit { self.limit } else { value };
        let above = |value: f32| if value < -self.limit { -self.limit } else { value };
        let gate = mapped(self.gate.values(mapped(read, |(gate, _)| gate)), below);
        let up = mapped(self.up.values(mapped(read, |(_, up)| up)), |up| above(below(up)));
        let gate = over_one_plus_exp(gate, mapped(gate, |gate| -self.alpha * gate));
        made(|i| gate[i] * (up[i] + 1.0))
    }
}

#[inline(always)]
fn swiglu<B: Block, F: Form>(block: &B, a: &ExpertSwiglu) {
    let (pair, n) = (block.x(), a.n as usize);
    let (gate, up) = (a.gate.row(pair), a.up.row(pair));
    let activation = Activation { gate, up, alpha: a.alpha, limit: a.limit };
    let part = rows::part(block.y(), a.pairs as usize, n);
    F::write(block, &a.y, (pair, n), part, &activation);
}

kernel! {
    /// Rows in the form f32.
    pub F32 = expert_swiglu__f32(ExpertSwiglu), lanes: 512, geometry: geometry, body: swiglu::<_, Plain>
}
kernel! {
    /// Rows in the form f16.
    pub F16_ = expert_swiglu__f16(ExpertSwiglu), lanes: 512, geometry: geometry, body: swiglu::<_, Scaled>
}
kernel! {
    /// Rows in the form bf16.
    pub BF16 = expert_swiglu__bf16(ExpertSwiglu), lanes: 512, geometry: geometry, body: swiglu::<_, Rounded>
}
