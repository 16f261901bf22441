//! The checking team: runs a kernel as [`HostBlock`](crate::HostBlock) does and panics where a GPU would race.
//!
//! Every byte-range cell of scratch memory remembers who wrote and read it last, and when. Two lanes may touch a cell
//! without order between them only to read it; order comes from a barrier that both waited at.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;

use crate::host::{HostTeam, Memory, WHOLE_WARP};
use crate::tensor_core::simd::{self, A, B, C};
use crate::{F16, In, MmaInput, Scratch};

/// A thread block that checks every use of scratch memory.
pub type CheckBlock<'a, const LANES: usize> = HostTeam<LANES, Checked<'a>>;

impl<'a, const N: usize> CheckBlock<'a, N> {
    /// The block at `(x, y)` of its grid.
    pub fn new(x: usize, y: usize, state: &'a CheckState) -> Self {
        Self::over(x, y, Checked { state })
    }
}

/// What the checking team knows about one block's scratch memory.
pub struct CheckState {
    base: Cell<*mut u8>,
    bytes: usize,
    /// Counts barriers, of any team.
    now: Cell<u64>,
    /// When all lanes last waited for each other.
    block_barrier: Cell<u64>,
    /// By lane: when and with which lanes it last waited in a smaller team.
    team_barrier: RefCell<Vec<(u64, usize, usize)>>,
    /// By the byte at which a cell begins.
    cells: RefCell<Vec<History>>,
    /// By warp.
    copies: RefCell<Vec<Copies>>,
}

/// A warp's asynchronous copies: the closed groups, oldest first, and the one still open.
type Copies = (VecDeque<Vec<Transfer>>, Vec<Transfer>);

/// The last write and the last reads of a cell.
#[derive(Clone, Copy, Default)]
struct History {
    written: Option<Access>,
    read: Option<Access>,
    /// Other lanes than `read`'s have read since the same barrier.
    read_by_many: bool,
    /// An asynchronous copy to it has not been waited for.
    in_flight: bool,
}

#[derive(Clone, Copy)]
struct Access {
    lane: usize,
    at: u64,
}

/// An asynchronous copy under way.
struct Transfer {
    /// The first byte it goes to.
    to: usize,
    bytes: [u8; 16],
    lane: usize,
    /// Bytes in a cell.
    cell: usize,
}

/// More lanes than any block has.
const MAX_LANES: usize = 1024;

impl CheckState {
    /// Runs `f` with fresh knowledge of `scratch`.
    pub fn with(scratch: &mut [u128], f: impl FnOnce(&CheckState)) {
        let bytes = size_of_val(scratch);
        f(&CheckState {
            base: Cell::new(scratch.as_mut_ptr().cast()),
            bytes,
            now: Cell::new(1),
            block_barrier: Cell::new(0),
            team_barrier: RefCell::new(vec![(0, 0, 0); MAX_LANES]),
            cells: RefCell::new(vec![History::default(); bytes]),
            copies: RefCell::new((0..MAX_LANES / 32).map(|_| Default::default()).collect()),
        });
    }

    /// Whether what happened at `before` is over for `lane`.
    fn ordered(&self, before: Access, lane: usize) -> bool {
        if before.lane == lane || before.at < self.block_barrier.get() {
            return true;
        }
        let (at, first, lanes) = self.team_barrier.borrow()[lane & !WHOLE_WARP];
        before.at < at && (first..first + lanes).contains(&(before.lane & !WHOLE_WARP))
    }

    fn read(&self, lane: usize, at: usize, i: usize) {
        let cell = &mut self.cells.borrow_mut()[at];
        assert!(!cell.in_flight, "cell {i} is read before its asynchronous copy was waited for");
        let written =
            cell.written.unwrap_or_else(|| panic!("cell {i} is read by lane {lane} and was never written"));
        assert!(
            self.ordered(written, lane),
            "no barrier between lane {}'s write of cell {i} and lane {lane}'s read",
            written.lane
        );
        let now = self.now.get();
        cell.read_by_many = match cell.read {
            Some(read) if read.lane != lane => {
                read.at == now || cell.read_by_many || !self.ordered(read, lane)
            }
            _ => cell.read_by_many,
        };
        cell.read = Some(Access { lane, at: now });
    }

    fn write(&self, lane: usize, at: usize, i: usize) {
        let cell = &mut self.cells.borrow_mut()[at];
        assert!(!cell.in_flight, "cell {i} is written while an asynchronous copy to it is under way");
        if let Some(written) = cell.written {
            assert!(
                self.ordered(written, lane),
                "no barrier between the writes of cell {i} by lanes {} and {lane}",
                written.lane
            );
        }
        if let Some(read) = cell.read {
            // Of many readers only the last is known by name; the others read no later.
            let many = cell.read_by_many && !self.all_ordered(read.at, lane);
            assert!(
                self.ordered(read, lane) && !many,
                "no barrier between lane {}'s read of cell {i} and lane {lane}'s write",
                read.lane
            );
        }
        *cell = History { written: Some(Access { lane, at: self.now.get() }), ..History::default() };
    }

