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
    factors: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
    rounding: Float,
}

impl Sums {
    /// Sums of random magnitudes and nothing else to be applied.
    pub(crate) fn plain(random: &mut Random, rows: usize, n: usize) -> Self {
        let sums = (0..rows * n).map(|_| random.wide(3)).collect();
        Self { rows, n, stride: n, first: 0, sums, factors: None, bias: None, rounding: Float::F32 }
    }

    /// Number `variant` of the combinations: with factors or without, with a bias or without, rounded to each type, alone
    /// or as a part of a stacked product. What is not of this product is NaN.
    pub(crate) fn variant(random: &mut Random, rows: usize, n: usize, variant: usize) -> Self {
        let plain = Self::plain(random, rows, n);
        let (before, after) = [(0, 0), (5, 3), (n, 2 * n), (0, 1)][variant % 4];
        let row = |sums: &[f32]| [&vec![f32::NAN; before], sums, &vec![f32::NAN; after]].concat();
        let factors: Vec<f32> = (0..rows).map(|_| 2f32.powi(random.below(9) as i32 - 4)).collect();
        let bias: Vec<f32> = (0..n).map(|_| random.wide(2)).collect();
        Self {
            stride: before + n + after,
            first: before,
            sums: plain.sums.chunks_exact(n).flat_map(row).collect(),
            factors: (variant % 2 == 1).then_some(factors),
            bias: (variant / 2 % 2 == 1).then_some(bias),
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
        self.factors.is_none() && self.bias.is_none()
    }

    /// One row by itself.
    pub(crate) fn row(&self, row: usize) -> Self {
        Self {
            rows: 1,
            sums: self.sums[row * self.stride..][..self.stride].to_vec(),
            factors: self.factors.as_ref().map(|factors| vec![factors[row]]),
            bias: self.bias.clone(),
            ..*self
        }
    }

    /// The same sums, valued as another product's are.
    pub(crate) fn valued_as(self, other: &Self) -> Self {
        let (factors, bias) = (other.factors.clone(), other.bias.clone());
        Self { factors, bias, rounding: other.rounding, ..self }
    }

    /// A row's sums.
    pub(crate) fn sums_of(&self, row: usize) -> &[f32] {
        &self.sums[row * self.stride + self.first..][..self.n]
    }

    /// Bytes of its own: a part of a stacked product counts without the rest.
    pub(crate) fn bytes(&self) -> u64 {
        4 * (self.rows * self.n) as u64
    }

    /// Puts the sums on the device.
    pub(crate) fn stage(&self, stage: &mut Stage) -> Product {
        Product {
            sums: stage.input(&self.sums),
            factors: stage.optional(self.factors.as_deref()),
            bias: stage.optional(self.bias.as_deref()),
            stride: self.stride as u32,
            first: self.first as u32,
            rounding: self.rounding.rounding(),
        }
    }

    /// In place of a product that there is not.
    pub(crate) fn none(stage: &mut Stage) -> Product {
        let nothing = stage.optional(None);
        let rounding = Float::F32.rounding();
        Product { sums: nothing, factors: nothing, bias: nothing, stride: 0, first: 0, rounding }
    }

    /// Value `i` of a row. A sum of two f32 in f64 is rounded to f32 as the exact one would be.
    pub(crate) fn value(&self, row: usize, i: usize) -> f32 {
        let sum = self.sums[row * self.stride + self.first + i] as f64;
        let factor = self.factors.as_ref().map_or(1.0, |factors| factors[row] as f64);
        let bias = self.bias.as_ref().map(|bias| bias[i] as f64);
        let scaled = (sum * factor) as f32;
        self.rounding.round(bias.map_or(scaled, |bias| (scaled as f64 + bias) as f32))
    }

    /// What sets it apart from other products.
    pub(crate) fn label(&self) -> String {
        let Self { stride, first, rounding, .. } = self;
        let with = |there: bool| if there { "with" } else { "without" };
        format!(
            "stride={stride} first={first} rounding={} {} factors {} bias",
            rounding.name(),
            with(self.factors.is_some()),
            with(self.bias.is_some())
        )
    }
}
