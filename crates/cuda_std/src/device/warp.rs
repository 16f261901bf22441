//! The tensor core and asynchronous copies.

use core::ops::{Index, IndexMut};

use super::intrinsics::{
    copies_commit, copies_wait_0, copies_wait_1, copies_wait_2, copies_wait_3, load_matrix_2, load_matrix_4,
    mma_bf16, mma_f16, mma_upper_bf16, mma_upper_f16, settle, warp_barrier,
};
use super::{DeviceGroup, Relayed, exchange_f32, thread};
use crate::math::max;
use crate::{Meanwhile, MmaInput, Scratch, Warp, unrolled};

/// Eights of tokens at most, see [`Warp::multiply_rows`].
const MOST_EIGHTS: usize = 8;

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
pub(super) fn packed(pair: [u16; 2]) -> u32 {
    pair[0] as u32 | (pair[1] as u32) << 16
}

/// This lane's first row of A and C and column of B, and the first column of A and C and row of B.
#[inline(always)]
pub(super) fn place() -> (usize, usize) {
    let lane = thread() % 32;
    (lane / 4, lane % 4 * 2)
}

/// Fragments as the instruction spreads them: lane `l` holds, of A, rows `l / 4` and `l / 4 + 8`, columns
/// `2 (l % 4)`, `+ 1`, `+ 8`, `+ 9`; of B, column `l / 4`, the same rows; of C, rows as A, columns `2 (l % 4)`, `+ 1`.
impl Warp for DeviceGroup<32> {
    type A = [u32; 4];
    type B = [u32; 2];
    type C = [f32; 4];
    /// Of two times eight tokens, this lane's row of weights and two tokens.
    type Sums = [[f32; 2]; 2];
    type Relayed = Relayed;
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
    fn keep_rows<const N: usize>(&self, b: &[[u32; 2]; N], first: usize, end: usize) -> [[u32; 2]; N] {
        let (row, first, end) = (place().1 as u32, first as u32, end as u32);
        let keep = |row: u32, mask: u32| if first <= row && row < end { mask } else { 0 };
        let both = |row: u32| keep(row, 0xffff) | keep(row + 1, 0xffff_0000);
        let (upper, lower) = (both(row), both(row + 8));
        b.map(|b| [b[0] & upper, b[1] & lower])
    }

    #[inline(always)]
    fn no_sums(&self) -> [[f32; 2]; 2] {
        [[0.0; 2]; 2]
    }