    /// Whether every lane of the warp or block that `lane` is in has waited since `at`.
    fn all_ordered(&self, at: u64, lane: usize) -> bool {
        at < self.block_barrier.get() || at < self.team_barrier.borrow()[lane & !WHOLE_WARP].0
    }
}

/// Scratch memory whose uses are checked.
#[derive(Clone, Copy)]
pub struct Checked<'a> {
    state: &'a CheckState,
}

impl<'a> Memory for Checked<'a> {
    type Scratch<V: Copy> = CheckedCells<'a, V>;

    fn widen(value: F16) -> f32 {
        value.to_f32()
    }

    fn step<I: MmaInput>(a: &A, b: &B, c: &mut C) {
        simd::step::<I>(a, b, c);
    }

    fn cells<V: Copy>(self, offset: usize, len: usize) -> CheckedCells<'a, V> {
        let bytes = self.state.bytes;
        assert!(offset + len * size_of::<V>() <= bytes, "scratch of {bytes} bytes is too small");
        CheckedCells { state: self.state, offset, len, value: PhantomData }
    }

    fn barrier(self, first: usize, lanes: usize) {
        let now = self.state.now.get() + 1;
        self.state.now.set(now);
        // A team of more than a warp is the block.
        if lanes > 32 {
            self.state.block_barrier.set(now);
        }
        for lane in first..first + lanes {
            self.state.team_barrier.borrow_mut()[lane] = (now, first, lanes);
        }
    }

    fn copies_commit(self, first: usize) {
        let (closed, open) = &mut self.state.copies.borrow_mut()[first / 32];
        closed.push_back(std::mem::take(open));
    }

    fn copies_wait(self, first: usize, pending: usize) {
        loop {
            let group = {
                let (closed, _) = &mut self.state.copies.borrow_mut()[first / 32];
                if closed.len() <= pending {
                    break;
                }
                closed.pop_front().unwrap_or_default()
            };
            for copy in group {
                for byte in (0..16).step_by(copy.cell) {
                    let cell = &mut self.state.cells.borrow_mut()[copy.to + byte];
                    let written = Some(Access { lane: copy.lane, at: self.state.now.get() });
                    *cell = History { written, ..History::default() };
                }
                // SAFETY: `copy_async` checked that these 16 bytes are cells of this block.
                unsafe {
                    self.state.base.get().add(copy.to).copy_from_nonoverlapping(copy.bytes.as_ptr(), 16)
                };
            }
        }
        self.barrier(first, 32);
    }
}

/// Cells of [`Checked`] memory.
pub struct CheckedCells<'a, V> {
    state: &'a CheckState,
    offset: usize,
    len: usize,
    value: PhantomData<V>,
}

impl<V> Clone for CheckedCells<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<V> Copy for CheckedCells<'_, V> {}

impl<V> CheckedCells<'_, V> {
    /// The byte at which cell `i` begins.
    fn at(&self, i: usize) -> usize {
        assert!(i < self.len, "scratch cell {i} of {}", self.len);
        self.offset + i * size_of::<V>()
    }
}

