//! A matrix product as its kernel leaves it, and how those who read it make values of it.
//!
//! A product's kernel writes bare sums. What belongs to the value beside the sum is applied where it is read, so that
//! it costs no pass of its own: the factor of a row whose elements were scaled before they were rounded, a bias, and the
//! rounding to the type that the next product takes.

use cuda_std::{Bf16, F16, In};

/// Sums, and what makes values of them.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Product {
    /// `[rows, stride]`: a row's sums, of which `first ..` are this product's.
    pub sums: In<f32>,
    /// `[rows]`: an exact power of two that the row's sums are multiplied by; empty where it is 1.
    pub factors: In<f32>,
    /// Added to every row; empty where there is none.
    pub bias: In<f32>,
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
    pub(crate) fn row(&self, row: usize) -> Line<'_> {
        let factor = if self.factors.is_empty() { 1.0 } else { self.factors.get(row) };
        Line { product: self, start: row * self.stride as usize + self.first as usize, factor }
    }

    /// Value `i` of a row.
    #[inline(always)]
    pub(crate) fn get(&self, row: usize, i: usize) -> f32 {
        let row = self.row(row);
        row.value(row.read(i))
    }
}

/// A row of a product.
pub(crate) struct Line<'a> {
    product: &'a Product,
    /// Its first sum.
    start: usize,
    factor: f32,
}

/// A sum and the bias that is added to it, as they are read; several are waited for at once, see
/// [`each_read`](cuda_std::Team::each_read).
pub(crate) type Parts = [f32; 2];

impl Line<'_> {
    /// What value `i` is made of.
    #[inline(always)]
    pub(crate) fn read(&self, i: usize) -> Parts {
        let Product { sums, bias, .. } = self.product;
        [sums.get(self.start + i), if bias.is_empty() { 0.0 } else { bias.get(i) }]
    }

    /// The value that is made of it.
    #[inline(always)]
    pub(crate) fn value(&self, [sum, bias]: Parts) -> f32 {
        let mut value = sum * self.factor;
        if !self.product.bias.is_empty() {
            value += bias;
        }
        self.product.rounding.of(value)
    }
}

impl Rounding {
    /// A value rounded so.
    #[inline(always)]
    pub(crate) fn of(self, value: f32) -> f32 {
        let half = || F16::from_f32(value).to_f32();
        let brain = || Bf16::from_f32(value).to_f32();
        // Between branches a GPU would wait for each value by itself. To a CPU a conversion is fifty instructions.
        #[cfg(target_arch = "nvptx64")]
        {
            let (half, brain) = (half(), brain());
            let rounded = if self == Self::F16 { half } else { brain };
            if self == Self::NONE { value } else { rounded }
        }
        #[cfg(not(target_arch = "nvptx64"))]
        if self == Self::F16 {
            half()
        } else if self == Self::BF16 {
            brain()
        } else {
            value
        }
    }
}
