//! The product of stored weights with few rows on the tensor core, as a block computes it: what [`crate::qmatmul`] and
//! [`crate::expert_matmul`] share.
//!
//! A value is dequantised into the type of `x` ([`Format::rounded`]). The order of a sum is that of [`crate::matmul`].
//!
//! The stored bytes of the next slices of columns come by 16-byte asynchronous copies, and with them those of `x`; the warps of a
//! block share both, see [`Tile`]. A lane dequantises the values that the tensor core wants of it, two neighbours at a time,
//! straight into its registers ([`Warp::multiply_rows`]).

use core::marker::PhantomData;

use cuda_std::{Block, In, Meanwhile, MmaInput, Scratch, Team, Warp, WarpGroup, unrolled};

use crate::format::{BLOCK, Format, Staged};
use crate::tile::{AT_ONCE, LINE, SHARE, Tile, in_lines, parts, stride, units, x_stride};

/// What a block multiplies.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    /// Stored rows of `k` columns; and what fills the last 16 bytes up, whatever it is.
    pub(crate) w: In<u8>,
    /// Rows of `k` columns, f16 or bf16 as bits.
    pub(crate) x: In<u16>,
    /// Columns: whole blocks or super-blocks.
    pub(crate) k: usize,
    /// The first of the matrix's rows in `w`, and their number.
    pub(crate) first: usize,
    pub(crate) n: usize,
    /// Tokens: `TOKENS` at most.
    pub(crate) count: usize,
    /// Whether the first half of the rows are gates, and the others what they gate.
    pub(crate) gates: bool,
}

/// A tile that is known when the kernel is compiled.
trait Tiled {
    const TILE: Tile;
    const COLUMNS: usize = Self::TILE.columns;
    const ROWS: usize = Self::TILE.rows();
    const TOKENS: usize = Self::TILE.tokens();
    /// Tokens that there is room for where there are `count`: of few, fewer leave room for other blocks.
    #[inline(always)]
    fn kept(count: usize) -> usize {
        Self::TILE.kept(count)
    }
    /// Cells of a slice of `count` tokens, and where in it a token's column is.
    #[inline(always)]
    fn cells(count: usize) -> usize {
        Self::TILE.cells(Self::kept(count))
    }
    #[inline(always)]
    fn cell(token: u32, column: u32) -> u32 {
        if Self::TILE.group {
            let (part, octet) = (column / 64, (column / 8 % 8) ^ (token % 8));
            (part * Self::TOKENS as u32 + token) * 64 + octet * 8 + column % 8
        } else {
            token * x_stride(Self::COLUMNS) as u32 + column
        }
    }
    /// Turns in which a warp copies its rows.
    const TURNS: usize = Self::TILE.copied() / AT_ONCE;
    /// Octets of columns of a token, and those of all tokens that a block copies at once.
    const OCTETS: usize = Self::COLUMNS / 8;
    const OCTETS_AT_ONCE: usize = Self::TILE.warps * 32;
    /// Copies of a lane of a slice's tokens.
    const INPUTS: usize = (Self::TOKENS * Self::OCTETS).div_ceil(Self::OCTETS_AT_ONCE);
}

struct Known<
    const WARPS: usize,
    const EIGHTS: usize,
    const PART: usize,
    const PARTS: usize,
    const GROUP: bool,
    const COLUMNS: usize,
    const PADDED: bool,
>;

impl<
    const WARPS: usize,
    const EIGHTS: usize,
    const PART: usize,
    const PARTS: usize,
    const GROUP: bool,
    const COLUMNS: usize,
    const PADDED: bool,
> Tiled for Known<WARPS, EIGHTS, PART, PARTS, GROUP, COLUMNS, PADDED>
{
    const TILE: Tile = Tile {
        warps: WARPS,
        eights: EIGHTS,
        part: PART,
        parts: PARTS,
        group: GROUP,
        columns: COLUMNS,
        padded: PADDED,
    };
}

