//! [`crate::qmatmul`] of one token or two with a matrix of few rows, which waits for chains of steps: four warps relay one chain.
//!
//! A block has 16 rows of weights, and each of its warps every fourth slice of 256 columns. A warp copies the stored bytes of its slices
//! and makes one's weights in registers while the others multiply; then it takes the sums that the warp before left, goes through the 16
//! steps of its slice, and hands them on ([`Block::relay`]). So a multiprocessor has four times the warps that it had rows for, and the sums
//! are the same to the bit: one chain, `k` upwards. The first slice's weights are made before the kernels ahead have ended.
//!
//! Bytes moved: the stored ones, once, and `x` once a block.

use core::marker::PhantomData;

use cuda_std::{
    Bf16, Block, F16, Geometry, Meanwhile, MmaInput, RELAY, Scratch, Team, Warp, kernel, unrolled,
};

#[cfg(not(target_arch = "nvptx64"))]
use crate::format::Stored;
use crate::format::{
    BLOCK, Format, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0,
    SUPER_BLOCK, Staged,
};
use crate::qmatmul::QMatMul;
#[cfg(not(target_arch = "nvptx64"))]
use crate::tile::WIDE;
use crate::tile::{stride, units, x_stride};

/// Warps of a block.
const WARPS: usize = 4;
/// Rows of weights of a block.
const ROWS: usize = 16;
/// Tokens at most.
const TOKENS: usize = 2;
/// Columns of a slice.
const COLUMNS: usize = SUPER_BLOCK;
/// Slices of a warp in scratch memory: one that is multiplied, and others that come.
const STAGES: usize = 3;
/// Copies of a lane of a slice's weights, at most.
const COPIES: usize = 9;

/// Bytes of scratch memory of a block.
const fn scratch<F: Format>(tokens: usize) -> usize {
    let slice = ROWS * stride::<F>(COLUMNS) + 2 * tokens * x_stride(COLUMNS);
    WARPS * (STAGES * slice + RELAY) + 2 * COLUMNS
}

fn geometry<F: Format>(a: &QMatMul) -> Geometry {
    debug_assert!((1..=TOKENS as u32).contains(&a.m));
    Geometry { grid: [(a.n as usize).div_ceil(ROWS), 1], scratch: scratch::<F>(a.m as usize) }
}

/// A block's rows, and where copies of their slices go. A GPU computes in 32 bits at half the price.
struct Slices<F, W, X> {
    a: QMatMul,
    kind: PhantomData<F>,
    row0: u32,
    weights: W,
    inputs: X,
}

/// What a lane copies of each slice: from where after the slice's first byte, and to where after its place.
type Copies = [(u32, u32); COPIES];

impl<F: Format, W: Scratch<u8>, X: Scratch<u16>> Slices<F, W, X> {
    const STRIDE: usize = stride::<F>(COLUMNS);
    /// Units of 16 bytes of a row, and of all.
    const UNITS: usize = units::<F>(COLUMNS);
    const ALL: usize = ROWS * Self::UNITS;

    /// Where a slice of the block's first row begins among the stored bytes.
    #[inline(always)]
    fn begin(&self, slice: u32) -> u64 {
        let row_bytes = F::row_bytes(self.a.k as usize) as u32;
        self.row0 as u64 * row_bytes as u64 + (slice * F::row_bytes(COLUMNS) as u32) as u64
    }

    /// Where a row begins after the first. Past the last row it is read again, and its sums are not stored.
    #[inline(always)]
    fn after_first(&self, row: usize) -> u32 {
        (row as u32).min(self.a.n - 1 - self.row0) * F::row_bytes(self.a.k as usize) as u32
    }

    /// The byte of scratch memory where a warp's copy of a slice begins.
    #[inline(always)]
    fn place(&self, warp: usize, stage: u32) -> usize {
        (warp * STAGES + stage as usize) * (ROWS * Self::STRIDE)
    }

