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
    fn some<const N: usize>(&self, i: usize) -> [u8; N] {
        const { assert!(N == 1 || N == 2) };
        let mut bytes = [0; N];
        if N == 1 {
            bytes[0] = self.get(i);
        } else {
            let both = self.get_as::<u16>(i);
            bytes[0] = both as u8;
            bytes[N - 1] = (both >> 8) as u8;
        }
        bytes
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
