//! Matrix x few rows: `y[t, n] = sum over k of w[n, k] x[t, k]`.
//!
//! Tolerance: a chain of `j` roundings is off by at most `j 2^-24` of the sum of magnitudes; here `k / 16` fused
//! multiply-adds, four additions, and one rounding of the weight.

use kernels::matvec::{self, MatVec};

use super::random::Random;
use super::stored::{Layout, Stored};
use super::{Case, Expect, Launch, Scale, Stage};

/// Weights and rows.
pub(crate) struct Product {
    pub(crate) stored: Stored,
    /// Rows of `x` that a block computes, which names the kernel: 1 or 8.
    pub(crate) together: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) m: usize,
    pub(crate) w: Vec<u8>,
    pub(crate) x: Vec<f32>,
}

impl Product {
    /// Random weights and rows.
    pub(crate) fn new(stored: Stored, together: usize, n: usize, k: usize, m: usize) -> Self {
        let mut random = Random::new((n * k + m) as u64);
        let w = stored.random(&mut random, n * k);
        let x = (0..m * k).map(|_| random.wide(2)).collect();
        Self { stored, together, n, k, m, w, x }
    }
}

pub(crate) fn cases(stored: Stored, scale: Scale) -> Vec<Box<dyn Case>> {
    let mut random = Random::new(1);
    let mut shapes = vec![(1, 1, 1), (1, 31, 8), (2, 32, 2), (17, 33, 1), (9, 100, 17)];
    for m in [1, 2, 7, 8, 9, 17] {
        let (n, k) = if scale == Scale::Full { (200, 700) } else { (20, 100) };
        shapes.extend((0..2).map(|_| (1 + random.below(n), 1 + random.below(k), m)));
    }
    if scale == Scale::Full {
        // As many rows as a vocabulary has, or as many weights as that.
        let rows = 151_936 * 32 / stored.row_length(32);
        shapes.extend([(576, 1536, 9), (1, 4096, 3), (rows, 32, 2)]);
    }
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for (n, k, m) in shapes {
        for together in [1, 8] {
            cases.push(Box::new(Product::new(stored, together, n, stored.row_length(k), m)));
        }
    }
    cases
}

impl Case for Product {
    fn label(&self) -> String {
        format!("{} at a time, n={} k={} m={}", self.together, self.n, self.k, self.m)
    }

    fn bytes(&self) -> u64 {
        (self.w.len() + 4 * self.m * (self.n + self.k)) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = MatVec {
            w: stage.input(&self.w),
            x: stage.input(&self.x),
            y: stage.output(self.m * self.n),
            k: self.k as u32,
            n: self.n as u32,
            m: self.m as u32,
        };
        Launch::new(matvec::of(self.stored, self.together), args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let w = self.stored.values(&self.w);
        let roundings = (self.k.div_ceil(16) + 5) as f64;
        let products = self.x.chunks_exact(self.k).flat_map(|x| w.chunks_exact(self.k).map(move |w| (w, x)));
        vec![Expect::near(products.map(|(w, x)| {
            let terms = || w.iter().zip(x).map(|(&w, &x)| w * x as f64);
            (terms().sum(), terms().map(f64::abs).sum::<f64>() * roundings * 2f64.powi(-24))
        }))]
    }
}
