//! [`crate::qmatmul`] for more rows of `x`, of types of super-blocks, on the tensor core of Hopper: of a block's warps some make weights,
//! and the others multiply.
//!
//! A block has 128 tokens and 128 or 256 rows of weights, whose stored bytes come by asynchronous copies, and so do the tokens. Four warps
//! make weights of these bytes, in scratch memory, two lanes a row, 64 columns at a time; meanwhile twice four multiply what was made
//! before, each four of them 64 tokens by all rows. Both the tensor core reads from scratch memory by itself. A warp that asks for a
//! step waits until those before it are begun, which is why none does both. The sums are the same to the bit: within a
//! step of 16 columns there is no order, and it is of no matter which of the two is A.
//!
//! Bytes moved: the stored ones, once for each 128 tokens; the tokens' `2 k` once for each 128 or 256 rows, from the L2 cache.
//! For 64 columns, 128 tokens and 256 rows the tensor core takes 1024 cycles and reads 80 KB of scratch memory, 128 bytes a cycle, into which
//! 57 KB are written.

use core::marker::PhantomData;

use cuda_std::{Block, F16, Geometry, Scratch, Team, Warp, WarpGroup, kernel, unrolled};

#[cfg(not(target_arch = "nvptx64"))]
use crate::format::Stored;
use crate::format::{CHUNK, CHUNKS, Octets, Q4_K, Q5_K, Staged, octet};
#[cfg(not(target_arch = "nvptx64"))]
use crate::qmatmul::Chosen;
use crate::qmatmul::QMatMul;
#[cfg(not(target_arch = "nvptx64"))]
use crate::tile::MULTIPROCESSORS;

/// Warps of a block that multiply, and that make weights; its lanes.
const MULTIPLY: usize = 8;
const MAKE: usize = 4;
const LANES: usize = 32 * (MULTIPLY + MAKE);
/// Tokens of a block.
const TOKENS: usize = 128;
/// Rows that the lanes of a warp make weights of at once, two lanes a row.
const ROWS: usize = 16;
/// Chunks of tokens in scratch memory: one that is multiplied, the next one, and one that comes; a power of two.
const RING: usize = 4;
/// Units of 16 bytes of a super-block of so many rows that a lane copies, at most.
const MOST_UNITS: usize = 6;

/// Bytes of scratch memory from one row of a super-block to the next: an odd number of units, against bank conflicts.
const fn stride<F: Octets>() -> usize {
    ((F::BYTES / 16) | 1) * 16
}

/// Of blocks of so many rows.
fn geometry<F: Octets>(rows: usize, a: &QMatMul) -> Geometry {
    Geometry {
        grid: [a.n as usize / rows, (a.m as usize).div_ceil(TOKENS)],
        scratch: 1024 + 2 * (RING * TOKENS + 2 * rows) * CHUNK + 2 * rows * stride::<F>(),
    }
}

/// The cell of octet `octet` of row `row` in a chunk, see [`cuda_std::WarpGroup::multiply_group`].
#[inline(always)]
fn cell(row: usize, octet: usize) -> usize {
    row * CHUNK + (octet ^ (row % 8)) * 8
}

/// What a block works on: `GROUPS` times 16 rows for each warp that makes weights.
struct Broad<'a, B: Block, F, const GROUPS: usize> {
    block: &'a B,
    a: &'a QMatMul,
    format: PhantomData<F>,
    first_token: usize,
    /// Of tokens, and of chunks of columns.
    count: usize,
    chunks: u32,
    weights: B::Scratch<u8>,
    tokens: B::Scratch<u16>,
    made: B::Scratch<u16>,
    /// Of a lane of a warp that makes weights: where the units begin that it copies of the first 16 rows; and from 16 rows to the next ones.
    units_at: B::PerLane<[u32; MOST_UNITS]>,
    step: u32,
}

