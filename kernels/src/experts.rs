//! What the kernels of a mixture of experts share: pairs of a token and an expert.
//!
//! A token is computed by `used` experts: pair `token used + slot`. What belongs to pairs is stored in that order; in which
//! order they are computed, [`crate::router`] says.

use cuda_std::In;

use crate::product::Rounding;

/// A product of pairs as its kernel leaves it, and what makes values of it: see [`crate::product`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ExpertProduct {
    /// `[pairs, n]`.
    pub sums: In<f32>,
    /// `[pairs / share]`: an exact power of two that the sums of a pair's row are multiplied by; empty where it is 1.
    pub factors: In<f32>,
    /// `[experts, n]`: added to every row of an expert; empty where there is none.
    pub bias: In<f32>,
    /// `[pairs]`: the expert of each.
    pub chosen: In<u32>,
    /// Sums in a row.
    pub n: u32,
    /// Neighbouring pairs that multiply the same row.
    pub share: u32,
    /// What values are rounded to.
    pub rounding: Rounding,
}

impl ExpertProduct {
    /// Value `i` of a pair.
    #[inline(always)]
    pub(crate) fn get(&self, pair: usize, i: usize) -> f32 {
        let mut value = self.sums.get(pair * self.n as usize + i);
        if !self.factors.is_empty() {
            value *= self.factors.get(pair / self.share as usize);
        }
        if !self.bias.is_empty() {
            value += self.bias.get(self.chosen.get(pair) as usize * self.n as usize + i);
        }
        self.rounding.of(value)
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
