//! RMS norm: `y = x / sqrt(mean(x^2) + epsilon) w`, and before it `x += product`, which is exact.
//!
//! Tolerance, in units of `2^-24`: squares are positive, so their sum is off by its chain's length `n / 256 + 13`, the
//! root by half of that; and six roundings more.

use kernels::norm::{BF16, F16_, F32, RmsNorm};

use super::float::Float;
use super::product::Sums;
use super::random::Random;
use super::rows::{expect_rows, stage_rows};
use super::{Case, Expect, Launch, Stage};

/// Rows of `n` and their weights.
pub(crate) struct Norm {
    form: Float,
    n: usize,
    epsilon: f32,
    x: Vec<f32>,
    product: Option<Sums>,
    from: Option<Vec<u32>>,
    w: Vec<f32>,
}

impl Norm {
    /// Rows of random magnitudes; the second is zeros, the third subnormal.
    pub(crate) fn new(form: Float, rows: usize, n: usize) -> Self {
        let mut random = Random::new((rows * n) as u64);
        let mut x: Vec<f32> = (0..rows)
            .flat_map(|row| {
                let size = if row == 2 { 1e-39 } else { random.wide(20) };
                random.floats(n).into_iter().map(move |x| x * size)
            })
            .collect();
        x.iter_mut().skip(n).take(n).for_each(|x| *x = 0.0);
        Self { form, n, epsilon: 1e-5, x, product: None, from: None, w: random.floats(n) }
    }

    /// Adds a product first, some combination of what it may have.
    pub(crate) fn with_product(mut self, variant: usize) -> Self {
        let mut random = Random::new(variant as u64);
        self.product = Some(Sums::variant(&mut random, self.x.len() / self.n, self.n, variant));
        self
    }

    /// Reads so many of the rows, in random order.
    fn reading(mut self, rows: usize) -> Self {
        let mut from: Vec<u32> = (0..(self.x.len() / self.n) as u32).collect();
        Random::new(rows as u64).shuffle(&mut from);
        from.truncate(rows);
        self.from = Some(from);
        self
    }

    /// One row by itself.
    pub(crate) fn row(&self, row: usize) -> Self {
        let x = self.x[row * self.n..][..self.n].to_vec();
        let product = self.product.as_ref().map(|product| product.row(row));
        Self { x, product, from: None, w: self.w.clone(), ..*self }
    }

    /// The rows that are read.
    fn read(&self) -> Vec<usize> {
        match &self.from {
            Some(from) => from.iter().map(|&row| row as usize).collect(),
            None => (0..self.x.len() / self.n).collect(),
        }
    }
}

pub(crate) fn cases(form: Float) -> Vec<Box<dyn Case>> {
    let shapes = [(1, 1), (3, 2), (2, 255), (17, 256), (2, 257), (9, 576), (2, 1000), (2, 4096)];
    let mut cases: Vec<Norm> = shapes.map(|(rows, n)| Norm::new(form, rows, n)).into();
    for variant in 0..12 {
        let (rows, n) = shapes[variant % 8];
        cases.push(Norm::new(form, rows, n).with_product(variant));
        cases.push(Norm::new(form, 9, 40 + variant).with_product(variant).reading(4));
    }
    cases.push(Norm::new(form, 17, 300).reading(1));
    cases.push(Norm::new(form, 5, 300).reading(5));
    cases.into_iter().map(|case| Box::new(case) as _).collect()
}

impl Case for Norm {
    fn label(&self) -> String {
        let product = self.product.as_ref().map_or("no product".to_owned(), Sums::label);
        format!("rows={} n={} {product} from={:?}", self.x.len() / self.n, self.n, self.from)
    }

    fn bytes(&self) -> u64 {
        let elements = (self.read().len() * self.n) as u64;
        let written = if self.form == Float::F32 { 4 } else { 2 };
        let added = if self.product.is_some() { 8 } else { 0 };
        (4 + added + written) * elements + 4 * self.n as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let rows = self.read().len();
        let args = RmsNorm {
            x: stage.in_out(&self.x),
            product: match &self.product {
                Some(product) => product.stage(stage),
                None => Sums::none(stage),
            },
            from: stage.optional(self.from.as_deref()),
            w: stage.input(&self.w),
            y: stage_rows(stage, self.form, rows, self.n),
            epsilon: self.epsilon,
            n: self.n as u32,
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
        let roundings = ((self.n / 256 + 13) / 2 + 6) as f64;
        let mut x = self.x.clone();
        let mut y = Vec::new();
        for row in self.read() {
            let x = &mut x[row * self.n..][..self.n];
            if let Some(product) = &self.product {
                for (i, x) in x.iter_mut().enumerate() {
                    *x = (*x as f64 + product.value(row, i) as f64) as f32;
                }
            }
            let mean = x.iter().map(|&x| (x as f64).powi(2)).sum::<f64>() / self.n as f64;
            let scale = 1.0 / (mean + self.epsilon as f64).sqrt();
            y.extend(x.iter().zip(&self.w).map(|(&x, &w)| {
                let y = x as f64 * scale * w as f64;
                // Two products may be subnormal, and off by half of the smallest number each; a zero is exact.
                let smallest = if y == 0.0 { 0.0 } else { f32::from_bits(1) as f64 };
                (y, y.abs() * roundings * 2f64.powi(-24) + smallest)
            }));
        }
        let mut expected = vec![Expect::bits(&x)];
        expected.extend(expect_rows(self.form, &y));
        expected
    }
}
