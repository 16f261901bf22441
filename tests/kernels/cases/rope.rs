//! Rotary position embedding: pairs turn, the rest of a head stays.
//!
//! Tolerance: a product and a fused multiply-add round once each, by at most `2^-24` of the two terms.

use kernels::rope::{INTERLEAVED, Rope, SPLIT_HALF};

use super::random::Random;
use super::{Case, Expect, Launch, Stage};

/// Which elements of a head form a pair.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    Interleaved,
    SplitHalf,
}

/// Heads of some tokens at random positions.
pub(crate) struct Turn {
    pairing: Pairing,
    heads: usize,
    head_dim: usize,
    rotated: usize,
    x: Vec<f32>,
    table: Vec<f32>,
    positions: Vec<u32>,
}

/// Positions in the table.
const CONTEXT: usize = 700;

impl Turn {
    /// Angles as a model has them.
    pub(crate) fn new(
        pairing: Pairing,
        tokens: usize,
        heads: usize,
        head_dim: usize,
        rotated: usize,
    ) -> Self {
        let mut random = Random::new((tokens * heads * head_dim + rotated) as u64);
        let angle =
            |position: usize, i: usize| position as f64 * 10_000f64.powf(-2.0 * i as f64 / rotated as f64);
        let table = (0..CONTEXT)
            .flat_map(|position| (0..rotated / 2).map(move |i| angle(position, i)))
            .flat_map(|angle| [angle.cos() as f32, angle.sin() as f32])
            .collect();
        let mut positions: Vec<u32> = (0..tokens).map(|_| random.below(CONTEXT) as u32).collect();
        positions[0] = CONTEXT as u32 - 1;
        Self {
            pairing,
            heads,
            head_dim,
            rotated,
            x: random.floats(tokens * heads * head_dim),
            table,
            positions,
        }
    }
}

pub(crate) fn cases(pairing: Pairing) -> Vec<Box<dyn Case>> {
    [
        (1, 1, 2, 2),
        (3, 9, 64, 64),
        (17, 3, 48, 48),
        (2, 5, 80, 32),
        (9, 1, 128, 128),
        (1, 4, 256, 64),
        (2, 8, 96, 96),
    ]
    .map(|(tokens, heads, head_dim, rotated)| {
        Box::new(Turn::new(pairing, tokens, heads, head_dim, rotated)) as _
    })
    .into()
}

impl Case for Turn {
    fn label(&self) -> String {
        let Self { heads, head_dim, rotated, positions, .. } = self;
        format!("tokens={} heads={heads} head_dim={head_dim} rotated={rotated}", positions.len())
    }

    fn bytes(&self) -> u64 {
        4 * (2 * self.x.len() / self.head_dim * self.rotated + self.positions.len() * (self.rotated + 1))
            as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = Rope {
            x: stage.in_out(&self.x),
            table: stage.input(&self.table),
            positions: stage.input(&self.positions),
            tokens: self.positions.len() as u32,
            heads: self.heads as u32,
            head_dim: self.head_dim as u32,
            rotated: self.rotated as u32,
        };
        Launch::new(if self.pairing == Pairing::Interleaved { &INTERLEAVED } else { &SPLIT_HALF }, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let half = self.rotated / 2;
        let mut turned: Vec<(f64, f64)> = self.x.iter().map(|&x| (x as f64, 0.0)).collect();
        for (head, out) in turned.chunks_exact_mut(self.head_dim).enumerate() {
            let position = self.positions[head / self.heads] as usize;
            for i in 0..half {
                let (first, second) = match self.pairing {
                    Pairing::Interleaved => (2 * i, 2 * i + 1),
                    Pairing::SplitHalf => (i, i + half),
                };
                let (cos, sin) =
                    (self.table[(position * half + i) * 2], self.table[(position * half + i) * 2 + 1]);
                let (cos, sin, x, y) = (cos as f64, sin as f64, out[first].0, out[second].0);
                let bound = |a: f64, b: f64| 2.0 * 2f64.powi(-24) * (a.abs() + b.abs());
                out[first] = (x * cos - y * sin, bound(x * cos, y * sin));
                out[second] = (x * sin + y * cos, bound(x * sin, y * cos));
            }
        }
        vec![Expect::near(turned)]
    }
}
