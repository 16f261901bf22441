//! Matrix x few rows on the tensor core.
//!
//! Two oracles. The bits: a chain of the tensor core's exact model over `k`. The value: f64, where each step of 16 cuts
//! seventeen terms off at `2^-25` of the greatest and the sum at `2^-23`; a subnormal counts as the least normal number.

use cuda_std::{Bf16, F16, MmaInput, tensor_core};
use kernels::matmul::{self, MatMul};

use super::float::Float;
use super::random::Random;
use super::{Case, Expect, Launch, Scale, Stage};

/// The distance between the smallest f32, of which each step may lose some.
const SMALLEST: f64 = 1e-42;

/// Weights and rows of a 16-bit type, as bits.
pub(crate) struct Product {
    pub(crate) input: Float,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) m: usize,
    pub(crate) w: Vec<u16>,
    pub(crate) x: Vec<u16>,
}

impl Product {
    /// Random values with exponents in `-spread..=spread`. In every third row of the weights neighbours cancel but for
    /// their last bit; the last row of `x`, if there are several, is zeros.
    pub(crate) fn new(input: Float, n: usize, k: usize, m: usize, spread: i32) -> Self {
        let mut random = Random::new((n * k + m) as u64 + spread as u64);
        let mut bits = |n: usize| (0..n).map(|_| input.bits(random.wide(spread))).collect::<Vec<_>>();
        let (mut w, mut x) = (bits(n * k), bits(m * k));
        for row in w.chunks_exact_mut(k).step_by(3) {
            row.as_chunks_mut::<2>().0.iter_mut().for_each(|[a, b]| *b = *a ^ 0x8001);
        }
        for row in x.chunks_exact_mut(k) {
            row.as_chunks_mut::<2>().0.iter_mut().step_by(2).for_each(|[a, b]| *b = *a);
        }
        if m > 1 {
            x[(m - 1) * k..].fill(0);
        }
        Self { input, n, k, m, w, x }
    }

    /// Makes every weight of every fourth row subnormal, or zero.
    fn with_subnormals(mut self) -> Self {
        let exponent = if self.input == Float::Bf16 { 0x7f80 } else { 0x7c00 };
        self.w
            .chunks_exact_mut(self.k)
            .skip(1)
            .step_by(4)
            .for_each(|row| row.iter_mut().for_each(|w| *w &= !exponent));
        self
    }

    /// `y` by the tensor core's exact model.
    pub(crate) fn model(&self) -> Vec<f32> {
        match self.input {
            Float::Bf16 => self.chain::<Bf16>(),
            _ => self.chain::<F16>(),
        }
    }

    /// `y` by a chain of steps over 16 columns each, for 16 rows of weights and 8 of `x` at once.
    fn chain<I: MmaInput>(&self) -> Vec<f32> {
        let mut y = vec![0.0; self.m * self.n];
        let at = |data: &[u16], rows: usize, row: usize, column: usize| {
            if row < rows && column < self.k { data[row * self.k + column] } else { 0 }
        };
        for row in (0..self.n).step_by(16) {
            for token in (0..self.m).step_by(8) {
                let mut sums = [[0.0; 8]; 16];
                for step in (0..self.k).step_by(16) {
                    let w = core::array::from_fn(|i| {
                        core::array::from_fn(|k| at(&self.w, self.n, row + i, step + k))
                    });
                    let x = core::array::from_fn(|i| {
                        core::array::from_fn(|k| at(&self.x, self.m, token + i, step + k))
                    });
                    tensor_core::step::<I>(&w, &x, &mut sums);
                }
                for i in 0..16.min(self.n - row) {
                    for j in 0..8.min(self.m - token) {
                        y[(token + j) * self.n + row + i] = sums[i][j];
                    }
                }
            }
        }
        y
    }
}

pub(crate) fn cases(input: Float, scale: Scale) -> Vec<Box<dyn Case>> {
    // f16 has exponents from -24 to 15, and products of two must not leave it: the input's, not the sum's, range.
    let wide = if input == Float::Bf16 { 30 } else { 12 };
    let mut shapes = vec![(1, 8, 1, 1), (15, 24, 2, wide), (16, 64, 8, 1), (33, 72, 9, wide)];
    if scale == Scale::Full {
        for m in 1..=17 {
            let (n, k) = ([1, 15, 16, 33][m % 4], [8, 24, 64, 576][m / 4 % 4]);
            shapes.extend([(n, k, m, 1), (n, k, m, wide)]);
        }
        shapes.extend([(33, 1536, 17, 1), (16, 1536, 3, wide), (200, 576, 1, 4)]);
    }
    let cases = shapes.into_iter().map(|(n, k, m, spread)| Product::new(input, n, k, m, spread));
    let subnormals =
        [(33, 24, 3), (40, 576, 8)].map(|(n, k, m)| Product::new(input, n, k, m, wide).with_subnormals());
    cases.chain(subnormals).map(|case| Box::new(case) as _).collect()
}

impl Case for Product {
    fn label(&self) -> String {
        format!("n={} k={} m={}", self.n, self.k, self.m)
    }

    fn bytes(&self) -> u64 {
        (2 * (self.w.len() + self.x.len()) + 4 * self.m * self.n) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = MatMul {
            w: stage.input(&self.w),
            x: stage.input(&self.x),
            y: stage.output(self.m * self.n),
            k: self.k as u32,
            n: self.n as u32,
            m: self.m as u32,
        };
        Launch::new(if self.input == Float::Bf16 { &matmul::BF16 } else { &matmul::F16_ }, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let bound = self.k.div_ceil(16) as f64 * (17.0 * 2f64.powi(-25) + 2f64.powi(-23));
        let rows = |data: &[u16]| data.iter().map(|&bits| self.input.value(bits)).collect::<Vec<f64>>();
        let (w, x) = (rows(&self.w), rows(&self.x));
        let products = x.chunks_exact(self.k).flat_map(|x| w.chunks_exact(self.k).map(move |w| (w, x)));
        let near = Expect::near(products.map(|(w, x)| {
            let terms = || w.iter().zip(x).filter(|(w, x)| **w != 0.0 && **x != 0.0);
            let size = |value: &f64| value.abs().max(self.input.least_normal());
            (
                terms().map(|(w, x)| w * x).sum(),
                terms().map(|(w, x)| size(w) * size(x)).sum::<f64>() * bound + SMALLEST,
            )
        }));
        vec![Expect::All(vec![near, Expect::bits(&self.model())])]
    }
}
