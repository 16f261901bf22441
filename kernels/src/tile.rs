//! What a block of [`crate::streamed`] computes, and how what it copies lies in scratch memory.

use crate::format::{BLOCK, Format, SUPER_BLOCK};

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
    /// Whether four warps multiply together, see [`cuda_std::WarpGroup::multiply_group`].
    pub(crate) group: bool,
    /// Columns of a slice: the fewer tokens, the more is there room for.
    pub(crate) columns: usize,
    /// Whether zeros take the place of a warp's second eight rows.
    pub(crate) padded: bool,
}

impl Tile {
    /// Few tokens: what there is to do is to make weights of stored bytes.
    pub(crate) const FEW: Self = Self {
        warps: 4,
        eights: 1,
        part: 8,
        parts: 1,
        group: false,
        columns: 2 * SUPER_BLOCK,
        padded: false,
    };
    /// Few tokens and many rows: a step multiplies 16 of these.
    pub(crate) const FEW_WIDE: Self = Self { eights: 2, ..Self::FEW };
    /// The same, where two such blocks fit a multiprocessor and share the rows more evenly among these.
    pub(crate) const FEW_SEVEN: Self = Self { warps: 7, ..Self::FEW_WIDE };
    /// Of longer types.
    pub(crate) const FEW_SEVEN_LONG: Self = Self { columns: SUPER_BLOCK, ..Self::FEW_SEVEN };
    /// Up to 32 tokens and a matrix of few rows: as many blocks as can be.
    pub(crate) const MANY: Self =
        Self { warps: 4, eights: 1, part: 32, parts: 1, group: false, columns: SUPER_BLOCK, padded: false };
    /// Up to 32 tokens and many rows: what a block reads of `x` serves 128 of them, and what a warp reads of it 16.
    pub(crate) const MANY_WIDE: Self =
        Self { warps: 8, eights: 2, part: 32, parts: 1, group: false, columns: SUPER_BLOCK, padded: false };
    /// Up to 64 tokens and few rows.
    pub(crate) const MOST: Self =
        Self { warps: 8, eights: 1, part: 32, parts: 2, group: false, columns: SUPER_BLOCK, padded: false };
    /// Up to 64 tokens and many rows.
    pub(crate) const MOST_WIDE: Self =
        Self { warps: 8, eights: 2, part: 64, parts: 1, group: false, columns: SUPER_BLOCK, padded: false };

    /// Of warps that multiply together: for matrices of few rows, as many blocks as can be.
    pub(crate) const GROUP_32: Self =
        Self { warps: 4, eights: 2, part: 32, parts: 1, group: true, columns: SUPER_BLOCK, padded: false };
    pub(crate) const GROUP_64: Self = Self { part: 64, ..Self::GROUP_32 };
    /// Twice the blocks, for few tokens, all of which each of them reads.
    pub(crate) const GROUP_32_HALF: Self = Self { padded: true, ..Self::GROUP_32 };
    /// For many rows. Of 32 tokens a multiprocessor has room for two blocks.
    pub(crate) const GROUP_32_WIDE: Self = Self { warps: 8, ..Self::GROUP_32 };
    pub(crate) const GROUP_64_WIDE: Self = Self { part: 64, ..Self::GROUP_32_WIDE };
    pub(crate) const GROUP_128_WIDE: Self = Self { part: 128, ..Self::GROUP_32_WIDE };