impl<V: Copy> Scratch<V> for CheckedCells<'_, V> {
    fn get(&self, lane: usize, i: usize) -> V {
        self.state.read(lane, self.at(i), i);
        // SAFETY: `at` checked the bounds, `read` that the cell was written; scratch memory is aligned to 16.
        unsafe { self.state.base.get().add(self.at(i)).cast::<V>().read() }
    }

    fn get_as<W: Copy>(&self, lane: usize, i: usize) -> W {
        assert!(size_of::<V>() == 1, "cells are bytes");
        for byte in i..i + size_of::<W>() {
            self.state.read(lane, self.at(byte), byte);
        }
        assert!(self.at(i).is_multiple_of(align_of::<W>()), "misaligned read at byte {i}");
        // SAFETY: bounds and alignment were checked, and that the cells were written.
        unsafe { self.state.base.get().add(self.at(i)).cast::<W>().read() }
    }

    fn set(&self, lane: usize, i: usize, value: V) {
        self.state.write(lane, self.at(i), i);
        // SAFETY: as above.
        unsafe { self.state.base.get().add(self.at(i)).cast::<V>().write(value) }
    }

    fn set_as<W: Copy>(&self, lane: usize, i: usize, value: W) {
        for cell in i..i + size_of::<W>() / size_of::<V>() {
            self.state.write(lane, self.at(cell), cell);
        }
        assert!(self.at(i).is_multiple_of(align_of::<W>()), "misaligned write at cell {i}");
        // SAFETY: bounds and alignment were checked; scratch memory is aligned to 16.
        unsafe { self.state.base.get().add(self.at(i)).cast::<W>().write(value) }
    }

    fn copy_async(&self, lane: usize, to: usize, source: &In<V>, from: usize, valid: bool) {
        let n = 16 / size_of::<V>();
        self.at(to + n - 1);
        // Where nothing is read the source may end before.
        let address = valid.then(|| source.address(from, n));
        let aligned = |address: *const V| (address as usize).is_multiple_of(16);
        assert!(self.at(to).is_multiple_of(16) && address.is_none_or(aligned), "16 bytes are copied at once");
        for i in to..to + n {
            self.state.write(lane, self.at(i), i);
            self.state.cells.borrow_mut()[self.at(i)].in_flight = true;
        }
        let mut bytes = [0; 16];
        if let Some(address) = address {
            // SAFETY: `address` checked the bounds in this debug or test build; see `In::new`.
            unsafe { address.cast::<u8>().copy_to_nonoverlapping(bytes.as_mut_ptr(), 16) };
        }
        let copy = Transfer { to: self.at(to), bytes, lane, cell: size_of::<V>() };
        self.state.copies.borrow_mut()[lane / 32].1.push(copy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Block, Team, Warp};
    use std::any::Any;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// What a panic said.
    fn panic_text(panic: &(dyn Any + Send)) -> &str {
        panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied())
            .unwrap_or("")
    }

    /// Runs `kernel` on a block of 64 lanes; what the checking team objects to, or nothing.
    fn objection(kernel: impl Fn(&CheckBlock<64>)) -> String {
        let run = || CheckState::with(&mut [0; 64], |state| kernel(&CheckBlock::new(0, 0, state)));
        catch_unwind(AssertUnwindSafe(run))
            .err()
            .map_or(String::new(), |panic| panic_text(&*panic).to_owned())
    }

    #[test]
    fn a_lane_may_read_what_it_wrote() {
        let text = objection(|b| {
            let s = b.scratch::<u32>(64);
            b.lanes(|l| s.set(l, l, 1));
            b.lanes(|l| assert_eq!(s.get(l, l), 1));
        });
        assert_eq!(text, "");
    }

    #[test]
    fn reading_a_neighbours_cell_needs_a_barrier() {
        let shift = |barrier: bool| {
            objection(|b| {
                let s = b.scratch::<u32>(64);
                b.lanes(|l| s.set(l, l, 1));
                if barrier {
                    b.barrier();
                }
                b.lanes(|l| assert_eq!(s.get(l, (l + 1) % 64), 1));
            })
        };
        assert_eq!(shift(true), "");
        assert!(shift(false).contains("no barrier between lane 1's write"), "{}", shift(false));
    }

    #[test]
    fn a_warp_barrier_orders_the_warp_and_no_other() {
        let shift = |by: usize| {
            objection(|b| {
                let s = b.scratch::<u32>(64);
                b.lanes(|l| s.set(l, l, 1));
                b.warps(|_, w| w.barrier());
                b.lanes(|l| assert_eq!(s.get(l, l ^ by), 1));
            })
        };
        assert_eq!(shift(1), "");
        assert!(shift(32).contains("no barrier"));
    }

    #[test]
    fn writing_over_what_others_read_needs_a_barrier() {
        let overwrite = |barrier: bool| {
            objection(|b| {
                let s = b.scratch::<u32>(1);
                b.lanes(|l| {
                    if l == 0 {
                        s.set(l, 0, 1)
                    }
                });
                b.barrier();
                b.lanes(|l| assert_eq!(s.get(l, 0), 1));
                if barrier {
                    b.barrier();
                }
                b.lanes(|l| {
                    if l == 63 {
                        s.set(l, 0, 2)
                    }
                });
            })
        };
        assert_eq!(overwrite(true), "");
        assert!(overwrite(false).contains("read of cell 0"), "{}", overwrite(false));
    }

    #[test]
    fn two_lanes_may_not_write_one_cell() {
        let text = objection(|b| {
            let s = b.scratch::<u32>(1);
            b.lanes(|l| s.set(l, 0, 1));
        });
        assert!(text.contains("writes of cell 0 by lanes 0 and 1"), "{text}");
    }

    #[test]
    fn unwritten_cells_have_no_value() {
        assert!(objection(|b| assert_eq!(b.scratch::<u32>(1).get(0, 0), 0)).contains("never written"));
    }

    #[test]
    fn a_copy_is_there_after_its_wait_and_not_before() {
        let data: Vec<u128> = vec![7; 32];
        // SAFETY: `data` outlives the kernels below.
        let source = unsafe { In::<u32>::new(data.as_ptr().cast(), 128) };
        let copy = |wait: bool| {
            objection(|b| {
                let s = b.scratch::<u32>(128);
                b.warps(|i, w| {
                    if i == 0 {
                        w.lanes(|l| s.copy_async(l, 4 * l, &source, 4 * l, true));
                        w.copies_commit();
                        if wait {
                            w.copies_wait::<0>();
                        }
                        w.lanes(|l| assert_eq!(s.get(l, 4 * (31 - l)), 7));
                    }
                });
            })
        };
        assert_eq!(copy(true), "");
        assert!(copy(false).contains("waited for"));
    }
}
