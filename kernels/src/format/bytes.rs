//! Where stored bytes are read from.

use cuda_std::{In, Scratch};

/// Stored bytes: in device memory, or in a block's scratch memory.
pub trait Bytes {
    /// The byte at `i`.
    fn get(&self, i: usize) -> u8;

    /// The value whose bytes begin at `i`, a multiple of the value's alignment.
    fn get_as<V: Copy>(&self, i: usize) -> V;

    /// `N` bytes from `i` on: one, or two at an even place, in one load.
    #[inline(always)]
    fn few<const N: usize>(&self, i: usize) -> Few<N> {
        const { assert!(N == 1 || N == 2) };
        Few(if N == 1 { self.get(i) as Word } else { self.get_as::<u16>(i) as Word })
    }
}

/// A register of a GPU: of two smaller values the compiler would make one.
#[cfg(target_arch = "nvptx64")]
type Word = u32;
#[cfg(not(target_arch = "nvptx64"))]
type Word = u16;

/// One or two bytes, as they were read: whoever reads ahead computes nothing on the way.
#[derive(Clone, Copy)]
pub struct Few<const N: usize>(Word);

impl<const N: usize> Few<N> {
    /// The bytes.
    #[inline(always)]
    pub fn bytes(self) -> [u8; N] {
        let mut bytes = [0; N];
        bytes[N - 1] = (self.0 >> 8) as u8;
        bytes[0] = self.0 as u8;
        bytes
    }

    /// The bytes, the first one lowest; what is above them is of no meaning.
    #[inline(always)]
    pub fn word(self) -> u32 {
        self.0 as u32
    }

    /// The bits of each byte from `shift` on that are in `mask`. Both bytes at once, which the compiler does not find by itself.
    #[inline(always)]
    pub fn bits(self, shift: usize, mask: u8) -> Self {
        Self((self.0 >> shift) & ((mask as Word) * 0x101))
    }

    /// With the bits of each byte of `others` from bit `from` on that are in `mask` at bit `to`, where there are none yet.
    #[inline(always)]
    pub fn with(self, others: Self, from: usize, mask: u8, to: usize) -> Self {
        let moved = if from > to { others.0 >> (from - to) } else { others.0 << (to - from) };
        Self(self.0 | moved & (((mask << to) as Word) * 0x101))
    }
}

impl Bytes for In<u8> {
    #[inline(always)]
    fn get(&self, i: usize) -> u8 {
        In::get(self, i)
    }

    #[inline(always)]
    fn get_as<V: Copy>(&self, i: usize) -> V {
        In::get_as(self, i)
    }
}

/// Bytes in scratch memory, as a lane reads them.
pub struct Staged<S> {
    /// The memory; a view of it begins at a multiple of 16.
    pub bytes: S,
    /// The lane.
    pub lane: usize,
}

impl<S: Scratch<u8>> Bytes for Staged<S> {
    #[inline(always)]
    fn get(&self, i: usize) -> u8 {
        self.bytes.get(self.lane, i)
    }

    #[inline(always)]
    fn get_as<V: Copy>(&self, i: usize) -> V {
        self.bytes.get_as(self.lane, i)
    }
}
