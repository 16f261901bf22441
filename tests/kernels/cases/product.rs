//! What a product's kernel leaves, for the kernels that read it. Its values are exact: `sum factor + bias` rounded to f32,
//! then to the type that is asked for.

use kernels::product::Product;

use super::Stage;
use super::float::Float;
use super::random::Random;

/// `n` values a row, of rows that may hold other products too.
#[derive(Clone)]
pub(crate) struct Sums {
    pub(crate) rows: usize,
    pub(crate) n: usize,
    stride: usize,
    first: usize,
    sums: Vec<f32>,
    bias: Option<Vec<f32>>,
    factor: f32,
    rounding: Float,
}

impl Sums {
    /// Sums of random magnitudes and nothing else to be applied.
    pub(crate) fn plain(random: &mut Random, rows: usize, n: usize) -> Self {
        let sums = (0..rows * n).map(|_| random.wide(3)).collect();
        Self { rows, n, stride: n, first: 0, sums, bias: None, factor: 1.0, rounding: Float::F32 }
    }

    /// Part `i` of sums of which a row has `stride`, and a part `n`.
    pub(crate) fn part(
        sums: &[f32],
        (stride, n, i): (usize, usize, usize),
        factor: f32,
        rounding: Float,
    ) -> Self {
        let (rows, sums) = (sums.len() / stride, sums.to_vec());
        Self { rows, n, stride, first: i * n, sums, bias: None, factor, rounding }
    }

    /// Number `variant` of the combinations: with a factor or without, with a bias or without, rounded to each type, alone
    /// or as a part of a stacked product. What is not of this product is NaN.
    pub(crate) fn variant(random: &mut Random, rows: usize, n: usize, variant: usize) -> Self {
        let plain = Self::plain(random, rows, n);
        let (before, after) = [(0, 0), (5, 3), (n, 2 * n), (0, 1)][variant % 4];
        let row = |sums: &[f32]| [&vec![f32::NAN; before], sums, &vec![f32::NAN; after]].concat();
        let factor = 2f32.powi(random.below(9) as i32 - 4);
        let bias: Vec<f32> = (0..n).map(|_| random.wide(2)).collect();
        Self {
            stride: before + n + after,
            first: before,
            sums: plain.sums.chunks_exact(n).flat_map(row).collect(),
            bias: (variant / 2 % 2 == 1).then_some(bias),
            factor: if variant % 2 == 1 { factor } else { 1.0 },
            rounding: Float::ALL[variant % 3],
            ..plain
        }
    }

    /// Puts other sums at the beginning of a row.
    pub(crate) fn with_row(mut self, row: usize, sums: &[f32]) -> Self {
        let len = self.n.min(sums.len());
        self.sums[row * self.stride + self.first..][..len].copy_from_slice(&sums[..len]);
        self
    }

    /// Whether its values are bare sums.
    pub(crate) fn is_plain(&self) -> bool {
        self.factor == 1.0 && self.bias.is_none()
    }

    /// One row by itself.
    pub(crate) fn row(&self, row: usize) -> Self {
        Self {
            rows: 1,
            sums: self.sums[row * self.stride..][..self.stride].to_vec(),
            bias: self.bias.clone(),
            ..*self
        }
    }

    /// Bytes of its own: a part of a stacked product counts without the rest.
    pub(crate) fn bytes(&self) -> u64 {
        4 * (self.rows * self.n) as u64
    }

    /// Puts the sums on the device.
    pub(crate) fn stage(&self, stage: &mut Stage) -> Product {
        Product {
            sums: stage.input(&self.sums),
            bias: stage.optional(self.bias.as_deref()),
            factor: self.factor,
            stride: self.stride as u32,
            first: self.first as u32,
            rounding: self.rounding.rounding(),
        }
    }

    /// In place of a product that there is not.
    pub(crate) fn none(stage: &mut Stage) -> Product {
        let nothing = stage.optional(None);
        let rounding = Float::F32.rounding();
        Product { sums: nothing, bias: nothing, factor: 1.0, stride: 0, first: 0, rounding }
    }

    /// Value `i` of a row. A sum of two f32 in f64 is rounded to f32 as the exact one would be.
    pub(crate) fn value(&self, row: usize, i: usize) -> f32 {
        let sum = self.sums[row * self.stride + self.first + i] as f64;
        let bias = self.bias.as_ref().map(|bias| bias[i] as f64);
        let scaled = (sum * self.factor as f64) as f32;
        self.rounding.round(bias.map_or(scaled, |bias| (scaled as f64 + bias) as f32))
    }

    /// What sets it apart from other products.
    pub(crate) fn label(&self) -> String {
        let Self { stride, first, factor, rounding, .. } = self;
        let with = if self.bias.is_some() { "with" } else { "without" };
        format!("stride={stride} first={first} factor={factor} rounding={} {with} bias", rounding.name())
    }
}
