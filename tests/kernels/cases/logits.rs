//! Logits out of sums, in place: `y factor + bias`. Exact.

use kernels::logits::{FINISH, Finish};

use super::random::Random;
use super::{Case, Expect, Launch, Stage};

/// Sums, and what belongs to them.
pub(crate) struct Finished {
    n: usize,
    y: Vec<f32>,
    factors: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

impl Finished {
    /// With or without factors and a bias.
    pub(crate) fn new(rows: usize, n: usize, factors: bool, bias: bool) -> Self {
        let mut random = Random::new((rows * n) as u64);
        let powers: Vec<f32> = (0..rows).map(|_| 2f32.powi(random.below(41) as i32 - 20)).collect();
        let added = random.floats(n);
        let y = (0..rows * n).map(|_| random.wide(4)).collect();
        Self { n, y, factors: factors.then_some(powers), bias: bias.then_some(added) }
    }
}

pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    let shapes = [(1, 1), (3, 255), (17, 576), (2, 4096), (3, 4097), (2, 49_152)];
    let combinations = [(true, false), (false, true), (true, true), (false, false)];
    let cases = shapes.into_iter().flat_map(|(rows, n)| {
        combinations.map(|(factors, bias)| Box::new(Finished::new(rows, n, factors, bias)) as _)
    });
    cases.collect()
}

impl Case for Finished {
    fn label(&self) -> String {
        let Self { n, y, factors, bias } = self;
        let there = [factors.is_some(), bias.is_some()];
        format!("rows={} n={n} factors and bias: {there:?}", y.len() / n)
    }

    fn bytes(&self) -> u64 {
        8 * self.y.len() as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = Finish {
            y: stage.in_out(&self.y),
            factors: stage.optional(self.factors.as_deref()),
            bias: stage.optional(self.bias.as_deref()),
            n: self.n as u32,
            rows: (self.y.len() / self.n) as u32,
        };
        Launch::new(&FINISH, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let finished = |(i, &y): (usize, &f32)| {
            let factor = self.factors.as_ref().map_or(1.0, |factors| factors[i / self.n] as f64);
            let bias = self.bias.as_ref().map_or(0.0, |bias| bias[i % self.n] as f64);
            (y as f64 * factor + bias) as f32
        };
        vec![Expect::bits(&self.y.iter().enumerate().map(finished).collect::<Vec<f32>>())]
    }
}