    // Weights are rows of A and eight tokens the columns of B: what a lane makes goes where the instruction wants it, and one load
    // brings a token's values of both steps. Eight rows of weights are the upper half of A.
    #[inline(always)]
    fn multiply_rows<
        I: MmaInput,
        const TOKENS: usize,
        const EIGHTS: usize,
        const WRITTEN: usize,
        const TILES: usize,
        S: Copy,
        R: Copy,
        X: Scratch<u16>,
    >(
        &self,
        blocks: usize,
        together: [usize; 2],
        shared: impl Fn(usize, usize) -> S,
        read: impl Fn(usize, usize, usize) -> R,
        values: impl Fn(usize, S, R, usize) -> [[u16; 2]; 2],
        x: &X,
        at: impl Fn(usize, usize, usize) -> usize,
        meanwhile: &impl Meanwhile,
        sums: &mut [[[[f32; 2]; 2]; TILES]; EIGHTS],
    ) {
        const { assert!(EIGHTS == 1 || EIGHTS.is_multiple_of(2)) };
        let lane = thread() % 32;
        let (row, column) = place();
        let tokens = |block: usize, eight: usize| {
            let token = x.address(at(block, eight * 8 + lane % 8, lane / 8));
            let mut both = [0; 4];
            // SAFETY: all lanes of the warp run this together, and `token` is in shared memory.
            unsafe { load_matrix_4(&mut both, token.cast()) };
            both
        };
        let of_rows = |block: usize| {
            let mut all = [shared(block, row); EIGHTS];
            unrolled::<EIGHTS>(|eight| {
                if eight > 0 {
                    all[eight] = shared(block, eight * 8 + row);
                }
            });
            all
        };
        let raw = |block: usize| {
            let both = |row: usize| [read(block, row, column), read(block, row, column + 8)];
            let mut all = [both(row); EIGHTS];
            unrolled::<EIGHTS>(|eight| {
                if eight > 0 {
                    all[eight] = both(eight * 8 + row);
                }
            });
            all
        };
        // Where a warp has more rows, it has enough else to do while tokens are read.
        let ahead = |block| {
            let mut early = [[0; 4]; MOST_EIGHTS];
            unrolled::<MOST_EIGHTS>(|eight| {
                if EIGHTS == 1 && eight * 8 < TOKENS {
                    early[eight] = tokens(block, eight);
                }
            });
            early
        };
        let mut multiply =
            |block, shared: [S; EIGHTS], raw: [[R; 2]; EIGHTS], early: [[u32; 4]; MOST_EIGHTS]| {
                // Of each 8 rows, two steps' first and last columns.
                let mut weights = [[[0; 2]; 2]; EIGHTS];
                unrolled::<EIGHTS>(|eight| {
                    let [left, right] = raw[eight];
                    let left = values(block, shared[eight], left, column);
                    let right = values(block, shared[eight], right, column + 8);
                    weights[eight] =
                        [[packed(left[0]), packed(right[0])], [packed(left[1]), packed(right[1])]];
                });
                if EIGHTS == 1 {
                    for step in 0..2 {
                        let [left, right] = weights[0][step];
                        unrolled::<MOST_EIGHTS>(|eight| {
                            if eight * 8 < TOKENS {
                                let (x, sums) = (early[eight], &mut sums[0][eight / 2][eight % 2]);
                                // SAFETY: all lanes of the warp run this together.
                                unsafe {
                                    if I::BF16 {
                                        mma_upper_bf16(sums, left, right, x[2 * step], x[2 * step + 1]);
                                    } else {
                                        mma_upper_f16(sums, left, right, x[2 * step], x[2 * step + 1]);
                                    }
                                }
                            }
                        });
                    }
                    return;
                }
                unrolled::<MOST_EIGHTS>(|eight| {
                    if eight * 8 < TOKENS {
                        let x = tokens(block, eight);
                        for step in 0..2 {
                            unrolled::<EIGHTS>(|rows| {
                                if rows % 2 == 0 {
                                    let [upper, lower] = [weights[rows][step], weights[rows + 1][step]];
                                    let a = [upper[0], lower[0], upper[1], lower[1]];
                                    let [first, second] = sums[rows][eight / 2][eight % 2];
                                    let [third, fourth] = sums[rows + 1][eight / 2][eight % 2];
                                    let mut c = [first, second, third, fourth];
                                    self.mma::<I>(&a, &[x[2 * step], x[2 * step + 1]], &mut c);
                                    sums[rows][eight / 2][eight % 2] = [c[0], c[1]];
                                    sums[rows + 1][eight / 2][eight % 2] = [c[2], c[3]];
                                }
                            });
                        }
                    }
                });
            };
        let [share, raws] = together;
        let (mut next_shared, mut next_raw, mut next_tokens) = (of_rows(0), raw(0), ahead(0));
        let mut first = 0;
        while first + WRITTEN <= blocks {
            unrolled::<WRITTEN>(|i| {
                let (this_shared, this_raw, tokens) = (next_shared, next_raw, next_tokens);
                let following = first + i + 1;
                if i + 1 < WRITTEN || following < blocks {
                    if (i + 1) % share == 0 || i + 1 == WRITTEN {
                        next_shared = of_rows(following);
                    }
                    if (i + 1) % raws == 0 || i + 1 == WRITTEN {
                        next_raw = raw(following);
                    }
                    next_tokens = ahead(following);
                }
                meanwhile.run(first, i);
                multiply(first + i, this_shared, this_raw, tokens);
            });
            first += WRITTEN;
        }
        while WRITTEN > 1 && first < blocks {
            let (this_shared, this_raw, tokens) = (next_shared, next_raw, next_tokens);
            if first + 1 < blocks {
                (next_shared, next_raw, next_tokens) = (of_rows(first + 1), raw(first + 1), ahead(first + 1));
            }
            multiply(first, this_shared, this_raw, tokens);
            first += 1;
        }
    }

    #[inline(always)]
    fn relay_rows<I: MmaInput, S: Copy, R: Copy, X: Scratch<u16>>(
        &self,
        blocks: usize,
        [share, raws]: [usize; 2],
        shared: impl Fn(usize, usize) -> S,
        read: impl Fn(usize, usize, usize) -> R,
        values: impl Fn(usize, S, R, usize) -> [[u16; 2]; 2],
        x: &X,
        at: impl Fn(usize, usize, usize) -> usize,
        meanwhile: &impl Meanwhile,
        sums: &mut Relayed,
    ) {
        let lane = thread() % 32;
        let (row, column) = place();
        let of_rows = |block: usize| [shared(block, row), shared(block, 8 + row)];
        let raw =
            |block: usize| [row, 8 + row].map(|row| [read(block, row, column), read(block, row, column + 8)]);
        // Of each block two steps' A.
        let mut weights = [[[0; 4]; 2]; 8];
        let (mut shared, mut raw_now) = (of_rows(0), raw(0));
        unrolled::<8>(|block| {
            if block > 0 && block % share == 0 {
                shared = of_rows(block);
            }
            if block > 0 && block % raws == 0 {
                raw_now = raw(block);
            }
            unrolled::<2>(|lower| {
                let [left, right] = raw_now[lower];
                let left = values(block, shared[lower], left, column);
                let right = values(block, shared[lower], right, column + 8);
                unrolled::<2>(|step| {
                    weights[block][step][lower] = packed(left[step]);
                    weights[block][step][2 + lower] = packed(right[step]);
                });
            });
        });
        let tokens = |block: usize| {
            let token = x.address(at(block, lane % 8, lane / 8));
            let mut both = [0; 4];
            // SAFETY: all lanes of the warp run this together, and `token` is in shared memory.
            unsafe { load_matrix_4(&mut both, token.cast()) };
            both
        };
        // Of blocks that there are not the weights are whatever lies there, and x is zeros.
        if blocks < 8 {
            unrolled::<8>(|block| {
                if block >= blocks {
                    weights[block] = [[0; 4]; 2];
                }
            });
        }
        unrolled::<8>(|block| {
            // SAFETY: no requirement.
            unrolled::<2>(|step| unsafe { settle(&mut weights[block][step]) });
        });
        meanwhile.run(0, 0);
        let mut early = [tokens(0), tokens(1)];
        sums.take();
        unrolled::<8>(|block| {
            let both = early[block % 2];
            if block + 2 < 8 {
                early[block % 2] = tokens(block + 2);
            }
            unrolled::<2>(|step| {
                self.mma::<I>(&weights[block][step], &[both[2 * step], both[2 * step + 1]], &mut sums.sums);
            });
        });
        if !sums.is_last {
            sums.hand_on();
        }
    }