impl<B: Block, F: Octets, const GROUPS: usize> Broad<'_, B, F, GROUPS> {
    /// Rows of weights of a block.
    const BLOCKS: usize = MAKE * GROUPS * ROWS;
    /// Units of a row's super-block, and of those of 16 rows.
    const UNITS: usize = F::BYTES / 16;
    const ALL_UNITS: usize = ROWS * Self::UNITS;

    /// Begins to copy a super-block of some of a warp's sixteens of rows.
    #[inline(always)]
    fn copy_rows(&self, (index, warp): (usize, &B::Warp), super_block: u32, first: usize, end: usize) {
        let there = super_block < self.chunks / CHUNKS as u32;
        let at = super_block * Self::UNITS as u32;
        warp.lanes(
            #[inline(always)]
            |lane| {
                let whole_lane = (MULTIPLY + index) * 32 + lane;
                unrolled::<GROUPS>(
                    #[inline(always)]
                    |group| {
                        unrolled::<MOST_UNITS>(
                            #[inline(always)]
                            |i| {
                                let unit = lane + i * 32;
                                if first <= group
                                    && group < end
                                    && i * 32 < Self::ALL_UNITS
                                    && unit < Self::ALL_UNITS
                                {
                                    let row = (index * GROUPS + group) * ROWS + unit / Self::UNITS;
                                    let to = Self::super_block_at(super_block, row) + unit % Self::UNITS * 16;
                                    let from = self.units_at[whole_lane][i] + group as u32 * self.step + at;
                                    self.weights.copy_async(
                                        whole_lane,
                                        to,
                                        &self.a.w,
                                        from as usize * 16,
                                        there,
                                    );
                                }
                            },
                        );
                    },
                );
            },
        );
    }

    /// Begins to copy a chunk of the tokens; zeros are in place of what there is not.
    #[inline(always)]
    fn copy_tokens(&self, (index, warp): (usize, &B::Warp), chunk: u32) {
        let units = self.a.k / 8;
        warp.lanes(
            #[inline(always)]
            |lane| {
                let lane = index * 32 + lane;
                // In units of 16 bytes, which 32 bits are enough for.
                let first = (self.first_token + lane / 8) as u32 * units + (lane % 8) as u32;
                unrolled::<{ TOKENS / (MULTIPLY * 4) }>(
                    #[inline(always)]
                    |i| {
                        let token = lane / 8 + i * MULTIPLY * 4;
                        let there = token < self.count && chunk < self.chunks;
                        let from = first + (i * MULTIPLY * 4) as u32 * units + chunk * (CHUNK / 8) as u32;
                        let to = Self::chunk_at(chunk) + cell(token, lane % 8);
                        self.tokens.copy_async(lane, to, &self.a.x, from as usize * 8, there);
                    },
                );
            },
        );
        warp.copies_commit();
    }

    /// The first byte of a row of a super-block.
    #[inline(always)]
    fn super_block_at(super_block: u32, row: usize) -> usize {
        (super_block as usize % 2 * Self::BLOCKS + row) * stride::<F>()
    }

    /// The first cell of a chunk of tokens.
    #[inline(always)]
    fn chunk_at(chunk: u32) -> usize {
        chunk as usize % RING * TOKENS * CHUNK
    }

    /// The first cell of the weights of chunk `part` of a super-block.
    #[inline(always)]
    fn made_at(part: usize) -> usize {
        part % 2 * Self::BLOCKS * CHUNK
    }

    /// Makes a warp's weights of chunk `part` of a super-block, of the rows that it copied.
    #[inline(always)]
    fn make(&self, (index, warp): (usize, &B::Warp), super_block: u32, part: usize) {
        warp.lanes(
            #[inline(always)]
            |lane| {
                let bytes = Staged { bytes: self.weights, lane: (MULTIPLY + index) * 32 + lane };
                let (row, half) = (index * GROUPS * ROWS + lane % ROWS, lane / ROWS);
                let begin = Self::super_block_at(super_block, row);
                let read =
                    |group: usize| F::read_four(&bytes, begin + group * ROWS * stride::<F>(), part, half);
                // What is read of the next rows is read before these are written.
                let mut next = read(0);
                unrolled::<GROUPS>(
                    #[inline(always)]
                    |group| {
                        let this = next;
                        if group + 1 < GROUPS {
                            next = read(group + 1);
                        }
                        unrolled::<4>(
                            #[inline(always)]
                            |i| {
                                let to = Self::made_at(part) + cell(row, octet(i, half));
                                let made = F::made::<B>(this, part, i);
                                self.made.set_as(bytes.lane, to + group * ROWS * CHUNK, made);
                            },
                        );
                    },
                );
            },
        );
        warp.show();
    }
}

