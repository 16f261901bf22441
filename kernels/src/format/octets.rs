//! Weights that a lane makes of many stored bytes at once, sixteen bytes of f16 at a time.

use cuda_std::{Integers, Team};

use super::super_block::ScalesAndMinima;
use super::{BLOCK, Bytes, Format, Place, Q4_K, Q5_K, SUPER_BLOCK};

/// Columns of a chunk: two blocks.
pub const CHUNK: usize = 2 * BLOCK;
/// Chunks of a super-block.
pub const CHUNKS: usize = SUPER_BLOCK / CHUNK;

/// Sixteen bytes, aligned to as many.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub struct Sixteen([u32; 4]);

/// A type of super-blocks, whole units of 16 bytes, of which two lanes make the 64 weights of a row's chunk, four octets each.
pub trait Octets: Format {
    /// What is read for a lane's octets.
    type Four: Copy;

    /// Reads what the octets of chunk `chunk` of the super-block at byte `at` are made of.
    fn read_four(w: &impl Bytes, at: usize, chunk: usize, half: usize) -> Self::Four;

    /// Makes octet `i` of them.
    fn made<T: Team>(read: Self::Four, chunk: usize, i: usize) -> Sixteen;
}

/// Which octet of a chunk lane `half`'s octet `i` is: each makes two of each block.
#[inline(always)]
pub fn octet(i: usize, half: usize) -> usize {
    i / 2 * 4 + half * 2 + i % 2
}

impl Sixteen {
    /// Eight neighbouring weights: `f` makes the first two, the next two, and so on.
    #[inline(always)]
    fn of(f: impl Fn(usize) -> [u16; 2]) -> Self {
        let pair = |i| {
            let [first, second] = f(i);
            first as u32 | (second as u32) << 16
        };
        Self([pair(0), pair(1), pair(2), pair(3)])
    }
}

impl Octets for Q4_K {
    /// Sixteen bytes of both blocks, and what a super-block begins with.
    type Four = (Sixteen, ScalesAndMinima);

    #[inline(always)]
    fn read_four(w: &impl Bytes, at: usize, chunk: usize, half: usize) -> Self::Four {
        (w.get_as(at + 16 + 32 * chunk + 16 * half), ScalesAndMinima::of(w.get_as::<Sixteen>(at).0))
    }

    #[inline(always)]
    fn made<T: Team>((Sixteen(q), shared): Self::Four, chunk: usize, i: usize) -> Sixteen {
        let (d, m) = shared.halves::<T>(Place { at: 0, block: 2 * chunk + i / 2 });
        let shift = i / 2 * 4;
        Sixteen::of(
            #[inline(always)]
            |pair| {
                let word = q[i % 2 * 2 + pair / 2];
                Integers::bytes(word, pair % 2 * 2).bits(15 << shift).less(0, shift).fused(d, m).bits()
            },
        )
    }
}

impl Octets for Q5_K {
    /// Sixteen bytes of both blocks, those with the fifth bits, and what a super-block begins with.
    type Four = (Sixteen, Sixteen, ScalesAndMinima);

    #[inline(always)]
    fn read_four(w: &impl Bytes, at: usize, chunk: usize, half: usize) -> Self::Four {
        let shared = ScalesAndMinima::of(w.get_as::<Sixteen>(at).0);
        (w.get_as(at + 48 + 32 * chunk + 16 * half), w.get_as(at + 16 + 16 * half), shared)
    }

    #[inline(always)]
    fn made<T: Team>((Sixteen(q), Sixteen(fifth), shared): Self::Four, chunk: usize, i: usize) -> Sixteen {
        let block = 2 * chunk + i / 2;
        let (d, m) = shared.halves::<T>(Place { at: 0, block });
        Sixteen::of(
            #[inline(always)]
            |pair| {
                let at = i % 2 * 2 + pair / 2;
                let word = (q[at] >> (i / 2 * 4) & 0x0f0f_0f0f) | (fifth[at] >> block & 0x0101_0101) << 4;
                Integers::bytes(word, pair % 2 * 2).less(0, 0).fused(d, m).bits()
            },
        )
    }
}