/// Where a slice's copies go, and where the rows come from. A GPU computes in 32 bits at half the price.
struct Slices<'a, F, L, W, X, R> {
    a: Operands,
    kind: PhantomData<(F, L)>,
    /// Whether rows are copied line by line, see [`parts`].
    in_lines: bool,
    /// A block's first row; of gates, if it has some.
    row0: u32,
    /// From a warp's first row to the next one's.
    step: u32,
    /// From a row to that of the warp's second eight; and the last row of the first ones.
    across: u32,
    last: u32,
    weights: W,
    inputs: X,
    row_of: &'a R,
}

impl<F: Format, L: Tiled, W: Scratch<u8>, X: Scratch<u16>, R: Fn(usize, usize) -> usize>
    Slices<'_, F, L, W, X, R>
{
    /// Units of a row of a slice that are copied one after the other.
    const PARTS: usize = parts::<F>(L::COLUMNS);

    /// The matrix's row that is a block's row. Past the last one that is read again, and its sums are not stored.
    #[inline(always)]
    fn row(&self, row: u32) -> u32 {
        let last = self.a.n as u32 - 1;
        if !L::TILE.gates() {
            return (self.row0 + row).min(last);
        }
        let own = self.row0 + row / 16 * self.step + row % 8;
        if (row / 8).is_multiple_of(2) { own.min(self.last) } else { (own + self.across).min(last) }
    }

    /// Where a row's part of a slice begins among the stored bytes.
    #[inline(always)]
    fn begin(&self, row: u32, slice: u32) -> u64 {
        let Operands { k, first, .. } = self.a;
        let row = first as u32 + self.row(row);
        row as u64 * F::row_bytes(k) as u32 as u64 + (slice * F::row_bytes(L::COLUMNS) as u32) as u64
    }

    /// Begins to copy part `part` of the rows that a warp copies in turn `turn`; nothing of a slice that there is not.
    #[inline(always)]
    fn copy_weights<T: Team>(
        &self,
        (index, warp): (usize, &T),
        (slice, stage): (u32, u32),
        (part, turn): (usize, usize),
    ) {
        let Operands { w, k, .. } = self.a;
        warp.lanes(|lane| {
            let first = index * L::TURNS * AT_ONCE + lane / SHARE;
            let from = self.begin((first + turn * AT_ONCE) as u32, slice);
            // Bytes of the row from the unit on in which it begins; and those before it in its line.
            let ends = F::row_bytes(k) as u32 + from as u32 % 16;
            let left = ends.saturating_sub(slice * F::row_bytes(L::COLUMNS) as u32);
            let before = if self.in_lines { slice * F::row_bytes(L::COLUMNS) as u32 % LINE } else { 0 };
            let (lane_byte, part_byte) = (lane % SHARE * 16, part * SHARE * 16);
            let byte = (lane_byte as u32).wrapping_sub(before).wrapping_add(part_byte as u32);
            if byte < left.min(16 * units::<F>(L::COLUMNS) as u32) {
                let stride = stride::<F>(L::COLUMNS);
                let row = (stage as usize * L::ROWS + first + turn * AT_ONCE) * stride;
                let to = row + lane_byte + part_byte - before as usize;
                let from = (from & !15) as usize + lane_byte + part_byte - before as usize;
                self.weights.copy_async(index * 32 + lane, to, &w, from, true);
            }
        });
    }

    /// Begins to copy a warp's share of some tokens, or none.
    #[inline(always)]
    fn copy_inputs<T: Team>(&self, (index, warp): (usize, &T), (slice, stage): (u32, u32), number: usize) {
        let Operands { x, k, count, .. } = self.a;
        warp.lanes(|lane| {
            let whole_lane = index * 32 + lane;
            let octet = whole_lane + number * L::OCTETS_AT_ONCE;
            let (token, column) = ((octet / L::OCTETS) as u32, (octet % L::OCTETS * 8) as u32);
            let first_column = slice * L::COLUMNS as u32;
            if token < count as u32 && first_column + column < k as u32 {
                let to = stage * L::cells(count) as u32 + L::cell(token, column);
                let row = (self.row_of)(whole_lane, token as usize) as u32;
                let from = row as u64 * k as u32 as u64 + (first_column + column) as u64;
                self.inputs.copy_async(whole_lane, to as usize, &x, from as usize, true);
            }
        });
    }
}