    /// The fastest of those for a matrix of so many rows and so many tokens.
    #[cfg(not(target_arch = "nvptx64"))]
    pub(crate) fn of_group(rows: usize, tokens: usize) -> Self {
        match (tokens, rows >= WIDE) {
            (..=32, false) => Self::GROUP_32_HALF,
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
    pub(crate) fn of<F: Format>(rows: usize, tokens: usize) -> Self {
        let long = 4 * Self::FEW_SEVEN.slice::<F>(8) > MOST_SCRATCH;
        let seven = if long { Self::FEW_SEVEN_LONG } else { Self::FEW_SEVEN };
        let evenly = seven.most_rows(rows) < Self::FEW_WIDE.most_rows(rows);
        match (tokens, rows >= WIDE) {
            // One token is multiplied faster than longer types come with so few blocks on a multiprocessor, or than super-blocks of these
            // are made weights of.
            (1, true) if long && (F::VALUES > BLOCK || !evenly) => Self::FEW,
            (..=8, false) => Self::FEW,
            (..=8, true) if evenly => seven,
            (..=8, true) => Self::FEW_WIDE,
            (..=32, false) => Self::MANY,
            (..=32, true) => Self::MANY_WIDE,
            (_, false) => Self::MOST,
            (_, true) => Self::MOST_WIDE,
        }
    }

    /// Whether its warps can have rows that are gates and those that these gate, eight each: where rows are many.
    pub(crate) const fn gates(self) -> bool {
        self.eights == 2 && !(self.group && self.warps == 4)
    }

    /// Rows that a multiprocessor has at most of a matrix of so many.
    #[cfg(not(target_arch = "nvptx64"))]
    fn most_rows(self, rows: usize) -> usize {
        rows.div_ceil(self.rows()).div_ceil(MULTIPROCESSORS) * self.rows()
    }

    /// Of a block.
    pub(crate) const fn tokens(self) -> usize {
        self.part * self.parts
    }

    /// Rows of weights of a warp.
    pub(crate) const fn of_warp(self) -> usize {
        if self.padded { 8 } else { self.eights * 8 }
    }

    /// Rows of weights of a block.
    pub(crate) const fn rows(self) -> usize {
        self.warps / self.parts * self.of_warp()
    }

    /// Sixteens of tokens that a warp owns.
    pub(crate) const fn sixteens(self) -> usize {
        self.part.div_ceil(16)
    }

    /// Tokens that there is room for where there are `count`: of few, fewer leave room for other blocks.
    pub(crate) const fn kept(self, count: usize) -> usize {
        if self.eights == 1 || self.part == 8 { count } else { self.tokens() }
    }

    /// Bytes of scratch memory of a slice.
    pub(crate) const fn slice<F: Format>(self, tokens: usize) -> usize {
        self.rows() * stride::<F>(self.columns) + 2 * self.cells(tokens)
    }

    /// Cells of a slice of `x`: where warps multiply together they are swizzled, see [`cuda_std::WarpGroup::multiply_group`].
    pub(crate) const fn cells(self, tokens: usize) -> usize {
        if self.group { tokens * self.columns } else { tokens * x_stride(self.columns) }
    }

    /// Slices in scratch memory: one that is multiplied, and others that come. Of two blocks two each are better than three of one.
    pub(crate) const fn stages<F: Format>(self) -> usize {
        let slice = self.slice::<F>(self.tokens());
        let wide = if self.group { self.warps > 4 } else { self.part == 8 && self.eights > 1 };
        if 3 * slice <= MOST_SCRATCH && !(wide && 4 * slice <= MOST_SCRATCH) { 3 } else { 2 }
    }

    /// Rows that a warp copies, whoever owns them.
    pub(crate) const fn copied(self) -> usize {
        self.rows() / self.warps
    }

    /// Bytes of scratch memory of a kernel for tokens of which there are `count`.
    pub(crate) const fn scratch<F: Format>(self, count: usize) -> usize {
        let aligned = if self.group { 1024 } else { 0 };
        aligned + self.stages::<F>() * self.slice::<F>(self.kept(count)) + 2 * self.columns
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
            { Tile::$tile.columns },
            { Tile::$tile.padded },
        >
    };
}
pub(crate) use tiled;

/// Multiprocessors of the GPU that tiles are made for.
#[cfg(not(target_arch = "nvptx64"))]
pub(crate) const MULTIPROCESSORS: usize = 132;
/// Rows from which on a matrix has [`Tile`]s of many rows.
#[cfg(not(target_arch = "nvptx64"))]
pub(crate) const WIDE: usize = 64 * Tile::MANY_WIDE.rows();
/// Bytes of scratch memory that slices may take of a GPU that has the most.
const MOST_SCRATCH: usize = 220 << 10;
/// Lanes that copy a row: what they ask for at once is a line of 128 bytes.
pub(crate) const SHARE: usize = 8;
/// Rows that a warp copies at once.
pub(crate) const AT_ONCE: usize = 32 / SHARE;

/// Units of 16 bytes that so many columns of a row lie in, wherever in a unit they begin.
#[inline(always)]
pub(crate) const fn units<F: Format>(columns: usize) -> usize {
    let bytes = columns / F::VALUES * F::BYTES;
    // A row begins at a multiple of the greatest power of two that divides a block.
    let step = 1usize << F::BYTES.trailing_zeros();
    (16usize.saturating_sub(step) + bytes).div_ceil(16)
}

/// Bytes that the L2 cache is asked for at once: what lies in two lines is two requests.
pub(crate) const LINE: u32 = 128;

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
pub(crate) fn in_lines<F: Format>(columns: usize, k: usize) -> bool {
    lines::<F>(columns) > 0 && (F::row_bytes(k) as u32).is_multiple_of(LINE)
}

/// Times [`SHARE`] units that a slice of a row is copied in: lines, or so much from wherever it begins.
pub(crate) const fn parts<F: Format>(columns: usize) -> usize {
    let (lines, least) = (lines::<F>(columns), units::<F>(columns).div_ceil(SHARE));
    if lines > least { lines } else { least }
}

/// Bytes of scratch memory from one row of a slice to the next: an odd number of units, against bank conflicts.
#[inline(always)]
pub(crate) const fn stride<F: Format>(columns: usize) -> usize {
    (units::<F>(columns) | 1) * 16
}

/// Cells of `x` from one token of a slice to the next: not a multiple of 128 bytes, against bank conflicts.
#[inline(always)]
pub(crate) const fn x_stride(columns: usize) -> usize {
    columns + 8
}
