//! Rotary position embedding: pairs of queries and keys turn, the rest of a head stays, and keys and values go to their
//! pages; nothing else there changes.
//!
//! Tolerance: a product and a fused multiply-add round once each, by at most `2^-24` of the two terms; then half a unit
//! of the cache's type. What does not turn is exact.

use cuda_std::Value;
use kernels::kv::PAGE;
use kernels::rope::{self, Rope};

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
}

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
        Self { pairing, cache, shape, q, k, v, table, positions, slots, pages }
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

    /// A token's heads, turned, each element with its tolerance.
    fn turned(&self, x: &Sums, token: usize) -> Vec<(f64, f64)> {
        let Heads { head_dim, rotated, .. } = self.shape;
        let half = rotated / 2;
        let mut out: Vec<(f64, f64)> =
            (0..x.n).map(|i| (self.cache.round(x.value(token, i)) as f64, 0.0)).collect();
        for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
            for i in 0..half {
                let (first, second) = match self.pairing {
                    Pairing::Interleaved => (2 * i, 2 * i + 1),
                    Pairing::SplitHalf => (i, i + half),
                };
                let at = (self.positions[token] as usize * half + i) * 2;
                let (cos, sin) = (self.table[at] as f64, self.table[at + 1] as f64);
                let element = |d: usize| x.value(token, head * head_dim + d) as f64;
                let (x, y) = (element(first), element(second));
                let near = |a: f64, b: f64| {
                    let off = 2.0 * 2f64.powi(-24) * (a.abs() + b.abs());
                    let stored = match self.cache {
                        Float::F32 => 0.0,
                        cache => cache.half_unit((a + b).abs() + off),
                    };
                    (a + b, off + stored)
                };
                out[first] = near(x * cos, -y * sin);
                out[second] = near(x * sin, y * cos);
            }
        }
        out
    }
}

/// Every shape, with every cache type's own combination of a product's parts.
pub(crate) fn cases(pairing: Pairing, cache: Float) -> Vec<Box<dyn Case>> {
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
    let cases = shapes.into_iter().enumerate().map(|(variant, shape)| {
        let (tokens, heads, kv_heads, head_dim, rotated) = shape;
        Turn::new(pairing, cache, tokens, Heads { heads, kv_heads, head_dim, rotated }, variant)
    });
    cases.map(|case| Box::new(case) as _).collect()
}

impl Case for Turn {
    fn label(&self) -> String {
        let Heads { heads, kv_heads, head_dim, rotated } = self.shape;
        let tokens = self.positions.len();
        format!(
            "tokens={tokens} heads={heads}/{kv_heads} head_dim={head_dim} rotated={rotated} {}",
            self.q.label()
        )
    }

    fn bytes(&self) -> u64 {
        let stored = if self.cache == Float::F32 { 4 } else { 2 };
        let read = self.q.bytes() + self.k.bytes() + self.v.bytes();
        read + read / 4 * stored + 4 * (self.positions.len() * (self.shape.rotated + 2)) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        use Pairing::{Interleaved, SplitHalf};
        let halves = |stage: &mut Stage| self.args(stage, self.cache.bits(BEFORE));
        match (self.pairing, self.cache) {
            (Interleaved, Float::F32) => Launch::new(&rope::INTERLEAVED_F32, self.args(stage, BEFORE)),
            (SplitHalf, Float::F32) => Launch::new(&rope::SPLIT_HALF_F32, self.args(stage, BEFORE)),
            (Interleaved, Float::F16) => Launch::new(&rope::INTERLEAVED_F16, halves(stage)),
            (SplitHalf, Float::F16) => Launch::new(&rope::SPLIT_HALF_F16, halves(stage)),
            (Interleaved, Float::Bf16) => Launch::new(&rope::INTERLEAVED_BF16, halves(stage)),
            (SplitHalf, Float::Bf16) => Launch::new(&rope::SPLIT_HALF_BF16, halves(stage)),
        }
    }

    fn oracle(&self) -> Vec<Expect> {
        let Heads { kv_heads, head_dim, .. } = self.shape;
        let tokens = self.positions.len();
        let mut keys = vec![(BEFORE as f64, 0.0); self.pages * kv_heads * head_dim * PAGE];
        let mut values = keys.clone();
        for (token, &slot) in self.slots.iter().enumerate() {
            let (page, place) = (slot as usize / PAGE, slot as usize % PAGE);
            for (i, key) in self.turned(&self.k, token).into_iter().enumerate() {
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
        let queries = (0..tokens).flat_map(|token| self.turned(&self.q, token));
        vec![
            Expect::near_as(self.cache, queries),
            Expect::near_as(self.cache, keys),
            Expect::near_as(self.cache, values),
        ]
    }
}
