//! The product of stored weights with few rows on the tensor core, as a block computes it: what [`crate::qmatmul`] and
//! [`crate::expert_matmul`] share.
//!
//! A value is dequantised in f32 and rounded to the type of `x`. The order of a sum is that of [`crate::matmul`].
//!
//! The stored bytes of the next slices of columns come by 16-byte asynchronous copies, and with them those of `x`; the warps of a
//! block share both, see [`Tile`]. A lane dequantises the values that the tensor core wants of it, two neighbours at a time,
//! straight into its registers ([`Warp::multiply_rows`]).

use core::marker::PhantomData;

use cuda_std::{Block, In, Meanwhile, MmaInput, Scratch, Team, Warp, unrolled};

use crate::format::{BLOCK, Format, SUPER_BLOCK, Staged};

/// What a block computes, and how its warps share that.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Tile {
    /// Warps of a block.
    pub(crate) warps: usize,
    /// Times 8 rows of weights that a warp owns.
    pub(crate) eights: usize,
    /// Tokens that a warp owns.
    pub(crate) part: usize,
    /// Warps that own the same rows, and different tokens.
    pub(crate) parts: usize,
    /// Whether four warps multiply together, see [`Warp::multiply_group`].
    pub(crate) group: bool,
}

impl Tile {
    /// Few tokens: what there is to do is to make weights of stored bytes.
    pub(crate) const FEW: Self = Self { warps: 4, eights: 1, part: 8, parts: 1, group: false };
    /// Up to 32 tokens and a matrix of few rows: as many blocks as can be.
    pub(crate) const MANY: Self = Self { warps: 4, eights: 1, part: 32, parts: 1, group: false };
    /// Up to 32 tokens and many rows: what a block reads of `x` serves 128 of them, and what a warp reads of it 16.
    pub(crate) const MANY_WIDE: Self = Self { warps: 8, eights: 2, part: 32, parts: 1, group: false };
    /// Up to 64 tokens and few rows.
    pub(crate) const MOST: Self = Self { warps: 8, eights: 1, part: 32, parts: 2, group: false };
    /// Up to 64 tokens and many rows.
    pub(crate) const MOST_WIDE: Self = Self { warps: 8, eights: 2, part: 64, parts: 1, group: false };

    /// Of warps that multiply together: for matrices of few rows, as many blocks as can be.
    pub(crate) const GROUP_32: Self = Self { warps: 4, eights: 2, part: 32, parts: 1, group: true };
    pub(crate) const GROUP_64: Self = Self { part: 64, ..Self::GROUP_32 };
    /// For many rows. Of 32 tokens a multiprocessor has room for two blocks.
    pub(crate) const GROUP_32_WIDE: Self = Self { warps: 8, ..Self::GROUP_32 };
    pub(crate) const GROUP_64_WIDE: Self = Self { part: 64, ..Self::GROUP_32_WIDE };
    pub(crate) const GROUP_128_WIDE: Self = Self { part: 128, ..Self::GROUP_32_WIDE };

    /// The fastest of those for a matrix of so many rows and so many tokens.
    #[cfg(not(target_arch = "nvptx64"))]
    pub(crate) fn of_group(rows: usize, tokens: usize) -> Self {
        match (tokens, rows >= WIDE) {
            (..=64, false) => Self::GROUP_32,
            (_, false) => Self::GROUP_64,
            (..=32, true) => Self::GROUP_32_WIDE,
            (..=64, true) => Self::GROUP_64_WIDE,
            (_, true) => Self::GROUP_128_WIDE,
        }
    }

    /// The fastest for a matrix of so many rows and so many tokens, on a GPU of 132 multiprocessors: blocks of many rows pay from
    /// where half of these have one.
    #[cfg(not(target_arch = "nvptx64"))]
    pub(crate) fn of(rows: usize, tokens: usize) -> Self {
        match (tokens, rows >= WIDE) {
            (..=8, _) => Self::FEW,
            (..=32, false) => Self::MANY,
            (..=32, true) => Self::MANY_WIDE,
            (_, false) => Self::MOST,
            (_, true) => Self::MOST_WIDE,
        }
    }

