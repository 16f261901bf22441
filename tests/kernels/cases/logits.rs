//! Logits out of sums, in place: `y + bias`. Exact.

use kernels::logits::{FINISH, Finish};

use super::random::Random;
use super::{Case, Expect, Launch, Stage};

/// Sums, and what belongs to them.
pub(crate) struct Finished {
    n: usize,
    y: Vec<f32>,
    bias: Vec<f32>,
}

impl Finished {
    pub(crate) fn new(rows: usize, n: usize) -> Self {
        let mut random = Random::new((rows * n) as u64);
        let bias = random.floats(n);
        Self { n, y: (0..rows * n).map(|_| random.wide(4)).collect(), bias }
    }
}

pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    let shapes = [(1, 1), (3, 255), (17, 576), (2, 4096), (3, 4097), (2, 49_152)];
    shapes.map(|(rows, n)| Box::new(Finished::new(rows, n)) as _).into()
}

impl Case for Finished {
    fn label(&self) -> String {
        format!("rows={} n={}", self.y.len() / self.n, self.n)
    }

    fn bytes(&self) -> u64 {
        8 * self.y.len() as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = Finish {
            y: stage.in_out(&self.y),
            bias: stage.input(&self.bias),
            n: self.n as u32,
            rows: (self.y.len() / self.n) as u32,
        };
        Launch::new(&FINISH, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let finished = |(i, &y): (usize, &f32)| (y as f64 + self.bias[i % self.n] as f64) as f32;
        vec![Expect::bits(&self.y.iter().enumerate().map(finished).collect::<Vec<f32>>())]
    }
}
