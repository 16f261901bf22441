//! The tensor core and asynchronous copies.

use core::ops::{Index, IndexMut};

use super::intrinsics::{
    copies_commit, copies_wait_0, copies_wait_1, copies_wait_2, copies_wait_3, load_matrix_2, load_matrix_4,
    mma_bf16, mma_f16, warp_barrier,
};
use super::{DeviceGroup, thread};
use crate::{MmaInput, Scratch, Warp};

/// The values of the two rows of C that this lane holds elements of.
#[derive(Clone, Copy)]
pub struct TwoRows<V>([V; 2]);

impl<V> Index<usize> for TwoRows<V> {
    type Output = V;
    #[inline(always)]
    fn index(&self, row: usize) -> &V {
        &self.0[row / 8 % 2]
    }
}

impl<V> IndexMut<usize> for TwoRows<V> {
    #[inline(always)]
    fn index_mut(&mut self, row: usize) -> &mut V {
        &mut self.0[row / 8 % 2]
    }
}

/// Two 16-bit values in one register, the first in the lower half.
#[inline(always)]
fn packed(pair: [u16; 2]) -> u32 {
    pair[0] as u32 | (pair[1] as u32) << 16
}

/// This lane's first row of A and C and column of B, and the first column of A and C and row of B.
#[inline(always)]
fn place() -> (usize, usize) {
    let lane = thread() % 32;
    (lane / 4, lane % 4 * 2)
}

/// Fragments as the instruction spreads them: lane `l` holds, of A, rows `l / 4` and `l / 4 + 8`, columns
/// `2 (l % 4)`, `+ 1`, `+ 8`, `+ 9`; of B, column `l / 4`, the same rows; of C, rows as A, columns `2 (l % 4)`, `+ 1`.
impl Warp for DeviceGroup<32> {
    type A = [u32; 4];
    type B = [u32; 2];
    type C = [f32; 4];
    type Rows<V: Copy> = TwoRows<V>;

    #[inline(always)]
    fn zero(&self) -> [f32; 4] {
        [0.0; 4]
    }

    #[inline(always)]
    fn rows<V: Copy>(&self, value: V) -> TwoRows<V> {
        TwoRows([value; 2])
    }

    #[inline(always)]
    fn each_row(&self, mut f: impl FnMut(usize, usize)) {
        let lane = thread() % 32;
        f(lane, lane / 4);
        f(lane, lane / 4 + 8);
    }

    #[inline(always)]
    fn load_a<S: Scratch<u16>>(&self, scratch: &S, at: impl Fn(usize, usize) -> usize) -> [u32; 4] {
        // Lane l gives the address of one row of eight: of the four 8 x 8 matrices, l / 8.
        let lane = thread() % 32;
        let row = scratch.address(at(lane % 16, lane / 16));
        let mut a = [0; 4];
        // SAFETY: all lanes of the warp run this together, and `row` is in shared memory.
        unsafe { load_matrix_4(&mut a, row.cast()) };
        a
    }

    #[inline(always)]
    fn load_b<S: Scratch<u16>>(&self, scratch: &S, at: impl Fn(usize, usize) -> usize) -> [u32; 2] {
        let lane = thread() % 32;
        let column = scratch.address(at(lane % 8, lane / 8 % 2));
        let mut b = [0; 2];
        // SAFETY: as above.
        unsafe { load_matrix_2(&mut b, column.cast()) };
        b
    }

    #[inline(always)]
    fn fill_b(&self, mut f: impl FnMut(usize, usize) -> [u16; 2]) -> [u32; 2] {
        let (column, row) = place();
        [packed(f(column, row)), packed(f(column, row + 8))]
    }

    #[inline(always)]
    fn mma<I: MmaInput>(&self, a: &[u32; 4], b: &[u32; 2], c: &mut [f32; 4]) {
        // SAFETY: all lanes of the warp run this together.
        unsafe {
            if I::BF16 {
                mma_bf16(c, a[0], a[1], a[2], a[3], b[0], b[1]);
            } else {
                mma_f16(c, a[0], a[1], a[2], a[3], b[0], b[1]);
            }
        }
    }

    #[inline(always)]
    fn each_c(&self, c: &[f32; 4], mut f: impl FnMut(usize, usize, usize, f32)) {
        let lane = thread() % 32;
        let (row, column) = place();
        f(lane, row, column, c[0]);
        f(lane, row, column + 1, c[1]);
        f(lane, row + 8, column, c[2]);
        f(lane, row + 8, column + 1, c[3]);
    }

    #[inline(always)]
    fn zip_c(&self, c: &mut [f32; 4], other: &[f32; 4], mut f: impl FnMut(usize, usize, f32, f32) -> f32) {
        let (row, column) = place();
        c[0] = f(row, column, c[0], other[0]);
        c[1] = f(row, column + 1, c[1], other[1]);
        c[2] = f(row + 8, column, c[2], other[2]);
        c[3] = f(row + 8, column + 1, c[3], other[3]);
    }

    #[inline(always)]
    fn copies_commit(&self) {
        // SAFETY: no requirement.
        unsafe { copies_commit() }
    }

    #[inline(always)]
    fn copies_wait<const PENDING: usize>(&self) {
        const { assert!(PENDING < 4) };
        // SAFETY: no requirement; the barrier makes every lane's copies visible to the warp.
        unsafe {
            match PENDING {
                0 => copies_wait_0(),
                1 => copies_wait_1(),
                2 => copies_wait_2(),
                _ => copies_wait_3(),
            }
            warp_barrier(u32::MAX);
        }
    }
}