    /// Of a block.
    pub(crate) const fn tokens(self) -> usize {
        self.part * self.parts
    }

    /// Rows of weights of a block.
    pub(crate) const fn rows(self) -> usize {
        self.warps / self.parts * self.eights * 8
    }

    /// Sixteens of tokens that a warp owns.
    pub(crate) const fn sixteens(self) -> usize {
        self.part.div_ceil(16)
    }

    /// Columns of a slice: the fewer tokens, the more is there room for.
    const fn columns(self) -> usize {
        if self.tokens() <= 8 { 2 * SUPER_BLOCK } else { SUPER_BLOCK }
    }

    /// Tokens that there is room for where there are `count`: of few, fewer leave room for other blocks.
    const fn kept(self, count: usize) -> usize {
        if self.eights == 1 { count } else { self.tokens() }
    }

    /// Bytes of scratch memory of a slice.
    const fn slice<F: Format>(self, tokens: usize) -> usize {
        self.rows() * stride::<F>(self.columns()) + 2 * self.cells(tokens)
    }

    /// Cells of a slice of `x`: where warps multiply together they are swizzled, see [`Warp::multiply_group`].
    const fn cells(self, tokens: usize) -> usize {
        if self.group { tokens * self.columns() } else { tokens * x_stride(self.columns()) }
    }

    /// Slices in scratch memory: one that is multiplied, and others that come. Of two blocks two each are better than three of one.
    const fn stages<F: Format>(self) -> usize {
        let slice = self.slice::<F>(self.tokens());
        let alone = self.group && self.warps > 4 && 4 * slice <= MOST_SCRATCH;
        if 3 * slice <= MOST_SCRATCH && !alone { 3 } else { 2 }
    }

    /// Rows that a warp copies, whoever owns them.
    const fn copied(self) -> usize {
        self.rows() / self.warps
    }

    /// Bytes of scratch memory of a kernel for tokens of which there are `count`.
    pub(crate) const fn scratch<F: Format>(self, count: usize) -> usize {
        let aligned = if self.group { 1024 } else { 0 };
        aligned + self.stages::<F>() * self.slice::<F>(self.kept(count)) + 2 * self.columns()
    }
}

/// A kernel's body for weights of a format, inputs of a type, and a [`Tile`] by its name.
macro_rules! tiled {
    ($body:ident, $format:ident, $input:ident, $tile:ident) => {
        $body::<
            _,
            $format,
            $input,
            { Tile::$tile.warps },
            { Tile::$tile.eights },
            { Tile::$tile.part },
            { Tile::$tile.sixteens() },
            { Tile::$tile.parts },
            { Tile::$tile.group },
        >
    };
}
pub(crate) use tiled;

/// Rows from which on a matrix has [`Tile`]s of many rows.
#[cfg(not(target_arch = "nvptx64"))]
pub(crate) const WIDE: usize = 64 * Tile::MANY_WIDE.rows();
/// Bytes of scratch memory that slices may take of a GPU that has the most.
const MOST_SCRATCH: usize = 220 << 10;
/// Lanes that copy a row: what they ask for at once is a line of 128 bytes.
const SHARE: usize = 8;
/// Rows that a warp copies at once.
const AT_ONCE: usize = 32 / SHARE;

/// Units of 16 bytes that so many columns of a row lie in, wherever in a unit they begin.
#[inline(always)]
const fn units<F: Format>(columns: usize) -> usize {
    let bytes = columns / F::VALUES * F::BYTES;
    // A row begins at a multiple of the greatest power of two that divides a block.
    let step = 1usize << F::BYTES.trailing_zeros();
    (16usize.saturating_sub(step) + bytes).div_ceil(16)
}

/// Bytes that the L2 cache is asked for at once: what lies in two lines is two requests.
const LINE: u32 = 128;

