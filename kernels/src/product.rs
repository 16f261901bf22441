//! A matrix product as its kernel leaves it, and how those who read it make values of it.
//!
//! A product's kernel writes bare sums. What belongs to the value beside the sum is applied where it is read, so that
//! it costs no pass of its own: the factor of rows whose elements were scaled before they were rounded, a bias, and the
//! rounding to the type that the next product takes.

use cuda_std::{Bf16, F16, In, Source, mapped};

/// Sums, and what makes values of them.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Product {
    /// `[rows, stride]`: a row's sums, of which `first ..` are this product's.
    pub sums: In<f32>,
    /// Added to every row; empty where there is none.
    pub bias: In<f32>,
    /// A power of two that sums are multiplied by.
    pub factor: f32,
    /// Sums from one row to the next.
    pub stride: u32,
    /// This product's first sum in a row.
    pub first: u32,
    /// What values are rounded to.
    pub rounding: Rounding,
}

/// What a value is rounded to, to nearest even.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Rounding(u32);

impl Rounding {
    /// Stays f32.
    pub const NONE: Self = Self(0);
    /// To f16.
    pub const F16: Self = Self(1);
    /// To bf16.
    pub const BF16: Self = Self(2);
}

impl Product {
    /// A row of the product.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> Line {
        Line {
            sums: self.sums,
            start: row * self.stride as usize + self.first as usize,
            bias: self.bias,
            bias_start: 0,
            factor: self.factor,
            rounding: self.rounding,
        }
    }

    /// Value `i` of a row.
    #[inline(always)]
    pub(crate) fn get(&self, row: usize, i: usize) -> f32 {
        let row = self.row(row);
        row.value(row.read(i))
    }
}

/// A row of a product.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    pub(crate) sums: In<f32>,
    /// Its first sum.
    pub(crate) start: usize,
    /// Added; empty where there is none.
    pub(crate) bias: In<f32>,
    /// Its first bias.
    pub(crate) bias_start: usize,
    pub(crate) factor: f32,
    pub(crate) rounding: Rounding,
}

/// A sum and the bias that is added to it, as they are read; several are waited for at once, see
/// [`each_read`](cuda_std::Team::each_read).
pub(crate) type Parts = [f32; 2];

impl Line {
    /// What value `i` is made of.
    #[inline(always)]
    pub(crate) fn read(&self, i: usize) -> Parts {
        self.read_if::<true>(i)
    }

    /// [`read`](Self::read); unless `BIASED` there is no bias.
    #[inline(always)]
    pub(crate) fn read_if<const BIASED: bool>(&self, i: usize) -> Parts {
        let bias = if !BIASED || self.bias.is_empty() { 0.0 } else { self.bias.get(self.bias_start + i) };
        [self.sums.get(self.start + i), bias]
    }

    /// The values that are made of them; unless `BIASED` there is no bias.
    #[inline(always)]
    pub(crate) fn values_if<const BIASED: bool, const N: usize>(&self, parts: [Parts; N]) -> [f32; N] {
        let mut values = mapped(parts, |[sum, _]| sum * self.factor);
        if BIASED && !self.bias.is_empty() {
            for i in 0..N {
                values[i] += parts[i][1];
            }
        }
        self.rounding.all(values)
    }

    /// The value that is made of it.
    #[inline(always)]
    pub(crate) fn value(&self, parts: Parts) -> f32 {
        let [value] = self.values([parts]);
        value
    }
}

/// The row's values.
impl Source for Line {
    type Read = Parts;
    type Value = f32;

    #[inline(always)]
    fn read(&self, i: usize) -> Parts {
        self.read(i)
    }

    #[inline(always)]
    fn values<const N: usize>(&self, parts: [Parts; N]) -> [f32; N] {
        self.values_if::<true, N>(parts)
    }
}

impl Rounding {
    /// Values rounded so. Which way is decided once for all of them.
    #[inline(always)]
    pub(crate) fn all<const N: usize>(self, values: [f32; N]) -> [f32; N] {
        if self == Self::F16 {
            mapped(values, |value| F16::from_f32(value).to_f32())
        } else if self == Self::BF16 {
            mapped(values, |value| Bf16::from_f32(value).to_f32())
        } else {
            values
        }
    }
}