    /// The cell where a warp's copy of a token begins.
    #[inline(always)]
    fn token(&self, warp: usize, stage: u32, token: usize) -> usize {
        ((warp * STAGES + stage as usize) * self.a.m as usize + token) * x_stride(COLUMNS)
    }

    /// What this lane of a warp copies: neighbours copy what is side by side.
    #[inline(always)]
    fn copies(&self, lane: usize) -> Copies {
        const { assert!(Self::ALL <= 32 * COPIES) };
        let mut copies = [(0, 0); COPIES];
        unrolled::<COPIES>(|i| {
            let unit = 32 * i + lane;
            let (row, byte) = (unit / Self::UNITS, unit % Self::UNITS * 16);
            copies[i] = (self.after_first(row) + byte as u32, (row * Self::STRIDE + byte) as u32);
        });
        copies
    }

    /// Begins to copy a slice's weights; nothing of a slice that there is not.
    #[inline(always)]
    fn copy_weights<T: Team>(&self, warp: (usize, &T), copies: &T::PerLane<Copies>, slice: u32, stage: u32) {
        // Of the last slice of a row what is past the row's end is not read: there may be nothing.
        if (slice + 1) * (COLUMNS as u32) < self.a.k {
            self.copy_units::<T, false>(warp, copies, slice, stage);
        } else if slice * (COLUMNS as u32) < self.a.k {
            self.copy_units::<T, true>(warp, copies, slice, stage);
        }
    }

    #[inline(always)]
    fn copy_units<T: Team, const LAST: bool>(
        &self,
        (index, warp): (usize, &T),
        copies: &T::PerLane<Copies>,
        slice: u32,
        stage: u32,
    ) {
        let left = F::row_bytes(self.a.k as usize) as u32 - slice * F::row_bytes(COLUMNS) as u32;
        let (begin, place) = (self.begin(slice), self.place(index, stage));
        warp.lanes(|lane| {
            unrolled::<COPIES>(|i| {
                let unit = 32 * i + lane;
                if 32 * i < Self::ALL && (32 * i + 32 <= Self::ALL || unit < Self::ALL) {
                    let (after, to) = copies[lane][i];
                    let from = begin + after as u64;
                    // Bytes of the row from the unit on in which they begin.
                    let byte = (unit % Self::UNITS * 16) as u32;
                    if !LAST || byte < left + from as u32 % 16 {
                        let from = if F::BYTES.is_multiple_of(16) { from } else { from & !15 };
                        self.weights.copy_async(
                            index * 32 + lane,
                            place + to as usize,
                            &self.a.w,
                            from as usize,
                            true,
                        );
                    }
                }
            });
        });
    }

    /// Begins to copy a slice of the tokens; zeros where there are no columns, and nothing of a slice that there is not.
    #[inline(always)]
    fn copy_inputs<T: Team>(&self, (index, warp): (usize, &T), slice: u32, stage: u32) {
        let QMatMul { x, k, m, .. } = self.a;
        let first = slice * COLUMNS as u32;
        if first >= k {
            return;
        }
        warp.lanes(|lane| {
            let column = first + lane as u32 * 8;
            unrolled::<TOKENS>(|token| {
                if token < m as usize {
                    let to = self.token(index, stage, token) + lane * 8;
                    let from = token as u64 * k as u64 + column as u64;
                    self.inputs.copy_async(index * 32 + lane, to, &x, from as usize, column < k);
                }
            });
        });
    }
}

/// What a warp does between making weights and multiplying them: it sees to it that the tokens are there, and begins to copy those of its
/// next slice.
struct Inputs<'a, B: Block, F, W, X> {
    block: &'a B,
    slices: &'a Slices<F, W, X>,
    index: usize,
    warp: &'a B::Warp,
    slice: u32,
    stage: u32,
}

