//! What the kernels of a mixture of experts share: pairs of a token and an expert.
//!
//! A token is computed by `used` experts: pair `token used + slot`. What belongs to pairs is stored in that order; in which
//! order they are computed, [`crate::router`] says.

use cuda_std::In;

use crate::product::{Line, Rounding};

/// A product of pairs as its kernel leaves it, and what makes values of it: see [`crate::product`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExpertProduct {
    /// `[pairs, n]`.
    pub sums: In<f32>,
    /// `[experts, n]`: added to every row of an expert; empty where there is none.
    pub bias: In<f32>,
    /// `[pairs]`: the expert of each.
    pub chosen: In<u32>,
    /// A power of two that sums are multiplied by.
    pub factor: f32,
    /// Sums in a row.
    pub n: u32,
    /// What values are rounded to.
    pub rounding: Rounding,
}

impl ExpertProduct {
    /// The row of a pair.
    #[inline(always)]
    pub(crate) fn row(&self, pair: usize) -> Line {
        let n = self.n as usize;
        Line {
            sums: self.sums,
            start: pair * n,
            bias: self.bias,
            bias_start: if self.bias.is_empty() { 0 } else { self.chosen.get(pair) as usize * n },
            factor: self.factor,
            rounding: self.rounding,
        }
    }
}

/// A tile of pairs, see [`crate::router::Group`].
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) expert: usize,
    /// Its first place among the sorted pairs.
    pub(crate) first: usize,
    /// Its pairs.
    pub(crate) count: usize,
}

impl Tile {
    #[inline(always)]
    pub(crate) fn get(tiles: &In<u32>, index: usize) -> Self {
        let get = |i: usize| tiles.get(3 * index + i) as usize;
        Self { expert: get(0), first: get(1), count: get(2) }
    }
}