/// A warp's copies of a slice.
struct Pieces<'a, T, F, L, W, X, R, const WRITTEN: usize> {
    slices: &'a Slices<'a, F, L, W, X, R>,
    warp: (usize, &'a T),
    /// And its place.
    slice: (u32, u32),
}

impl<T: Team, F: Format, L, W, X, R, const WRITTEN: usize> Meanwhile for Pieces<'_, T, F, L, W, X, R, WRITTEN>
where
    L: Tiled,
    W: Scratch<u8>,
    X: Scratch<u16>,
    R: Fn(usize, usize) -> usize,
{
    // With all blocks of a slice written out, each has its pieces. Else a group of blocks has a turn of the weights, then some tokens,
    // so that all but the turn is known when the kernel is compiled.
    #[inline(always)]
    fn run(&self, first: usize, i: usize) {
        let Self { slices, warp, slice } = *self;
        let inputs = L::INPUTS;
        if L::TILE.group && WRITTEN >= 8 {
            // A row's pieces together: fewer addresses are kept.
            let rows = L::TURNS;
            if first == 0 && i < rows {
                unrolled::<8>(|part| {
                    if part < Slices::<F, L, W, X, R>::PARTS {
                        slices.copy_weights(warp, slice, (part, i));
                    }
                });
            } else if first == 0 {
                unrolled::<8>(|j| {
                    let number = i - rows + j * (WRITTEN - rows);
                    if number < inputs {
                        slices.copy_inputs(warp, slice, number);
                    }
                });
            }
            return;
        }
        if WRITTEN >= 8 {
            // A row's pieces together: their addresses differ by constants. The next slice is asked for early, so that it is there when this
            // one ends; but of 16-bit weights, of which nothing is made, no step should wait for all copies.
            let every = WRITTEN / L::TURNS;
            let (turn, weights, tokens) = if F::BYTES >= 2 * F::VALUES {
                (i / every, i.is_multiple_of(every), i % every == every / 2)
            } else {
                (i % L::TURNS, i < L::TURNS, i / L::TURNS == 1)
            };
            if first == 0 && weights {
                unrolled::<8>(|part| {
                    if part < Slices::<F, L, W, X, R>::PARTS {
                        slices.copy_weights(warp, slice, (part, turn));
                    }
                });
            } else if first == 0 && tokens {
                unrolled::<16>(|j| {
                    let number = turn + j * L::TURNS;
                    if number < inputs {
                        slices.copy_inputs(warp, slice, number);
                    }
                });
            }
            return;
        }
        let groups = L::COLUMNS / BLOCK / WRITTEN;
        let group = first / WRITTEN;
        if i == 0 {
            unrolled::<16>(|j| {
                if j * groups < L::TURNS {
                    let turn = group + j * groups;
                    unrolled::<8>(|part| {
                        if part < Slices::<F, L, W, X, R>::PARTS && (L::TURNS >= groups || turn < L::TURNS) {
                            slices.copy_weights(warp, slice, (part, turn));
                        }
                    });
                }
            });
        } else if i == 1 {
            unrolled::<16>(|j| {
                if j * groups < inputs {
                    slices.copy_inputs(warp, slice, group + j * groups);
                }
            });
        }
    }
}

/// The block at `x` of the grid takes the rows from `x` times [`Tile::rows`] on, as the tile of these numbers and `SIXTEENS` of a
/// warp's tokens says. Token `t` multiplies row `row_of(lane, t)` of `x`; `put(t, row, sum)` gets the sums. If half of the rows are gates,
/// of which a tile has eight for every eight others, `put_gated((t, both), gate, gates, ups)` gets them and theirs in place of that: of token
/// `t`, and if there are `both`, of the next one.
///
/// Nothing is written before [`Block::await_predecessors`].
#[inline(always)]
pub(crate) fn multiply<
    B: Block,
    F: Format,
    I: MmaInput,
    const WARPS: usize,
    const EIGHTS: usize,
    const PART: usize,
    const SIXTEENS: usize,
    const PARTS: usize,
    const GROUP: bool,
    const COLUMNS: usize,
    const PADDED: bool,
