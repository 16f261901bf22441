//! Sums that go from warp to warp.

use super::Shared;
use super::intrinsics::{barrier_arrive, barrier_sync};
use crate::Scratch;

/// A lane's four sums, and where it takes them and hands them on.
#[derive(Clone, Copy)]
pub struct Relayed {
    pub(super) sums: [f32; 4],
    /// Whether this turn is the last one.
    pub(super) is_last: bool,
    slots: Shared<Four>,
    /// This lane's cells: its own, and that of the next warp.
    mine: usize,
    next: usize,
}

/// What one store writes.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(super) struct Four([f32; 4]);

/// Threads that meet when sums change hands: two warps.
const BOTH: u32 = 64;

impl Relayed {
    /// No sums yet, of a lane of the block's `W` warps.
    #[inline(always)]
    pub(super) fn new<const W: usize>(slots: Shared<Four>, thread: usize) -> Self {
        Self { sums: [0.0; 4], is_last: false, slots, mine: thread, next: (thread + 32) % (32 * W) }
    }

    /// The hardware's barrier at which the warp of this cell takes sums; 0 is the block's own.
    #[inline(always)]
    fn barrier(cell: usize) -> u32 {
        1 + cell as u32 / 32
    }

    /// Takes what the turn before left, when it has ended.
    #[inline(always)]
    pub(super) fn take(&mut self) {
        // SAFETY: all lanes of the warp run this together, and the warp before hands on as often as this one takes.
        unsafe { barrier_sync(Self::barrier(self.mine), BOTH) };
        self.sums = self.slots.get(0, self.mine).0;
    }

    /// Leaves the sums to the next warp. What it took before it has read, since it has handed on since then.
    #[inline(always)]
    pub(super) fn hand_on(&self) {
        self.slots.set(0, self.next, Four(self.sums));
        // SAFETY: as above.
        unsafe { barrier_arrive(Self::barrier(self.next), BOTH) };
    }
}
