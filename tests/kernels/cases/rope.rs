//! Rotary position embedding: pairs of queries and keys turn, the rest of a head stays, and keys and values go to their
//! pages; nothing else there changes. Some models norm the heads of queries and keys before.
//!
//! Tolerance: a product and a fused multiply-add round once each, by at most `2^-24` of the two terms; then half a unit
//! of the cache's type. What does not turn is exact. A norm's squares are positive, so their sum is off by its chain's
//! length `head_dim / 32 + 5` in units of `2^-24`, the root by half of that; and six roundings more.

use cuda_std::{Kernel, Value};
use kernels::kv::PAGE;
use kernels::rope::{self, Rope, RopeNormed};

use super::float::Float;
use super::product::Sums;
use super::random::Random;
use super::{Case, Expect, Launch, Stage};

/// Which elements of a head form a pair.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    Interleaved,
    SplitHalf,
}

/// How many heads of which size, and how much of one turns.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) rotated: usize,
}

/// Some tokens at random positions, for random places in pages.
pub(crate) struct Turn {
    pairing: Pairing,
    cache: Float,
    shape: Heads,
    q: Sums,
    k: Sums,
    v: Sums,
    table: Vec<f32>,
    positions: Vec<u32>,
    slots: Vec<u32>,
    pages: usize,
    /// Weights of the norms of Q's and K's heads.
    norms: Option<[Vec<f32>; 2]>,
}

/// Added to the mean of squares in a norm.
const EPSILON: f32 = 1e-6;

/// Positions in the table.
const CONTEXT: usize = 700;
/// What every element of the pages is before.
const BEFORE: f32 = -7.25;

impl Turn {
    /// Angles as a model has them, and some combination of what a product may have.
    pub(crate) fn new(pairing: Pairing, cache: Float, tokens: usize, shape: Heads, variant: usize) -> Self {
        let Heads { heads, kv_heads, head_dim, rotated } = shape;
        let mut random = Random::new((tokens * heads * head_dim + rotated) as u64);
        let angle =
            |position: usize, i: usize| position as f64 * 10_000f64.powf(-2.0 * i as f64 / rotated as f64);
        let table = (0..CONTEXT)
            .flat_map(|position| (0..rotated / 2).map(move |i| angle(position, i)))
            .flat_map(|angle| [angle.cos() as f32, angle.sin() as f32])
            .collect();
        let mut positions: Vec<u32> = (0..tokens).map(|_| random.below(CONTEXT) as u32).collect();
        positions[0] = CONTEXT as u32 - 1;
        let pages = tokens.div_ceil(PAGE) + 1;
        let mut slots: Vec<u32> = (0..(pages * PAGE) as u32).collect();
        random.shuffle(&mut slots);
        slots.truncate(tokens);
        let mut product = |heads: usize| Sums::variant(&mut random, tokens, heads * head_dim, variant);
        let (q, k, v) = (product(heads), product(kv_heads), product(kv_heads));
        Self { pairing, cache, shape, q, k, v, table, positions, slots, pages, norms: None }
    }

    /// Norms the heads before they turn. The second token's are zeros.
    pub(crate) fn normed(mut self) -> Self {
        let mut random = Random::new(self.shape.head_dim as u64);
        self.norms = Some([(); 2].map(|()| random.floats(self.shape.head_dim)));
        if self.positions.len() > 1 && self.q.is_plain() {
            self.q = self.q.with_row(1, &vec![0.0; self.shape.heads * self.shape.head_dim]);
        }
        self
    }

    fn args<S: Value>(&self, stage: &mut Stage, before: S) -> Rope<S> {
        let Heads { heads, kv_heads, head_dim, rotated } = self.shape;
        let tokens = self.positions.len();
        let pages = vec![before; self.pages * kv_heads * head_dim * PAGE];
        Rope {
            q: self.q.stage(stage),
            k: self.k.stage(stage),
            v: self.v.stage(stage),
            table: stage.input(&self.table),
            positions: stage.input(&self.positions),
            slots: stage.input(&self.slots),
            queries: stage.in_out(&vec![before; tokens * heads * head_dim]),
            key_pages: stage.in_out(&pages),
            value_pages: stage.in_out(&pages),
            tokens: tokens as u32,
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            head_dim: head_dim as u32,
            rotated: rotated as u32,
        }
    }

