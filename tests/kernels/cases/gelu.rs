//! `gelu(x)`, in the form with a tangent: `x / (1 + e^-2u)`, `u = sqrt(2 / pi) (x + 0.044715 x^3)`.
//!
//! Tolerance: `u` is off by three roundings, which the exponential turns into as many of its own for each unit of `2u`; four
//! roundings more. Where the exponential is beyond f32 the answer is zero, and the true one below 1e-36. Where it is nothing
//! beside 1, the answer is `x`.

use kernels::gelu::{BF16, F16_, F32, Gelu};

use super::float::Float;
use super::product::Sums;
use super::random::Random;
use super::rows::{expect_scaled, stage_scaled};
use super::{Case, Expect, Launch, Stage};

/// A product, of which rows in some form are made.
pub(crate) struct Activation {
    pub(crate) form: Float,
    pub(crate) x: Sums,
}

/// Both tails, the zeros, and where the exponential leaves f32.
const SPECIAL: [f32; 13] = [0.0, -0.0, 1.0, -1.0, 5.0, -5.0, 9.9, -9.9, 10.5, -10.5, 4e3, -4e3, 1e-38];

impl Activation {
    /// Some combination of what a product may have; the second row is zeros, the third tiny.
    pub(crate) fn new(form: Float, rows: usize, n: usize, variant: usize) -> Self {
        let mut random = Random::new((rows * n + variant) as u64);
        let mut x = Sums::variant(&mut random, rows, n, variant).with_row(0, &SPECIAL);
        if rows > 1 && variant == 0 {
            x = x.with_row(1, &vec![0.0; n]);
        }
        if rows > 2 && variant == 0 {
            x = x.with_row(2, &(0..n).map(|_| random.float() * 1e-39).collect::<Vec<_>>());
        }
        Self { form, x }
    }

    /// One row by itself.
    pub(crate) fn row(&self, row: usize) -> Self {
        Self { x: self.x.row(row), ..*self }
    }
}

pub(crate) fn cases(form: Float) -> Vec<Box<dyn Case>> {
    let shapes = [(1, 1), (1, 255), (5, 1024), (3, 341), (1, 1025), (17, 576), (2, 1536), (70, 7), (9, 40)];
    let variants = shapes.into_iter().enumerate().map(|(i, (rows, n))| (rows, n, i));
    let more = (0..12).map(|variant| (4, 100, variant));
    let cases = variants.chain(more).map(|(rows, n, variant)| Activation::new(form, rows, n, variant));
    cases.map(|case| Box::new(case) as _).collect()
}

impl Case for Activation {
    fn label(&self) -> String {
        format!("rows={} n={} {}", self.x.rows, self.x.n, self.x.label())
    }

    fn bytes(&self) -> u64 {
        let written = if self.form == Float::F32 { 4 } else { 2 };
        self.x.bytes() + (written * self.x.rows * self.x.n) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let Sums { rows, n, .. } = self.x;
        let args = Gelu {
            x: self.x.stage(stage),
            y: stage_scaled(stage, self.form, rows, n),
            n: n as u32,
            rows: rows as u32,
        };
        let kernel = match self.form {
            Float::F32 => &F32,
            Float::F16 => &F16_,
            Float::Bf16 => &BF16,
        };
        Launch::new(kernel, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let Sums { rows, n, .. } = self.x;
        let values = (0..rows * n).map(|i| {
            let x = self.x.value(i / n, i % n) as f64;
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            let exp = (-2.0 * u).exp();
            let want = x / (1.0 + exp);
            let roundings = 4.0 + 3.0 * (2.0 * u).abs().min(90.0) * (1.0 - 1.0 / (1.0 + exp));
            let exact = x == 0.0 || exp < f64::EPSILON / 2.0;
            let smallest = if exp > 1e37 { 1e-36 } else { f32::from_bits(1) as f64 };
            (want, if exact { 0.0 } else { want.abs() * roundings * 2f64.powi(-24) + smallest })
        });
        expect_scaled(self.form, &values.collect::<Vec<_>>())
    }
}