/// The greatest power of two at whose multiples slices of a row begin, of a row that begins at one.
const fn step<F: Format>(columns: usize) -> usize {
    1 << (columns / F::VALUES * F::BYTES).trailing_zeros()
}

/// Lines that a slice of a row lies in at most, of rows that begin at one; 0 of types whose rows are not copied line by line. Super-blocks
/// are not: it was no faster, and slower where it makes more copies.
const fn lines<F: Format>(columns: usize) -> usize {
    let (line, bytes, step) = (LINE as usize, columns / F::VALUES * F::BYTES, step::<F>(columns));
    if F::VALUES > BLOCK || step < 16 {
        return 0;
    }
    (bytes + line.saturating_sub(step)).div_ceil(line)
}

/// Whether rows of `k` columns are copied line by line, so that a request is for one line.
#[inline(always)]
fn in_lines<F: Format>(columns: usize, k: usize) -> bool {
    lines::<F>(columns) > 0 && (F::row_bytes(k) as u32).is_multiple_of(LINE)
}

/// Times [`SHARE`] units that a slice of a row is copied in: lines, or so much from wherever it begins.
const fn parts<F: Format>(columns: usize) -> usize {
    let (lines, least) = (lines::<F>(columns), units::<F>(columns).div_ceil(SHARE));
    if lines > least { lines } else { least }
}

/// Bytes of scratch memory from one row of a slice to the next: an odd number of units, against bank conflicts.
#[inline(always)]
const fn stride<F: Format>(columns: usize) -> usize {
    (units::<F>(columns) | 1) * 16
}

/// Cells of `x` from one token of a slice to the next: not a multiple of 128 bytes, against bank conflicts.
#[inline(always)]
const fn x_stride(columns: usize) -> usize {
    columns + 8
}

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
}

/// A tile that is known when the kernel is compiled.
trait Tiled {
    const TILE: Tile;
    const COLUMNS: usize = Self::TILE.columns();
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
    /// Tokens that a block copies at once.
    const TOKENS_AT_ONCE: usize = Self::TILE.warps * 32 * 8 / Self::COLUMNS;
}

struct Known<
    const WARPS: usize,
    const EIGHTS: usize,
    const PART: usize,
    const PARTS: usize,
    const GROUP: bool,
>;

impl<const WARPS: usize, const EIGHTS: usize, const PART: usize, const PARTS: usize, const GROUP: bool> Tiled
    for Known<WARPS, EIGHTS, PART, PARTS, GROUP>
{
    const TILE: Tile = Tile { warps: WARPS, eights: EIGHTS, part: PART, parts: PARTS, group: GROUP };
}

/// Where a slice's copies go, and where the rows come from. A GPU computes in 32 bits at half the price.
struct Slices<'a, F, L, W, X, R> {
    a: Operands,
    kind: PhantomData<(F, L)>,
    /// Whether rows are copied line by line, see [`parts`].
    in_lines: bool,
    /// A block's first row.
    row0: u32,
    weights: W,
    inputs: X,
    row_of: &'a R,
}

