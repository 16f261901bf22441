//! Memory of the GPU, which is the host's, and pinned memory: who has how much of it, and where.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ptr::NonNull;

use crate::{Answer, INVALID_VALUE, OUT_OF_MEMORY};

/// Every address that is given out is a multiple of it, and so is what an allocation takes.
const ALIGNMENT: usize = 256;
/// What fresh memory is full of: nobody may count on zeros.
const FRESH: u8 = 0xee;
/// What freed pinned memory is full of, for copies that were still on their way.
const FREED: u8 = 0xdd;

/// How memory was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Device,
    /// The GPU's, and the host may read and write it.
    Managed,
    /// The host's, within reach of the copy engine.
    Pinned,
}

/// An allocation; freed when dropped.
pub(crate) struct Block {
    base: NonNull<u8>,
    layout: Layout,
    pub(crate) kind: Kind,
    pub(crate) bytes: usize,
    /// Counts allocations.
    pub(crate) id: u64,
}

// SAFETY: owns its memory, as a Vec does.
unsafe impl Send for Block {}

impl Block {
    pub(crate) fn address(&self) -> usize {
        self.base.as_ptr() as usize
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

/// All allocations.
#[derive(Default)]
pub(crate) struct Memory {
    blocks: BTreeMap<usize, Block>,
    /// Pinned memory that was freed while work was queued, which may yet touch it.
    buried: Vec<Block>,
    pub(crate) allocations: u64,
    pub(crate) frees: u64,
}

/// Bytes that the GPU has.
pub(crate) fn total() -> usize {
    let megabytes = std::env::var("PAPER_CUDA_MB").ok().map_or(2048, |text| {
        text.parse().unwrap_or_else(|_| panic!("PAPER_CUDA_MB is a number of megabytes, not {text:?}"))
    });
    megabytes << 20
}

impl Memory {
    pub(crate) fn free(&self) -> usize {
        total()
            - self
                .blocks
                .values()
                .filter(|block| block.kind != Kind::Pinned)
                .map(|b| b.layout.size())
                .sum::<usize>()
    }

    /// Bytes asked for and not freed: the GPU's, and pinned ones.
    pub(crate) fn in_use(&self) -> (usize, usize) {
        let (pinned, device): (Vec<&Block>, _) =
            self.blocks.values().partition(|block| block.kind == Kind::Pinned);
        let sum = |blocks: Vec<&Block>| blocks.iter().map(|block| block.bytes).sum();
        (sum(device), sum(pinned))
    }

    pub(crate) fn alloc(&mut self, kind: Kind, bytes: usize) -> Answer<usize> {
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        let layout = Layout::from_size_align(bytes, ALIGNMENT).map_err(|_| OUT_OF_MEMORY)?.pad_to_align();
        if kind != Kind::Pinned && layout.size() > self.free() {
            return Err(OUT_OF_MEMORY);
        }
        // SAFETY: the size is not zero.
        let base = NonNull::new(unsafe { alloc(layout) }).ok_or(OUT_OF_MEMORY)?;
        // SAFETY: just allocated with that size.
        unsafe { base.write_bytes(FRESH, layout.size()) };
        self.allocations += 1;
        let block = Block { base, layout, kind, bytes, id: self.allocations };
        let address = block.address();
        self.blocks.insert(address, block);
        Ok(address)
    }

    /// Frees what begins at `address`; all work on it is done.
    pub(crate) fn release(&mut self, address: usize) -> Answer {
        self.take(address, |kind| kind != Kind::Pinned).map(drop)
    }

    /// Frees pinned memory. Work that is queued finds other bytes in it.
    pub(crate) fn unpin(&mut self, address: usize) -> Answer {
        let block = self.take(address, |kind| kind == Kind::Pinned)?;
        // SAFETY: the whole of this block.
        unsafe { block.base.write_bytes(FREED, block.layout.size()) };
        self.buried.push(block);
        Ok(())
    }

    /// Lets go of what only queued work could touch: there is none.
    pub(crate) fn forget_buried(&mut self) {
        self.buried.clear();
    }

    fn take(&mut self, address: usize, kind: impl FnOnce(Kind) -> bool) -> Answer<Block> {
        if !self.blocks.get(&address).is_some_and(|block| kind(block.kind)) {
            return Err(INVALID_VALUE);
        }
        self.frees += 1;
        self.blocks.remove(&address).ok_or(INVALID_VALUE)
    }

    /// The allocation that the address is in.
    pub(crate) fn find(&self, address: usize) -> Option<&Block> {
        let (&base, block) = self.blocks.range(..=address).next_back()?;
        (address - base < block.bytes).then_some(block)
    }

    /// Whether all of `len` bytes from `address` on are in one allocation of the GPU's.
    pub(crate) fn check_device(&self, address: usize, len: usize) -> Answer {
        let block = self.find(address).filter(|block| block.kind != Kind::Pinned).ok_or(INVALID_VALUE)?;
        let room = block.bytes - (address - block.address());
        if len <= room { Ok(()) } else { Err(INVALID_VALUE) }
    }

    /// Whether these bytes of the host are within reach of the copy engine. Else the driver takes a copy.
    pub(crate) fn reaches(&self, address: usize, len: usize) -> bool {
        self.find(address).is_some_and(|block| len <= block.bytes - (address - block.address()))
    }
}