    /// A token's heads before they turn, each element with its tolerance.
    fn heads(&self, x: &Sums, norm: Option<&[f32]>, token: usize) -> Vec<(f64, f64)> {
        let head_dim = self.shape.head_dim;
        let elements: Vec<f64> = (0..x.n).map(|i| x.value(token, i) as f64).collect();
        let Some(w) = norm else { return elements.into_iter().map(|element| (element, 0.0)).collect() };
        let off = ((head_dim / 32 + 5) as f64 / 2.0 + 6.0) * 2f64.powi(-24);
        let normed = |head: &[f64]| {
            let mean = head.iter().map(|x| x * x).sum::<f64>() / head_dim as f64;
            let scale = 1.0 / (mean + EPSILON as f64).sqrt();
            let values = head.iter().zip(w).map(|(x, &w)| x * scale * w as f64);
            values.map(|value| (value, value.abs() * off)).collect::<Vec<_>>()
        };
        elements.chunks_exact(head_dim).flat_map(normed).collect()
    }

    /// A token's heads, turned, each element with its tolerance.
    fn turned(&self, x: &Sums, norm: Option<&[f32]>, token: usize) -> Vec<(f64, f64)> {
        let Heads { head_dim, rotated, .. } = self.shape;
        let half = rotated / 2;
        let before = self.heads(x, norm, token);
        let stored = |value: f64, off: f64| match self.cache {
            Float::F32 => off,
            cache => off + cache.half_unit(value.abs() + off),
        };
        let rest = |&(value, off): &(f64, f64)| match norm {
            None => (self.cache.round(value as f32) as f64, 0.0),
            Some(_) => (value, stored(value, off)),
        };
        let mut out: Vec<(f64, f64)> = before.iter().map(rest).collect();
        for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
            for i in 0..half {
                let (first, second) = match self.pairing {
                    Pairing::Interleaved => (2 * i, 2 * i + 1),
                    Pairing::SplitHalf => (i, i + half),
                };
                let at = (self.positions[token] as usize * half + i) * 2;
                let (cos, sin) = (self.table[at] as f64, self.table[at + 1] as f64);
                let [(x, x_off), (y, y_off)] = [first, second].map(|d| before[head * head_dim + d]);
                let near = |a: f64, b: f64, off: f64| {
                    let off = off + 2.0 * 2f64.powi(-24) * (a.abs() + b.abs());
                    (a + b, stored((a + b).abs(), off))
                };
                out[first] = near(x * cos, -y * sin, x_off * cos.abs() + y_off * sin.abs());
                out[second] = near(x * sin, y * cos, x_off * sin.abs() + y_off * cos.abs());
            }
        }
        out
    }

    fn launch<S: Value>(&self, stage: &mut Stage, before: S, kernels: &Kernels<S>) -> Launch {
        let args = self.args(stage, before);
        match (&self.norms, self.pairing) {
            (Some([q, k]), _) => {
                let (q_norm, k_norm) = (stage.input(q), stage.input(k));
                Launch::new(kernels.normed, RopeNormed { rope: args, q_norm, k_norm, epsilon: EPSILON })
            }
            (None, Pairing::Interleaved) => Launch::new(kernels.interleaved, args),
            (None, Pairing::SplitHalf) => Launch::new(kernels.split_half, args),
        }
    }
}

/// The kernels for one type of the cache.
struct Kernels<S: 'static> {
    interleaved: &'static Kernel<Rope<S>>,
    split_half: &'static Kernel<Rope<S>>,
    normed: &'static Kernel<RopeNormed<S>>,
}

/// Every shape, with norms of the heads.
pub(crate) fn normed_cases(cache: Float) -> Vec<Box<dyn Case>> {
    turns(Pairing::SplitHalf, cache).map(|turn| Box::new(turn.normed()) as _).collect()
}

/// Every shape.
pub(crate) fn cases(pairing: Pairing, cache: Float) -> Vec<Box<dyn Case>> {
    turns(pairing, cache).map(|turn| Box::new(turn) as _).collect()
}