impl<F: Format, L: Tiled, W: Scratch<u8>, X: Scratch<u16>, R: Fn(usize, usize) -> usize>
    Slices<'_, F, L, W, X, R>
{
    /// Units of a row of a slice that are copied one after the other.
    const PARTS: usize = parts::<F>(L::COLUMNS);
    /// Copies of a warp's share of a slice's weights, and of the tokens.
    const WEIGHTS: usize = L::TURNS * Self::PARTS;
    const INPUTS: usize = L::TOKENS.div_ceil(L::TOKENS_AT_ONCE);

    /// Where a row's part of a slice begins among the stored bytes. Past the last row it is read again, and its sums are not
    /// stored.
    #[inline(always)]
    fn begin(&self, row: u32, slice: u32) -> u64 {
        let Operands { k, first, n, .. } = self.a;
        let row = first as u32 + (self.row0 + row).min(n as u32 - 1);
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
            let column = (whole_lane % (L::COLUMNS / 8) * 8) as u32;
            let token = (whole_lane / (L::COLUMNS / 8) + number * L::TOKENS_AT_ONCE) as u32;
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
        let (weights, inputs) = (Slices::<F, L, W, X, R>::WEIGHTS, Slices::<F, L, W, X, R>::INPUTS);
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
            if first > 0 {
                return;
            }
            unrolled::<16>(|j| {
                let number = i + j * WRITTEN;
                if number < weights {
                    slices.copy_weights(warp, slice, (number / L::TURNS, number % L::TURNS));
                }
                if number < inputs {
                    slices.copy_inputs(warp, slice, number);
                }
            });
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
/// warp's tokens says. Token `t` multiplies row `row_of(lane, t)` of `x`; `put(t, row, sum)` gets the sums.
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
>(
    block: &B,
    a: Operands,
    row_of: impl Fn(usize, usize) -> usize,
    put: impl Fn(usize, usize, f32),
) {
    let Operands { k, n, count, .. } = a;
    let columns = <Known<WARPS, EIGHTS, PART, PARTS, GROUP> as Tiled>::COLUMNS;
    let rows = <Known<WARPS, EIGHTS, PART, PARTS, GROUP> as Tiled>::ROWS;
    let stages = <Known<WARPS, EIGHTS, PART, PARTS, GROUP> as Tiled>::TILE.stages::<F>();
    let row0 = block.x() * rows;
    // Tokens that there are not are zeros: one row that is read in their place, or rows of their own.
    let kept = <Known<WARPS, EIGHTS, PART, PARTS, GROUP> as Tiled>::kept(count);
    let cells = <Known<WARPS, EIGHTS, PART, PARTS, GROUP> as Tiled>::cells(count);
    let cell = <Known<WARPS, EIGHTS, PART, PARTS, GROUP> as Tiled>::cell;
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

    let slices = Slices::<F, Known<WARPS, EIGHTS, PART, PARTS, GROUP>, _, _, _> {
        a,
        kind: PhantomData,
        in_lines: in_lines::<F>(columns, k),
        row0: row0 as u32,
        weights,
        inputs,
        row_of: &row_of,
    };
    // No kernel writes weights.
    for stage in 0..stages as u32 - 1 {
        block.warps(|index, warp| {
            for turn in 0..<Known<WARPS, EIGHTS, PART, PARTS, GROUP> as Tiled>::TURNS {
                for part in 0..parts::<F>(columns) {
                    slices.copy_weights((index, warp), (stage, stage), (part, turn));
                }
            }
        });
    }
    block.await_predecessors();
    for stage in 0..stages as u32 - 1 {
        block.warps(|index, warp| {
            let at_once = <Known<WARPS, EIGHTS, PART, PARTS, GROUP> as Tiled>::TOKENS_AT_ONCE;
            for number in 0..(PART * PARTS).div_ceil(at_once) {
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
            let (first_row, first_token) = (index / PARTS * EIGHTS * 8, index % PARTS * PART);
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
                ($multiply:ident, $written:literal) => {{
                    let next = Pieces::<_, F, _, _, _, _, $written> {
                        slices: &slices,
                        warp: (index, warp),
                        slice: (slice + stages as u32 - 1, free),
                    };
                    warp.$multiply::<I, PART, EIGHTS, $written, SIXTEENS, _, _, _>(
                        blocks,
                        F::TOGETHER,
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
                multiply!(multiply_group, 8);
            } else if GROUP {
                multiply!(multiply_group, 4);
            } else if EIGHTS == 1 && PART == 8 && !F::LONG {
                multiply!(multiply_rows, 16);
            } else if EIGHTS == 1 {
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
    block.warps(|index, warp| {
        let (first_row, first_token) = (index / PARTS * EIGHTS * 8, index % PARTS * PART);
        warp.each_sum::<PART, EIGHTS, SIXTEENS>(&sums[index], |token, row, sum| {
            let (token, row) = (first_token + token, row0 + first_row + row);
            if token < count && row < n {
                put(token, row, sum);
            }
        });
    });
}