/// `OCTETS` are the eights of a block's rows, and `PAIRS` half of them.
#[inline(always)]
fn broad<B: Block, F: Octets, const GROUPS: usize, const OCTETS: usize, const PAIRS: usize>(
    block: &B,
    a: &QMatMul,
) {
    let rows = const {
        assert!(OCTETS * 8 == MAKE * GROUPS * ROWS && PAIRS == OCTETS / 2);
        assert!(F::BYTES.is_multiple_of(16) && ROWS * (F::BYTES / 16) <= 32 * MOST_UNITS);
        MAKE * GROUPS * ROWS
    };
    let (n, k, gates) = (a.n as usize, a.k as usize, a.y.is_empty());
    let first_token = block.y() * TOKENS;
    let row_units = F::row_bytes(k) as u32 / 16;
    block.align();
    let tokens = block.scratch::<u16>(RING * TOKENS * CHUNK);
    let made = block.scratch::<u16>(2 * rows * CHUNK);
    let weights = block.scratch::<u8>(2 * rows * stride::<F>());
    let mut units_at = block.per_lane([0; MOST_UNITS]);
    block.lanes(
        #[inline(always)]
        |lane| {
            let warps_row = (lane / 32).saturating_sub(MULTIPLY) * GROUPS * ROWS;
            unrolled::<MOST_UNITS>(
                #[inline(always)]
                |i| {
                    let unit = (lane % 32 + i * 32).min(ROWS * (F::BYTES / 16) - 1);
                    // If half of the rows are gates, of 16 eight are, and the others what these gate.
                    let row = unit / (F::BYTES / 16);
                    let row = if gates {
                        (block.x() * rows + warps_row) / 2 + row % 8 + row / 8 * (n / 2)
                    } else {
                        block.x() * rows + warps_row + row
                    };
                    units_at[lane][i] = row as u32 * row_units + (unit % (F::BYTES / 16)) as u32;
                },
            );
        },
    );
    let work = Broad::<B, F, GROUPS> {
        block,
        a,
        format: PhantomData,
        first_token,
        count: (a.m as usize - first_token).min(TOKENS),
        chunks: a.k / CHUNK as u32,
        weights,
        tokens,
        made,
        units_at,
        step: row_units * if gates { ROWS as u32 / 2 } else { ROWS as u32 },
    };

    // No kernel writes weights. Of a super-block's rows a share comes while the first half of the one before it is made.
    let share = const { 2 * GROUPS / CHUNKS };
    work.block.warps(
        #[inline(always)]
        |index, warp| {
            if index >= MULTIPLY {
                let warp = (index - MULTIPLY, warp);
                work.copy_rows(warp, 0, 0, GROUPS);
                warp.1.copies_commit();
                work.copy_rows(warp, 1, 0, share);
                warp.1.copies_commit();
            }
        },
    );
    block.await_predecessors();
    block.warps(
        #[inline(always)]
        |index, warp| {
            if index >= MULTIPLY {
                warp.copies_wait::<1>();
                work.make((index - MULTIPLY, warp), 0, 0);
            } else {
                work.copy_tokens((index, warp), 0);
                work.copy_tokens((index, warp), 1);
                warp.copies_wait::<1>();
                warp.show();
            }
        },
    );
    block.barrier();
    let super_blocks = work.chunks / CHUNKS as u32;
    block.split::<MULTIPLY, CHUNKS, _>(
        super_blocks,
        |_, warp| [warp.zero(); OCTETS],
        #[inline(always)]
        |sums, index, warp, super_block, part| {
            let chunk = super_block * CHUNKS as u32 + part as u32;
            let (chunk_at, made_at) =
                (Broad::<B, F, GROUPS>::chunk_at(chunk), Broad::<B, F, GROUPS>::made_at(part));
            let first_token = index / 4 * 64;
            warp.multiply_shared::<F16, OCTETS, _>(
                (&tokens, |token, octet| chunk_at + cell(first_token + token, octet)),
                (&made, |row, octet| made_at + cell(row, octet)),
                sums,
            );
            work.copy_tokens((index, warp), chunk + 2);
            warp.copies_wait::<1>();
            warp.show();
            warp.wait_group(sums);
        },
        #[inline(always)]
        |sums, index, warp| {
            block.launch_successor();
            let (warps_token, first_row) = (index * 16, block.x() * rows);
            unrolled::<PAIRS>(
                #[inline(always)]
                |pair| {
                    let (first, second) = (&sums[2 * pair], &sums[2 * pair + 1]);
                    if gates {
                        warp.each_two_pairs(
                            first,
                            second,
                            #[inline(always)]
                            |token, row, gates, ups| {
                                let (token, row) = (warps_token + token, first_row / 2 + pair * 8 + row);
                                if token < work.count {
                                    let bits = a.gated.pair::<F16>(gates, ups);
                                    let at = (first_token + token) * (n / 2) + row;
                                    a.gated.y.set(at, bits[0]);
                                    a.gated.y.set(at + 1, bits[1]);
                                }
                            },
                        );
                    } else {
                        let put = |token: usize, row: usize, values: [f32; 2]| {
                            let (token, row) = (warps_token + token, first_row + pair * 16 + row);
                            if token < work.count {
                                let at = (first_token + token) * n + row;
                                a.y.set(at, values[0]);
                                a.y.set(at + 1, values[1]);
                            }
                        };
                        warp.each_pair(first, put);
                        warp.each_pair(second, |token, row, values| put(token, row + 8, values));
                    }
                },
            );
        },
        #[inline(always)]
        |index, warp, super_block, part| {
            // What is multiplied next; after the last chunk one is made again, that nobody multiplies.
            let following = (part + 1) % CHUNKS;
            let next = if following == 0 { (super_block + 1).min(super_blocks - 1) } else { super_block };
            work.make((index - MULTIPLY, warp), next, following);
            if following < CHUNKS / 2 {
                work.copy_rows(
                    (index - MULTIPLY, warp),
                    next + 1,
                    following * share,
                    (following + 1) * share,
                );
            }
            warp.copies_commit();
            // What was begun in the first half is there after the second one.
            warp.copies_wait::<2>();
        },
    );
}