    #[inline(always)]
    fn each_relayed(&self, sums: &Relayed, mut f: impl FnMut(usize, usize, f32)) {
        self.each_c(&sums.sums, |_, row, token, sum| f(token, row, sum));
    }

    #[inline(always)]
    fn each_sum<const TOKENS: usize, const EIGHTS: usize, const TILES: usize>(
        &self,
        sums: &[[[[f32; 2]; 2]; TILES]; EIGHTS],
        mut f: impl FnMut(usize, usize, f32),
    ) {
        let (row, token) = place();
        unrolled::<EIGHTS>(
            #[inline(always)]
            |half| {
                unrolled::<16>(
                    #[inline(always)]
                    |eight| {
                        if eight * 8 < TOKENS {
                            let [first, second] = sums[half][eight / 2][eight % 2];
                            f(eight * 8 + token, half * 8 + row, first);
                            f(eight * 8 + token + 1, half * 8 + row, second);
                        }
                    },
                );
            },
        );
    }

    #[inline(always)]
    fn each_two<const TOKENS: usize, const EIGHTS: usize, const TILES: usize>(
        &self,
        sums: &[[[[f32; 2]; 2]; TILES]; EIGHTS],
        mut f: impl FnMut(usize, usize, [f32; 2], [f32; 2]),
    ) {
        let (row, token) = place();
        unrolled::<16>(
            #[inline(always)]
            |eight| {
                if eight * 8 < TOKENS {
                    let [first, second] = [0, EIGHTS - 1].map(|half| sums[half][eight / 2][eight % 2]);
                    f(eight * 8 + token, row, first, second);
                }
            },
        );
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
    fn each_pair(&self, c: &[f32; 4], mut f: impl FnMut(usize, usize, [f32; 2])) {
        let (row, column) = place();
        f(row, column, [c[0], c[1]]);
        f(row + 8, column, [c[2], c[3]]);
    }

    #[inline(always)]
    fn each_two_pairs(
        &self,
        c: &[f32; 4],
        other: &[f32; 4],
        mut f: impl FnMut(usize, usize, [f32; 2], [f32; 2]),
    ) {
        let (row, column) = place();
        f(row, column, [c[0], c[1]], [other[0], other[1]]);
        f(row + 8, column, [c[2], c[3]], [other[2], other[3]]);
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
    fn round_to_a<I: MmaInput>(&self, left: &[f32; 4], right: &[f32; 4]) -> [u32; 4] {
        [[left[0], left[1]], [left[2], left[3]], [right[0], right[1]], [right[2], right[3]]]
            .map(|pair| packed(I::both(pair)))
    }

    #[inline(always)]
    fn max_rows<const N: usize>(&self, c: &[[f32; 4]; N]) -> TwoRows<f32> {
        let mut greatest = [f32::NEG_INFINITY; 2];
        unrolled::<N>(|i| {
            for half in 0..2 {
                greatest[half] = max(greatest[half], max(c[i][2 * half], c[i][2 * half + 1]));
            }
        });
        // The four lanes that share the rows.
        TwoRows(greatest.map(|value| {
            let value = max(value, exchange_f32(value, u32::MAX, 2));
            max(value, exchange_f32(value, u32::MAX, 1))
        }))
    }

    #[inline(always)]
    fn sum_rows<const N: usize>(&self, c: &[[f32; 4]; N]) -> TwoRows<f32> {
        const { assert!(N.is_multiple_of(4)) };
        let mut totals = [0.0; 2];
        for half in 0..2 {
            // This lane's eight of the 32: columns `8 i + 2 (l % 4)` and `+ 1`.
            let mut sums = [[0.0f32; 2]; 4];
            unrolled::<N>(|i| {
                for j in 0..2 {
                    sums[i % 4][j] += c[i][2 * half + j];
                }
            });
            let [even, odd] = [0, 1].map(|j| {
                let sum = (sums[0][j] + sums[2][j]) + (sums[1][j] + sums[3][j]);
                let sum = sum + exchange_f32(sum, u32::MAX, 2);
                sum + exchange_f32(sum, u32::MAX, 1)
            });
            totals[half] = even + odd;
        }
        TwoRows(totals)
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
