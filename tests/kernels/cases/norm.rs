//! RMS norm: `y = x / sqrt(mean(x^2) + epsilon) w`.
//!
//! Tolerance, in units of `2^-24`: squares are positive, so their sum is off by its chain's length `n / 256 + 13`, the
//! root by half of that; and six roundings more.

use kernels::norm::{RMS, RmsNorm};

use super::random::Random;
use super::{Case, Expect, Launch, Stage};

/// Rows of `n` and their weights.
pub(crate) struct Norm {
    n: usize,
    epsilon: f32,
    x: Vec<f32>,
    w: Vec<f32>,
}

impl Norm {
    /// Rows of random magnitudes; the second is zeros.
    pub(crate) fn new(rows: usize, n: usize) -> Self {
        let mut random = Random::new((rows * n) as u64);
        let mut x: Vec<f32> = (0..rows)
            .flat_map(|_| {
                let size = random.wide(20);
                random.floats(n).into_iter().map(move |x| x * size)
            })
            .collect();
        x.iter_mut().skip(n).take(n).for_each(|x| *x = 0.0);
        Self { n, epsilon: 1e-5, x, w: random.floats(n) }
    }
}

pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    [(1, 1), (3, 2), (2, 255), (17, 256), (2, 257), (9, 576), (2, 1000), (2, 4096)]
        .map(|(rows, n)| Box::new(Norm::new(rows, n)) as _)
        .into()
}

impl Case for Norm {
    fn label(&self) -> String {
        format!("rows={} n={}", self.x.len() / self.n, self.n)
    }

    fn bytes(&self) -> u64 {
        4 * (2 * self.x.len() + self.n) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = RmsNorm {
            x: stage.input(&self.x),
            w: stage.input(&self.w),
            y: stage.output(self.x.len()),
            epsilon: self.epsilon,
            n: self.n as u32,
            rows: (self.x.len() / self.n) as u32,
        };
        Launch::new(&RMS, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let roundings = ((self.n / 256 + 13) / 2 + 6) as f64;
        let rows = self.x.chunks_exact(self.n).flat_map(|x| {
            let mean = x.iter().map(|&x| (x as f64).powi(2)).sum::<f64>() / self.n as f64;
            let scale = 1.0 / (mean + self.epsilon as f64).sqrt();
            x.iter().zip(&self.w).map(move |(&x, &w)| x as f64 * scale * w as f64)
        });
        vec![Expect::near(rows.map(|y| (y, y.abs() * roundings * 2f64.powi(-24))))]
    }
}