/// A kernel for each stored type and number of rows.
macro_rules! kernels {
    ($($stored:ident { $($NAME:ident = $entry:ident, $groups:literal;)* })*) => {
        $($(kernel! {
            /// See the module; the name tells the stored type and a block's rows.
            pub $NAME = $entry(QMatMul), lanes: LANES, geometry: |a| geometry::<$stored>(64 * $groups, a),
            body: broad::<_, $stored, $groups, { 8 * $groups }, { 4 * $groups }>, streams: weights
        })*)*

        /// The kernel for weights stored so, so many rows of them and so many tokens, if there is one that is the fastest.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(stored: Stored, rows: usize, tokens: usize) -> Option<Chosen> {
            let kernels: &[(usize, &'static cuda_std::Kernel<QMatMul>)] = match stored {
                $(Stored::$stored => &[$((64 * $groups, &$NAME)),*],)*
                _ => return None,
            };
            if tokens <= TOKENS / 2 {
                return None;
            }
            // With fewer blocks than most of the multiprocessors, other kernels have more of these at work.
            let blocks = |of_block: usize| rows / of_block * tokens.div_ceil(TOKENS);
            let fits =
                |of_block: usize| rows.is_multiple_of(of_block) && blocks(of_block) >= MULTIPROCESSORS * 3 / 5;
            // What the multiprocessor takes that has the most to do.
            let time = |of_block: usize| blocks(of_block).div_ceil(MULTIPROCESSORS) * (of_block + 32);
            let fitting = kernels.iter().filter(|(of_block, _)| fits(*of_block));
            let kernel = fitting.min_by_key(|(of_block, _)| time(*of_block))?.1;
            Some(Chosen { kernel, gates: true })
        }
    };
}

kernels! {
    Q4_K {
        Q4_K_R128 = broad__q4_k_128, 2;
        Q4_K_R256 = broad__q4_k_256, 4;
    }
    Q5_K {
        Q5_K_R128 = broad__q5_k_128, 2;
        Q5_K_R256 = broad__q5_k_256, 4;
    }
}