impl<B: Block, F: Format, W: Scratch<u8>, X: Scratch<u16>> Meanwhile for Inputs<'_, B, F, W, X> {
    #[inline(always)]
    fn run(&self, _: usize, _: usize) {
        let Self { block, slices, index, warp, slice, stage } = *self;
        let is_first = slice < WARPS as u32;
        if is_first {
            // No kernel writes weights; tokens are there when all kernels ahead have ended.
            block.await_predecessors();
            slices.copy_inputs((index, warp), slice, stage);
        }
        slices.copy_inputs((index, warp), slice + WARPS as u32, after(stage));
        warp.copies_commit();
        if is_first {
            warp.copies_wait::<0>();
        } else {
            // All but the weights and the tokens that were asked for last.
            warp.copies_wait::<2>();
        }
    }
}

/// The stage after this one.
#[inline(always)]
fn after(stage: u32) -> u32 {
    if stage + 1 < STAGES as u32 { stage + 1 } else { 0 }
}

#[inline(always)]
fn relay<B: Block, F: Format, I: MmaInput>(block: &B, a: &QMatMul) {
    let (k, m, n) = (a.k, a.m as usize, a.n as usize);
    let weights = block.scratch::<u8>(WARPS * STAGES * ROWS * stride::<F>(COLUMNS));
    let cells = WARPS * STAGES * m * x_stride(COLUMNS);
    let inputs = block.scratch::<u16>(cells + COLUMNS);
    // Tokens that there are not are zeros.
    if !cfg!(target_arch = "nvptx64") {
        block.each(COLUMNS, |lane, i| inputs.set(lane, cells + i, 0));
        block.barrier();
    }
    let row0 = (block.x() * ROWS) as u32;
    let slices = Slices::<F, _, _> { a: *a, kind: PhantomData, row0, weights, inputs };
    let copies = block.per_warp::<_, WARPS>(|index, warp| {
        let mut copies = warp.per_lane([(0, 0); COPIES]);
        warp.lanes(|lane| copies[lane] = slices.copies(lane));
        for stage in 0..STAGES as u32 - 1 {
            slices.copy_weights((index, warp), &copies, index as u32 + stage * WARPS as u32, stage);
            warp.copies_commit();
            // In the place of tokens.
            warp.copies_commit();
        }
        copies
    });
    let mut stages = block.per_warp::<u32, WARPS>(|_, _| 0);
    let turns = k.div_ceil(COLUMNS as u32);
    block.relay::<WARPS>(
        turns as usize,
        |index, warp, slice, sums| {
            let (stage, slice) = (stages[index], slice as u32);
            stages[index] = after(stage);
            if slice + WARPS as u32 >= turns {
                block.launch_successor();
            }
            // The slice's weights are there: after them two of tokens were asked for, and one of weights. And all lanes are done with the slice
            // before it, whose place is filled next.
            warp.copies_wait::<3>();
            let next = slice + ((STAGES - 1) * WARPS) as u32;
            slices.copy_weights((index, warp), &copies[index], next, after(after(stage)));
            warp.copies_commit();
            let bytes = |row: usize, column: usize| Staged {
                bytes: weights,
                lane: index * 32 + row % 8 * 4 + column % 8 / 2,
            };
            let place = |b: usize, row: usize| {
                let within = (slices.begin(slice) as u32 + slices.after_first(row)) % 16;
                F::place(slices.place(index, stage) + row * stride::<F>(COLUMNS) + within as usize, b)
            };
            let meanwhile = Inputs { block, slices: &slices, index, warp, slice, stage };
            warp.relay_rows::<I, _, _, _>(
                (k - slice * COLUMNS as u32).min(COLUMNS as u32) as usize / BLOCK,
                [F::TOGETHER, F::READ_TOGETHER],
                |b, row| F::shared(&bytes(row, 0), place(b, row)),
                |b, row, column| F::read::<2>(&bytes(row, column), place(b, row), column),
                |b, shared, raw, column| F::rounded::<I, B>(raw, F::place(0, b), shared, column),
                &inputs,
                |b, token, octet| {
                    let column = b * BLOCK + octet * 8;
                    // Of a token that there is not a lane reads the last one. On the host zeros cost nothing.
                    if cfg!(target_arch = "nvptx64") {
                        slices.token(index, stage, token.min(m - 1)) + column
                    } else if token < m {
                        slices.token(index, stage, token) + column
                    } else {
                        cells + column
                    }
                },
                &meanwhile,
                sums,
            );
        },
        |warp, sums| {
            warp.each_relayed(sums, |token, row, sum| {
                let row = row0 as usize + row;
                if token < m && row < n {
                    a.y.set(token * n + row, sum);
                }
            });
        },
    );
}