>(
    block: &B,
    a: Operands,
    row_of: impl Fn(usize, usize) -> usize,
    put: impl Fn(usize, usize, f32),
    put_gated: impl Fn((usize, bool), usize, [f32; 2], [f32; 2]),
) {
    let Operands { k, n, count, .. } = a;
    let gates = <Known<WARPS, EIGHTS, PART, PARTS, GROUP, COLUMNS, PADDED> as Tiled>::TILE.gates() && a.gates;
    let columns = <Known<WARPS, EIGHTS, PART, PARTS, GROUP, COLUMNS, PADDED> as Tiled>::COLUMNS;
    let rows = <Known<WARPS, EIGHTS, PART, PARTS, GROUP, COLUMNS, PADDED> as Tiled>::ROWS;
    let stages = <Known<WARPS, EIGHTS, PART, PARTS, GROUP, COLUMNS, PADDED> as Tiled>::TILE.stages::<F>();
    let row0 = block.x() * if gates { rows / 2 } else { rows };
    // Tokens that there are not are zeros: one row that is read in their place, or rows of their own.
    let kept = <Known<WARPS, EIGHTS, PART, PARTS, GROUP, COLUMNS, PADDED> as Tiled>::kept(count);
    let cells = <Known<WARPS, EIGHTS, PART, PARTS, GROUP, COLUMNS, PADDED> as Tiled>::cells(count);
    let cell = <Known<WARPS, EIGHTS, PART, PARTS, GROUP, COLUMNS, PADDED> as Tiled>::cell;
    if GROUP {
        block.align();
    }
    let inputs = block.scratch::<u16>(stages * cells + columns);
    let weights = block.scratch::<u8>(stages * rows * stride::<F>(columns));
    let zeros = stages * cells;
    block.each(columns, |lane, i| inputs.set(lane, zeros + i, 0));
    for stage in 0..stages {
        block.each((kept - count) * columns, |lane, i| {
            let (token, column) = (count + i / columns, i % columns);
            inputs.set(lane, stage * cells + cell(token as u32, column as u32) as usize, 0);
        });
    }

    let slices = Slices::<F, Known<WARPS, EIGHTS, PART, PARTS, GROUP, COLUMNS, PADDED>, _, _, _> {
        a,
        kind: PhantomData,
        in_lines: in_lines::<F>(columns, k),
        row0: row0 as u32,
        step: if gates { 8 } else { 16 },
        across: if gates { n as u32 / 2 } else { 8 },
        last: if gates { n as u32 / 2 } else { n as u32 } - 1,
        weights,
        inputs,
        row_of: &row_of,
    };
    // No kernel writes weights.
    for stage in 0..stages as u32 - 1 {
        block.warps(|index, warp| {
            for turn in 0..<Known<WARPS, EIGHTS, PART, PARTS, GROUP, COLUMNS, PADDED> as Tiled>::TURNS {
                for part in 0..parts::<F>(columns) {
                    slices.copy_weights((index, warp), (stage, stage), (part, turn));
                }
            }
        });
    }
    block.await_predecessors();
    for stage in 0..stages as u32 - 1 {
        block.warps(|index, warp| {
            for number in 0..<Known<WARPS, EIGHTS, PART, PARTS, GROUP, COLUMNS, PADDED> as Tiled>::INPUTS {
                slices.copy_inputs((index, warp), (stage, stage), number);
            }
            warp.copies_commit();
        });
    }
    let mut sums = block.per_warp::<_, WARPS>(|_, warp| [[warp.no_sums(); SIXTEENS]; EIGHTS]);
    let (mut stage, mut free) = (0, stages as u32 - 1);
    // A GPU counts in 32 bits at half the price.
    for slice in 0..(k as u32).div_ceil(columns as u32) {
        block.warps(|_, warp| match stages {
            2 => warp.copies_wait::<0>(),
            _ => warp.copies_wait::<1>(),
        });
        if GROUP {
            block.warps(|_, warp| warp.show());
        }
        // The slice is there, of all warps; and all are done with the one before it, whose place is filled next.
        block.barrier();
        block.warps(|index, warp| {
            let (first_row, first_token) =
                (index / PARTS * if PADDED { 8 } else { EIGHTS * 8 }, index % PARTS * PART);
            let bytes = |row: usize, column: usize| Staged {
                bytes: weights,
                lane: index * 32 + row % 8 * 4 + column % 8 / 2,
            };
            let place = |b: usize, row: usize| {
                let at = first_row + row;
                let begin = slices.begin(at as u32, slice) as usize;
                F::place((stage as usize * rows + at) * stride::<F>(columns) + begin % 16, b)
            };
            let shared = |b: usize, row: usize| F::shared(&bytes(row, 0), place(b, row));
            let read = |b: usize, row: usize, column: usize| {
                F::read::<2>(&bytes(row, column), place(b, row), column)
            };
            let values = |b: usize, shared, raw, column: usize| {
                F::rounded::<I, B>(raw, F::place(0, b), shared, column)
            };
            let at = |b: usize, token: usize, octet: usize| {
                let token = first_token + token;
                let column = b * BLOCK + octet * 8;
                // Of few tokens a lane that has none reads the last one: an address that changes by constants, where a choice would be made
                // for each block. On the host zeros cost nothing.
                if cfg!(target_arch = "nvptx64") && PART == 8 {
                    let token = token.min(count - 1);
                    stage as usize * cells + token * x_stride(columns) + column
                } else if kept == PART * PARTS || token < count {
                    stage as usize * cells + cell(token as u32, column as u32) as usize
                } else {
                    zeros + column
                }
            };
            let blocks = (k as u32 - slice * columns as u32).min(columns as u32) as usize / BLOCK;
            let sums = &mut sums[index];
            macro_rules! multiply {
                ($multiply:ident, $written:literal $(, $padded:ident)?) => {{
                    let next = Pieces::<_, F, _, _, _, _, $written> {
                        slices: &slices,
                        warp: (index, warp),
                        slice: (slice + stages as u32 - 1, free),
                    };
                    warp.$multiply::<I, PART, EIGHTS, $written, SIXTEENS, $($padded,)? _, _, _>(
                        blocks,
                        [F::TOGETHER, F::READ_TOGETHER],
                        shared,
                        read,
                        values,
                        &inputs,
                        at,
                        &next,
                        sums,
                    )
                }};
            }
            // The more there is to do for a block, the fewer are written out: what is too long is not inlined.
            if GROUP && F::SHORT && PART <= 64 {
                multiply!(multiply_group, 8, PADDED);
            } else if GROUP {
                multiply!(multiply_group, 4, PADDED);
            } else if PART == 8 && COLUMNS == 16 * BLOCK && !F::LONG {
                multiply!(multiply_rows, 16);
            } else if EIGHTS == 1 || PART == 8 && COLUMNS == 8 * BLOCK {
                multiply!(multiply_rows, 8);
            } else {
                multiply!(multiply_rows, 2);
            }
            warp.copies_commit();
        });
        free = stage;
        stage = if stage + 1 < stages as u32 { stage + 1 } else { 0 };
    }
    block.launch_successor();
    block.warps(
        #[inline(always)]
        |index, warp| {
            let (first_row, first_token) =
                (index / PARTS * if PADDED { 8 } else { EIGHTS * 8 }, index % PARTS * PART);
            if gates {
                warp.each_two::<PART, EIGHTS, SIXTEENS>(
                    &sums[index],
                    #[inline(always)]
                    |token, row, gates, ups| {
                        let row = row0 + index * 8 + row;
                        if token < count && row < n / 2 {
                            put_gated((token, token + 1 < count), row, gates, ups);
                        }
                    },
                );
                return;
            }
            warp.each_sum::<PART, EIGHTS, SIXTEENS>(&sums[index], |token, row, sum| {
                // Rows of zeros have no sums.
                let exists = !PADDED || row < 8;
                let (token, row) = (first_token + token, row0 + first_row + row);
                if token < count && row < n && exists {
                    put(token, row, sum);
                }
            });
        },
    );
}
