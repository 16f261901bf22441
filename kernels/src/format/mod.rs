//! How weights are stored, and what values the stored bytes stand for.
//!
//! Rows lie one after the other, and 32 neighbouring values of a row form a block. Quantised types store a block by
//! itself, with a scale of its own, or eight together as a super-block, in which scales are quantised too; the layouts are
//! those of GGUF. Other types are cut into 32s as well, so that one kernel serves all.
//!
//! Values are computed in f32, each product and each sum rounded by itself, in the order that the type's formula says. For the
//! tensor core's f16 they are computed in f16 ([`F16x2`](cuda_std::F16x2)): a super-block's scale times a part's, and so its
//! minimum, is rounded to f16; the integer times the scale, less the minimum, is rounded once.

mod bytes;
#[allow(non_camel_case_types, reason = "GGUF's own names")]
mod codebook;
mod octets;
mod plain;
mod single;
#[cfg(not(target_arch = "nvptx64"))]
mod stored;
#[allow(non_camel_case_types, reason = "GGUF's own names")]
mod super_block;

use cuda_std::{MmaInput, Team};

pub use bytes::{Bytes, Few, Staged};
pub use codebook::{IQ4_NL, IQ4_XS, MXFP4};
pub use octets::{CHUNK, CHUNKS, Octets, octet};
pub use plain::{Brain, F32, Half};
pub use single::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
#[cfg(not(target_arch = "nvptx64"))]
pub use stored::Stored;
pub use super_block::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};

/// Values in a block.
pub const BLOCK: usize = 32;
/// Values in a super-block.
pub const SUPER_BLOCK: usize = 8 * BLOCK;

/// Where a block is.
#[derive(Clone, Copy)]
pub struct Place {
    /// The first byte of the block, or of its super-block.
    pub at: usize,
    /// Which one of its super-block it is; 0 where blocks are stored by themselves.
    pub block: usize,
}

/// `f` of each of one or two values. The library's own `map` is not inlined into the SIMD versions of the host.
#[inline(always)]
fn each<A: Copy, V: Copy, const N: usize>(values: [A; N], f: impl Fn(A) -> V) -> [V; N] {
    const { assert!(N == 1 || N == 2) };
    let mut out = [f(values[0]); N];
    if N == 2 {
        out[N - 1] = f(values[N - 1]);
    }
    out
}

/// Two bytes, the first one lowest.
#[inline(always)]
fn word([first, second]: [u8; 2]) -> u32 {
    first as u32 | (second as u32) << 8
}

/// 0, or 0 and 1.
#[inline(always)]
fn numbers<const N: usize>() -> [usize; N] {
    let mut numbers = [0; N];
    numbers[N - 1] = N - 1;
    numbers
}

/// A stored type of weights.
pub trait Format {
    /// Bytes of a block or, if there are such, of a super-block.
    const BYTES: usize;
    /// The values they stand for.
    const VALUES: usize = BLOCK;
    /// Whether a row may end within a block.
    const PARTIAL: bool = false;
    /// Whether values take many instructions: of a loop over them, less is written out.
    const LONG: bool = false;
    /// Whether they take so few that all blocks of a slice can be written out where the tensor core takes many operands.
    const SHORT: bool = false;
    /// Neighbouring blocks of which [`shared`](Self::shared) reads the same.
    const TOGETHER: usize = 1;
    /// Neighbouring blocks of which [`read`](Self::read) reads the same.
    const READ_TOGETHER: usize = 1;
    /// What is read of what the 32 values of a block share.
    type Shared: Copy;
    /// What they share.
    type Scale: Copy;
    /// What is read of `N` values and `N` others.
    type Raw<const N: usize>: Copy;

    /// Reads what the values of a block share.
    fn shared(w: &impl Bytes, place: Place) -> Self::Shared;

    /// What that stands for.
    fn scale<T: Team>(shared: Self::Shared, place: Place) -> Self::Scale;

    /// Reads, of a block, the `N` values from `i` on and those from `i + 16` on; `N` is 1, or 2 where `i` is even, and `i + N`
    /// is at most 16.
    fn read<const N: usize>(w: &impl Bytes, place: Place, i: usize) -> Self::Raw<N>;

    /// What these stand for.
    fn values<const N: usize>(raw: Self::Raw<N>, place: Place, scale: Self::Scale, i: usize)
    -> [[f32; N]; 2];

    /// Two of these and two others in a type of the tensor core: f16, where types do not say another.
    fn rounded<I: MmaInput, T: Team>(
        raw: Self::Raw<2>,
        place: Place,
        shared: Self::Shared,
        i: usize,
    ) -> [[u16; 2]; 2];

    /// Value `i` of a block.
    #[inline(always)]
    fn value<T: Team>(w: &impl Bytes, place: Place, i: usize) -> f32 {
        let scale = Self::scale::<T>(Self::shared(w, place), place);
        Self::values::<1>(Self::read(w, place, i % 16), place, scale, i % 16)[i / 16][0]
    }

    /// Block `block` of the row whose first byte is `row`.
    #[inline(always)]
    fn place(row: usize, block: usize) -> Place {
        let together = Self::VALUES / BLOCK;
        Place { at: row + block / together * Self::BYTES, block: block % together }
    }

    /// Bytes of a row of `k` values.
    #[inline(always)]
    fn row_bytes(k: usize) -> usize {
        if Self::PARTIAL { k * (Self::BYTES / BLOCK) } else { k / Self::VALUES * Self::BYTES }
    }
}