/// A kernel for each stored type.
macro_rules! kernels {
    ($($stored:ident, $input:ident, $NAME:ident = $entry:ident;)*) => {
        $(kernel! {
            /// See the module; the name tells the stored type.
            pub $NAME = $entry(QMatMul), lanes: 32 * WARPS,
            geometry: geometry::<$stored>, body: relay::<_, $stored, $input>, streams: weights
        })*

        /// The kernel for weights stored so, so many rows of them and so many tokens, whose blocks take no more than `room` bytes of
        /// scratch memory, if there is one: for matrices and tokens of which this was found to be faster.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(
            stored: Stored,
            rows: usize,
            tokens: usize,
            room: usize,
        ) -> Option<&'static cuda_std::Kernel<QMatMul>> {
            if rows >= WIDE || tokens > TOKENS {
                return None;
            }
            match stored {
                $(Stored::$stored if scratch::<$stored>(TOKENS) <= room => Some(&$NAME),)*
                _ => None,
            }
        }
    };
}

kernels! {
    Q8_0, F16, RELAY_Q8_0 = relay__q8_0;
    Q4_0, F16, RELAY_Q4_0 = relay__q4_0;
    Q4_1, F16, RELAY_Q4_1 = relay__q4_1;
    Q5_0, F16, RELAY_Q5_0 = relay__q5_0;
    Q5_1, F16, RELAY_Q5_1 = relay__q5_1;
    Q2_K, F16, RELAY_Q2_K = relay__q2_k;
    Q3_K, F16, RELAY_Q3_K = relay__q3_k;
    Q4_K, F16, RELAY_Q4_K = relay__q4_k;
    Q5_K, F16, RELAY_Q5_K = relay__q5_k;
    Q6_K, F16, RELAY_Q6_K = relay__q6_k;
    IQ4_NL, F16, RELAY_IQ4_NL = relay__iq4_nl;
    IQ4_XS, F16, RELAY_IQ4_XS = relay__iq4_xs;
    MXFP4, Bf16, RELAY_MXFP4 = relay__mxfp4;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_of_few_rows_have_a_kernel_for_two_tokens_where_there_is_room() {
        let name = |rows, tokens, room| of(Stored::Q4_K, rows, tokens, room).map(|kernel| kernel.name);
        assert_eq!(name(1, 1, usize::MAX), Some("relay__q4_k"));
        assert_eq!(name(WIDE - 1, 2, 99 << 10), Some("relay__q4_k"));
        assert_eq!(name(WIDE, 1, usize::MAX), None);
        assert_eq!(name(1, 3, usize::MAX), None);
        assert_eq!(name(1, 1, 16 << 10), None);
        assert!(of(Stored::F16, 1, 1, usize::MAX).is_none());
    }

    #[test]
    fn a_multiprocessor_of_hopper_has_room_for_three_blocks() {
        fn three<F: Format>() {
            assert!(3 * (scratch::<F>(1) + 256 + 1024) <= 227 << 10);
        }
        three::<Q8_0>();
        three::<Q6_K>();
        three::<Q4_K>();
    }
}
