//! The chunks of attention: how they join, and which rows meet them. What [`crate::flash`] and [`crate::prompt`] share.

use cuda_std::In;
use cuda_std::math::{divide, exp, max, mul_add};

use crate::flash::Flash;
use crate::kv::{PAGE, first_seen};

/// Tokens in a chunk.
pub const CHUNK: usize = 4 * PAGE;

/// How a chunk joins those before it.
#[derive(Clone, Copy)]
pub(crate) struct Merge {
    pub(crate) top: f32,
    pub(crate) total: f32,
    /// What the sums before are multiplied by.
    pub(crate) keep: f32,
    /// What the chunk's sums are multiplied by; zero where the row sees nothing of the chunk.
    pub(crate) add: f32,
}

impl Merge {
    pub(crate) const NONE: Self = Self { top: f32::NEG_INFINITY, total: 0.0, keep: 1.0, add: 0.0 };

    /// What stands before the first chunk.
    #[inline(always)]
    pub(crate) fn before(sinks: &In<f32>, head: usize) -> Self {
        if sinks.is_empty() { Self::NONE } else { Self { top: sinks.get(head), total: 1.0, ..Self::NONE } }
    }

    /// A chunk with this greatest score and sum of weights comes.
    #[inline(always)]
    pub(crate) fn chunk(self, chunk_top: f32, chunk_total: f32) -> Self {
        if chunk_top == f32::NEG_INFINITY {
            return Self { keep: 1.0, add: 0.0, ..self };
        }
        let top = max(self.top, chunk_top);
        let (keep, add) = (exp(self.top - top), exp(chunk_top - top));
        Self { top, total: mul_add(chunk_total, add, self.total * keep), keep, add }
    }

    /// The same, of a chunk whose factors are known.
    #[inline(always)]
    pub(crate) fn joined(self, keep: f32, add: f32, chunk_total: f32) -> Self {
        Self { total: mul_add(chunk_total, add, self.total * keep), keep, add, ..self }
    }

    /// The sums with the chunk's. A chunk that counts nothing leaves even the sign of a zero: how many of them a row meets
    /// depends on its tile.
    #[inline(always)]
    pub(crate) fn sum(self, sum: f32, chunk: f32) -> f32 {
        if self.add == 0.0 { sum * self.keep } else { mul_add(chunk, self.add, sum * self.keep) }
    }
}

/// Rows of one tile and one key head that a block works on, token after token, a token's heads side by side.
#[derive(Clone, Copy)]
pub(crate) struct Asking {
    /// The tile's first token, and its tokens.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// The first of the block's rows among the tile's.
    pub(crate) row0: usize,
    /// Query heads that share the key head.
    pub(crate) group: usize,
    pub(crate) kv_head: usize,
    /// Where the sequence's pages begin in the table.
    table: usize,
}

impl Asking {
    /// Of tile `index` the rows from `row0` on.
    #[inline(always)]
    pub(crate) fn new(a: &Flash, index: usize, row0: usize, kv_head: usize) -> Self {
        let first = a.tiles.get(2 * index) as usize;
        Self {
            first,
            count: a.tiles.get(2 * index + 1) as usize,
            row0,
            group: (a.heads / a.kv_heads) as usize,
            kv_head,
            table: a.sequences.get(first) as usize * a.table_width as usize,
        }
    }

    /// Whether there is such a row.
    #[inline(always)]
    pub(crate) fn exists(&self, row: usize) -> bool {
        self.row0 + row < self.count * self.group
    }

    /// The row's token.
    #[inline(always)]
    pub(crate) fn token(&self, row: usize) -> usize {
        self.first + divide(self.row0 + row, self.group).0
    }

    /// The row's query head.
    #[inline(always)]
    pub(crate) fn head(&self, row: usize) -> usize {
        self.kv_head * self.group + divide(self.row0 + row, self.group).1
    }

    /// The row's index in `[tokens, heads]`.
    #[inline(always)]
    pub(crate) fn output(&self, a: &Flash, row: usize) -> usize {
        let (token, head) = divide(self.row0 + row, self.group);
        (self.first + token) * a.heads as usize + self.kv_head * self.group + head
    }

    /// Tokens that the tile's last token sees.
    #[inline(always)]
    pub(crate) fn seen(&self, a: &Flash) -> usize {
        a.positions.get(self.first + self.count - 1) as usize + 1
    }

    /// Positions that the last of `count` of the block's rows from `row` on sees; none where there are no such rows.
    #[inline(always)]
    pub(crate) fn last_sees(&self, a: &Flash, row: usize, count: usize) -> usize {
        let rest = (self.count * self.group).saturating_sub(self.row0 + row);
        if rest == 0 { 0 } else { a.positions.get(self.token(row + rest.min(count) - 1)) as usize + 1 }
    }

    /// The first position that the tile's first token sees.
    #[inline(always)]
    pub(crate) fn first_seen(&self, a: &Flash) -> usize {
        first_seen(a.positions.get(self.first) as usize + 1, a.window as usize)
    }

    /// Where page `i`'s part for this head begins, in keys and values alike.
    #[inline(always)]
    pub(crate) fn page(&self, a: &Flash, i: usize) -> usize {
        self.begin(a, self.number(a, i))
    }

    /// The number of the sequence's page `i`.
    #[inline(always)]
    pub(crate) fn number(&self, a: &Flash, i: usize) -> u32 {
        a.page_table.get(self.table + i)
    }

    /// Where a page's part for this head begins.
    #[inline(always)]
    pub(crate) fn begin(&self, a: &Flash, number: u32) -> usize {
        (number as usize * a.kv_heads as usize + self.kv_head) * a.head_dim as usize * PAGE
    }
}