/// Every shape, with every cache type's own combination of a product's parts.
fn turns(pairing: Pairing, cache: Float) -> impl Iterator<Item = Turn> {
    let shapes = [
        (1, 1, 1, 2, 2),
        (3, 9, 3, 64, 64),
        (40, 3, 3, 48, 48),
        (2, 5, 1, 80, 32),
        (9, 1, 1, 128, 128),
        (1, 4, 2, 256, 64),
        (2, 8, 2, 96, 96),
        (5, 4, 4, 16, 16),
        (4, 32, 1, 32, 16),
        (2, 6, 2, 64, 0),
        (3, 4, 2, 64, 64),
        (3, 4, 2, 64, 62),
    ];
    shapes.into_iter().enumerate().map(move |(variant, shape)| {
        let (tokens, heads, kv_heads, head_dim, rotated) = shape;
        Turn::new(pairing, cache, tokens, Heads { heads, kv_heads, head_dim, rotated }, variant)
    })
}

impl Case for Turn {
    fn label(&self) -> String {
        let Heads { heads, kv_heads, head_dim, rotated } = self.shape;
        let tokens = self.positions.len();
        format!(
            "tokens={tokens} heads={heads}/{kv_heads} head_dim={head_dim} rotated={rotated} norms={} {}",
            self.norms.is_some(),
            self.q.label()
        )
    }

    fn bytes(&self) -> u64 {
        let stored = if self.cache == Float::F32 { 4 } else { 2 };
        let read = self.q.bytes() + self.k.bytes() + self.v.bytes();
        read + read / 4 * stored + 4 * (self.positions.len() * (self.shape.rotated + 2)) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let half = self.cache.bits(BEFORE);
        match self.cache {
            Float::F32 => {
                let (interleaved, split_half) = (&rope::INTERLEAVED_F32, &rope::SPLIT_HALF_F32);
                let kernels = Kernels { interleaved, split_half, normed: &rope::NORMED_SPLIT_HALF_F32 };
                self.launch(stage, BEFORE, &kernels)
            }
            Float::F16 => {
                let (interleaved, split_half) = (&rope::INTERLEAVED_F16, &rope::SPLIT_HALF_F16);
                let kernels = Kernels { interleaved, split_half, normed: &rope::NORMED_SPLIT_HALF_F16 };
                self.launch(stage, half, &kernels)
            }
            Float::Bf16 => {
                let (interleaved, split_half) = (&rope::INTERLEAVED_BF16, &rope::SPLIT_HALF_BF16);
                let kernels = Kernels { interleaved, split_half, normed: &rope::NORMED_SPLIT_HALF_BF16 };
                self.launch(stage, half, &kernels)
            }
        }
    }

    fn oracle(&self) -> Vec<Expect> {
        let Heads { kv_heads, head_dim, .. } = self.shape;
        let tokens = self.positions.len();
        let (q_norm, k_norm) = match &self.norms {
            Some([q, k]) => (Some(q.as_slice()), Some(k.as_slice())),
            None => (None, None),
        };
        let mut keys = vec![(BEFORE as f64, 0.0); self.pages * kv_heads * head_dim * PAGE];
        let mut values = keys.clone();
        for (token, &slot) in self.slots.iter().enumerate() {
            let (page, place) = (slot as usize / PAGE, slot as usize % PAGE);
            for (i, key) in self.turned(&self.k, k_norm, token).into_iter().enumerate() {
                let (head, d) = (page * kv_heads + i / head_dim, i % head_dim);
                // A token's elements side by side, or an element of the page's tokens.
                let together = (head * PAGE + place) * head_dim + d;
                let apart = (head * head_dim + d) * PAGE + place;
                let full = self.cache == Float::F32;
                keys[if full { apart } else { together }] = key;
                values[if full { together } else { apart }] =
                    (self.cache.round(self.v.value(token, i)) as f64, 0.0);
            }
        }
        let queries = (0..tokens).flat_map(|token| self.turned(&self.q, q_norm, token));
        vec![
            Expect::near_as(self.cache, queries),
            Expect::near_as(self.cache, keys),
            Expect::near_as(self.cache, values),
        ]
    }
}
