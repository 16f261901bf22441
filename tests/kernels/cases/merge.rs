//! The merge of attention's chunks: `sum of e^(top_c - top) partial_c / sum of e^(top_c - top) total_c`, over the chunks of a
//! token's window; a sink is one more of them, with a total of 1 and no sum.
//!
//! Tolerance, with `u = 2^-24`: an exponential is off by `4 u` and what its argument's rounding makes of it; a sum takes
//! that, a product and a fused multiply-add for each chunk.

use std::ops::Range;

use kernels::flash::CHUNK;
use kernels::merge::{MERGE, Partials};

use super::attention::first_visible;
use super::float::Float;
use super::random::Random;
use super::rows::{expect_rows, stage_rows};
use super::{Case, Expect, Launch, Stage};

/// What the chunks of some tokens left.
pub(crate) struct Merge {
    /// Of what comes out.
    pub(crate) form: Float,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) chunks: usize,
    pub(crate) positions: Vec<u32>,
    pub(crate) partial: Vec<f32>,
    pub(crate) tops: Vec<f32>,
    /// Positions that a token sees; 0 for all.
    pub(crate) window: usize,
    /// By head; empty for none.
    pub(crate) sinks: Vec<f32>,
}

impl Merge {
    /// Random ones; NaN in the chunks past a token's own and before its window's.
    pub(crate) fn new(heads: usize, head_dim: usize, positions: &[u32], spread: f32, window: usize) -> Self {
        let mut random = Random::new((heads * head_dim) as u64);
        let reached = |position: u32| position as usize / CHUNK + 1;
        let chunks = positions.iter().map(|&position| reached(position)).max().unwrap_or(0) + 1;
        let (mut partial, mut tops) = (Vec::new(), Vec::new());
        for &position in positions {
            for chunk in 0..heads * chunks {
                let seen = chunks_seen(position, window).contains(&(chunk % chunks));
                let number = |value: f32| if seen { value } else { f32::NAN };
                tops.extend([number(spread * random.float()), number(1.0 + 50.0 * random.float().abs())]);
                partial.extend((0..head_dim).map(|_| number(random.wide(3))));
            }
        }
        let positions = positions.to_vec();
        let (form, sinks) = (Float::F32, Vec::new());
        Self { form, heads, head_dim, chunks, positions, partial, tops, window, sinks }
    }
}

/// The chunks of which a token sees something.
fn chunks_seen(position: u32, window: usize) -> Range<usize> {
    first_visible(position as usize, window) / CHUNK..position as usize / CHUNK + 1
}

pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    // The last has more chunks than a block has lanes.
    let positions: [&[u32]; 6] =
        [&[0], &[127, 128, 129], &[300, 5, 255, 256], &[4095], &[700; 8], &[35_000, 0, 1150]];
    let shapes = [(1, 16), (3, 64), (4, 80), (2, 128), (9, 32), (1, 112)];
    let cases = shapes.into_iter().zip(positions).flat_map(|((heads, head_dim), positions)| {
        [1.0, 60.0].into_iter().flat_map(move |spread| {
            let plain = Merge::new(heads, head_dim, positions, spread, 0);
            let sinks = Random::new(5).floats(heads).iter().map(|sink| sink * spread).collect();
            let windowed = Merge { sinks, ..Merge::new(heads, head_dim, positions, spread, 200) };
            let rounded = [Float::F16, Float::Bf16]
                .map(|form| Merge { form, ..Merge::new(heads, head_dim, positions, spread, 0) });
            [plain, windowed].into_iter().chain(rounded).map(|case| Box::new(case) as _)
        })
    });
    cases.collect()
}

impl Case for Merge {
    fn label(&self) -> String {
        let Self { heads, head_dim, positions, .. } = self;
        let Self { window, sinks, .. } = self;
        format!(
            "heads={heads} head_dim={head_dim} positions={positions:?} window={window} sinks={} as {}",
            sinks.len(),
            self.form.name()
        )
    }

    fn bytes(&self) -> u64 {
        let chunks: usize =
            self.positions.iter().map(|&position| chunks_seen(position, self.window).len()).sum();
        (4 * self.heads * ((self.head_dim + 2) * chunks + self.head_dim * self.positions.len())) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = Partials {
            partial: stage.input(&self.partial),
            partial_tops: stage.input(&self.tops),
            positions: stage.input(&self.positions),
            sinks: stage.optional((!self.sinks.is_empty()).then_some(&self.sinks[..])),
            out: stage_rows(stage, self.form, self.positions.len(), self.heads * self.head_dim),
            tokens: self.positions.len() as u32,
            heads: self.heads as u32,
            head_dim: self.head_dim as u32,
            chunks: self.chunks as u32,
            window: self.window as u32,
        };
        Launch::new(&MERGE, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let unit = 2f64.powi(-24);
        let mut out = Vec::new();
        for row in 0..self.positions.len() * self.heads {
            let Range { start, end } = chunks_seen(self.positions[row / self.heads], self.window);
            let (seen, all) = (end - start + 1, row * self.chunks + start..row * self.chunks + end);
            let sink = self.sinks.get(row % self.heads).map_or(f64::NEG_INFINITY, |&sink| sink as f64);
            let top_of = |chunk: usize| self.tops[2 * chunk] as f64;
            let top = all.clone().map(top_of).fold(sink, f64::max);
            let counts = |chunk: usize| (top_of(chunk) - top).exp();
            // Every exponential on a chunk's way is off by as much at most.
            let off = |top_c: f64| seen as f64 * 8.0 * unit + 2.0 * unit * (top_c.abs() + top.abs());
            let total_of = |chunk: usize| counts(chunk) * self.tops[2 * chunk + 1] as f64;
            let of_sink = (sink - top).exp();
            let total: f64 = all.clone().map(total_of).sum::<f64>() + of_sink;
            let total_off: f64 = all.clone().map(|chunk| total_of(chunk) * off(top_of(chunk))).sum::<f64>()
                + if of_sink > 0.0 { of_sink * off(sink) } else { 0.0 };
            for d in 0..self.head_dim {
                let term = |chunk: usize| counts(chunk) * self.partial[chunk * self.head_dim + d] as f64;
                let sum: f64 = all.clone().map(term).sum();
                let sum_off: f64 =
                    all.clone().map(|chunk| term(chunk).abs() * off(top_of(chunk)) + 1e-42).sum();
                let want = sum / total;
                out.push((want, (sum_off + want.abs() * total_off) / total * 1.01 + want.abs() * 2.0 * unit));
            }
        }
        expect_rows(self.form, &out)
    }
}
