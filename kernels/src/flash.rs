//! Paged causal attention with grouped queries and online softmax on the tensor core, `tc` numerics.
//!
//! `out[t, h] = sum over s <= position(t) of softmax(q[t, h] . k[s] / sqrt(d)) v[s]`; query head `h` reads key and value
//! head `h / (heads / kv_heads)`. Queries, keys, values and the softmax's weights are f16 or bf16, sums f32. A sliding
//! window and sinks are those of [`crate::attention`].
//!
//! A tensor-core step has 16 rows: the query heads that share a key head, for one token or for several neighbours of a
//! sequence, a *tile*. What a row computes does not depend on the other rows, so a token's bits are the same in a prompt
//! and alone. The order, which depends on nothing else: tokens come in chunks of [`CHUNK`]; within a chunk a score is a
//! chain of steps over the head's elements, the maximum is exact, lane `l` of 32 adds up the exponentials of tokens
//! `l, l + 32, ...`, then [`Team::sum`], and an output is a chain of steps over the tokens; chunks merge from the first
//! to the last in f32 (Milakov and Gimelshein 2018), a sink before the first. A token that a row may not see has the score
//! minus infinity; a value past the sequence's end, or before the window of all rows, is replaced by zero. Chunks before
//! that window are left out.
//!
//! [`WHOLE_F16`] walks all chunks in one block: prompts. [`CHUNK_F16`] takes a block for each chunk, so that a few rows
//! occupy the whole GPU, and [`crate::merge`] does with what they leave exactly what the other does in registers.
//!
//! Four warps: each has a page of the chunk's keys, then every fourth row of the softmax, then every fourth octet of the
//! output's elements. Bytes moved: `4 head_dim` for each token seen, tile and key head.

use cuda_std::math::{divide, exp_negative, max, sqrt};
use cuda_std::{
    Bf16, Block, F16, Geometry, In, MmaInput, Out, Scratch, Team, Warp, kernel, mapped, unrolled,
};

pub use crate::chunks::CHUNK;
use crate::chunks::{Asking, Merge};
use crate::kv::{Cached, PAGE};
use crate::rows::Rows;

/// A head's elements at most; they are a multiple of 16.
pub const MAX_HEAD_DIM: usize = PARTS * WARPS * 8;
/// Rows of a tensor-core step.
pub const ROWS: usize = 16;

const WARPS: usize = 4;
const LANES: usize = WARPS * 32;
/// Octets of the output's elements that a warp may own.
const PARTS: usize = 4;
/// Pages in a chunk.
const PAGES: usize = CHUNK / PAGE;
/// Steps over the values that are waited for at once.
const AHEAD: usize = 4;
/// Cells from one row to the next in scratch memory: not a multiple of 128 bytes, against bank conflicts.
const SCORES: usize = CHUNK + 4;
const WEIGHTS: usize = CHUNK + 8;

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Flash {
    /// `[tokens, heads, head_dim]`.
    pub q: In<u16>,
    /// Keys, see [`crate::kv`].
    pub key_pages: In<u16>,
    /// Values, see [`crate::kv`].
    pub value_pages: In<u16>,
    /// `[sequences, table_width]`: a sequence's pages in order.
    pub page_table: In<u32>,
    /// `[tokens]`: which sequence a token belongs to.
    pub sequences: In<u32>,
    /// `[tokens]`: its position there; it sees all up to itself.
    pub positions: In<u32>,
    /// `[heads]`: sinks, of [`WHOLE_F16`]; empty where there are none.
    pub sinks: In<f32>,
    /// `[tiles, 2]`: a tile's first token and how many it has, neighbours in one sequence, [`tile_tokens`] at most.
    pub tiles: In<u32>,
    /// `[tokens, heads * head_dim]`, of [`WHOLE_F16`]: as they are or rounded, never scaled.
    pub out: Rows,
    /// `[tokens, heads, chunks, head_dim]`, of [`CHUNK_F16`]: a chunk's weighted sums.
    pub partial: Out<f32>,
    /// `[tokens, heads, chunks, 2]`, of [`CHUNK_F16`]: a chunk's greatest score and the sum of its weights.
    pub partial_tops: Out<f32>,
    /// Tiles.
    pub count: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Elements of a head, a multiple of 16 up to [`MAX_HEAD_DIM`].
    pub head_dim: u32,
    /// Pages in a row of the table.
    pub table_width: u32,
    /// Chunks for which there are blocks, of [`CHUNK_F16`].
    pub chunks: u32,
    /// Positions that a token sees at most, itself among them; 0 for all.
    pub window: u32,
}

/// Tokens in a tile at most, where so many query heads share a key head.
pub fn tile_tokens(group: usize) -> usize {
    (ROWS / group).max(1)
}

/// Blocks for the rows of one tile.
#[inline(always)]
fn parts(group: usize) -> usize {
    group.div_ceil(ROWS)
}

fn scratch(a: &Flash) -> usize {
    2 * ROWS * query_stride(a.head_dim as usize) + 4 * ROWS * SCORES + 2 * ROWS * WEIGHTS + 2 * 4 * ROWS
}

#[inline(always)]
fn query_stride(head_dim: usize) -> usize {
    head_dim + 8
}

fn whole_geometry(a: &Flash) -> Geometry {
    let group = (a.heads / a.kv_heads) as usize;
    Geometry { grid: [a.count as usize * parts(group), a.kv_heads as usize], scratch: scratch(a) }
}

fn chunk_geometry(a: &Flash) -> Geometry {
    let Geometry { grid: [x, y], scratch } = whole_geometry(a);
    Geometry { grid: [x * a.chunks as usize, y], scratch }
}

/// A row of a tile.
#[derive(Clone, Copy)]
struct Row {
    there: bool,
    /// Positions that it sees up to its own; none where it is not there.
    seen: u32,
    /// Its index in `[tokens, heads]`.
    output: usize,
}

/// One value a warp: one of each row that a lane has elements of.
type PerRow<B, V> = <B as Block>::PerWarp<<<B as Block>::Warp as Warp>::Rows<V>, WARPS>;

/// Values of [`AHEAD`] steps.
type Values<B> = [[<<B as Block>::Warp as Warp>::B; PARTS]; AHEAD];

/// What one block works on: 16 rows at most, of one tile and one key head.
struct Tile<B: Block> {
    rows: Asking,
    /// What its last token sees, and the first position that its first does.
    seen: usize,
    first_seen: usize,
    own: PerRow<B, Row>,
    query: B::Scratch<u16>,
    scores: B::Scratch<f32>,
    weights: B::Scratch<u16>,
    /// By row: the chunk's greatest score and the sum of its weights.
    tops: B::Scratch<f32>,
    totals: B::Scratch<f32>,
}

/// Elements of a head: `DIM`, if they are known when the kernel is compiled.
#[inline(always)]
fn head_dim<const DIM: usize>(a: &Flash) -> usize {
    if DIM == 0 { a.head_dim as usize } else { DIM }
}

impl<B: Block> Tile<B> {
    /// Tile `index`'s rows, whose queries are on their way to scratch memory.
    #[inline(always)]
    fn new<const DIM: usize>(block: &B, a: &Flash, index: usize) -> Self {
        let (head_dim, group) = (head_dim::<DIM>(a), (a.heads / a.kv_heads) as usize);
        let (tile, part) = divide(index, parts(group));
        let rows = Asking::new(a, tile, part * ROWS, block.y());
        let tile = Self {
            rows,
            seen: rows.seen(a),
            first_seen: rows.first_seen(a),
            own: block.per_warp::<_, WARPS>(|_, warp| {
                let mut own = warp.rows(Row { there: false, seen: 0, output: 0 });
                warp.each_row(|_, row| {
                    if rows.exists(row) {
                        let seen = a.positions.get(rows.token(row)) + 1;
                        own[row] = Row { there: true, seen, output: rows.output(a, row) };
                    }
                });
                own
            }),
            query: block.scratch::<u16>(ROWS * query_stride(head_dim)),
            scores: block.scratch::<f32>(ROWS * SCORES),
            weights: block.scratch::<u16>(ROWS * WEIGHTS),
            tops: block.scratch::<f32>(ROWS),
            totals: block.scratch::<f32>(ROWS),
        };
        // An octet a copy; zeros for a row that is not there.
        let octets = head_dim / 8;
        block.each(ROWS * octets, |lane, i| {
            let (row, octet) = divide(i, octets);
            let there = tile.rows.exists(row);
            let from = if there { tile.rows.output(a, row) * head_dim + octet * 8 } else { 0 };
            tile.query.copy_async(lane, row * query_stride(head_dim) + octet * 8, &a.q, from, there);
        });
        block.warps(|_, warp| warp.copies_commit());
        tile
    }

    /// Tokens of the chunk from `from` on that rows see, `skip..len`.
    #[inline(always)]
    fn tokens(&self, from: usize) -> (usize, usize) {
        (self.first_seen.saturating_sub(from), CHUNK.min(self.seen - from))
    }

    /// Scores and weights of the chunk from token `from` on; afterwards all lanes see `weights`, `tops` and `totals`. The first
    /// values are read on the way.
    #[inline(always)]
    fn softmax<I: MmaInput + Cached, const DIM: usize>(
        &self,
        block: &B,
        a: &Flash,
        from: usize,
    ) -> B::PerWarp<Values<B>, WARPS> {
        let head_dim = head_dim::<DIM>(a);
        let steps = head_dim / 16;
        let scale = 1.0 / sqrt(head_dim as f32);
        let (skip, len) = self.tokens(from);
        let some = |index: usize| index * PAGE < len && skip < (index + 1) * PAGE;

        // Scores: a page a warp. The keys of all steps are waited for at once, and with them the queries.
        let keys = block.per_warp::<_, WARPS>(|index, warp| {
            let mut k = [[warp.fill_b(|_, _| [0, 0]); PAGE / 8]; MAX_HEAD_DIM / 16];
            if some(index) {
                let keys = self.rows.page(a, from / PAGE + index);
                unrolled::<{ MAX_HEAD_DIM / 16 }>(|step| {
                    if step < steps {
                        unrolled::<{ PAGE / 8 }>(|octet| {
                            k[step][octet] = warp.fill_b(|column, row| {
                                a.key_pages.pair(keys + I::key(octet * 8 + column, step * 16 + row, head_dim))
                            });
                        });
                    }
                });
            }
            k
        });
        block.warps(|_, warp| warp.copies_wait::<0>());
        block.barrier();
        let window = if a.window == 0 { u32::MAX } else { a.window };
        block.warps(|index, warp| {
            let mut scores = [warp.zero(); PAGE / 8];
            if some(index) {
                unrolled::<{ MAX_HEAD_DIM / 16 }>(|step| {
                    if step < steps {
                        let q = warp.load_a(&self.query, |row, octet| {
                            row * query_stride(head_dim) + step * 16 + octet * 8
                        });
                        unrolled::<{ PAGE / 8 }>(|octet| {
                            warp.mma::<I>(&q, &keys[index][step][octet], &mut scores[octet]);
                        });
                    }
                });
            }
            unrolled::<{ PAGE / 8 }>(|octet| {
                warp.each_c(&scores[octet], |lane, row, column, score| {
                    let s = index * PAGE + octet * 8 + column;
                    let (at, seen) = ((from + s) as u32, self.own[index][row].seen);
                    let sees = at < seen && seen - at <= window;
                    let score = if sees { score * scale } else { f32::NEG_INFINITY };
                    self.scores.set(index * 32 + lane, row * SCORES + s, score);
                });
            });
        });
        let values = block.per_warp::<_, WARPS>(|index, warp| {
            self.fetch::<I, DIM>(index, warp, a, from, skip / 16, len.div_ceil(16))
        });
        block.barrier();

        // Softmax: every fourth row is a warp's, a token of each page a lane's.
        block.warps(|index, warp| {
            for row in (index..ROWS).step_by(WARPS) {
                let (mut top, mut total) = (f32::NEG_INFINITY, 0.0);
                if self.rows.exists(row) {
                    let scores = |s: usize| self.scores.get(index * 32 + s % 32, row * SCORES + s);
                    let mut tops = warp.per_lane(f32::NEG_INFINITY);
                    warp.each_read::<PAGES, _>(CHUNK, scores, |lane, _, score| {
                        tops[lane] = max(tops[lane], score)
                    });
                    top = warp.max(&tops);
                    // Where it sees nothing all scores are minus infinity, and weights zeros.
                    let less = if top == f32::NEG_INFINITY { 0.0 } else { top };
                    let mut totals = warp.per_lane(0.0f32);
                    warp.each_read::<PAGES, _>(CHUNK, scores, |lane, s, score| {
                        let weight = exp_negative(score - less);
                        totals[lane] += weight;
                        self.weights.set(index * 32 + lane, row * WEIGHTS + s, I::bits(weight));
                    });
                    total = warp.sum(&totals);
                } else {
                    warp.each(CHUNK, |lane, s| self.weights.set(index * 32 + lane, row * WEIGHTS + s, 0));
                }
                warp.lanes(|lane| {
                    if lane == 0 {
                        self.tops.set(index * 32, row, top);
                        self.totals.set(index * 32, row, total);
                    }
                });
            }
        });
        block.barrier();
        values
    }

    /// Values of steps `first ..` of the chunk, of the elements that warp `index` owns; the last for those from `end` on.
    #[inline(always)]
    fn fetch<I: MmaInput + Cached, const DIM: usize>(
        &self,
        index: usize,
        warp: &B::Warp,
        a: &Flash,
        from: usize,
        first: usize,
        end: usize,
    ) -> Values<B> {
        let head_dim = head_dim::<DIM>(a);
        // The pages of several steps are waited for at once, and then their values.
        let mut pages = [0; AHEAD];
        unrolled::<AHEAD>(|i| {
            let step = (first + i).min(end - 1);
            pages[i] = self.rows.page(a, (from + step * 16) / PAGE);
        });
        let mut v = [[warp.fill_b(|_, _| [0, 0]); PARTS]; AHEAD];
        unrolled::<AHEAD>(|i| {
            let step = (first + i).min(end - 1);
            unrolled::<PARTS>(|part| {
                let d = octet(index, part) * 8;
                if d < head_dim {
                    v[i][part] = warp.fill_b(|column, row| {
                        let place = step * 16 % PAGE + row;
                        a.value_pages.pair(pages[i] + I::value(place, d + column, head_dim))
                    });
                }
            });
        });
        v
    }

    /// The chunk's weighted sums of the output's elements that warp `index` owns, see [`octet`]; `v` are the first values.
    #[inline(always)]
    fn values<I: MmaInput + Cached, const DIM: usize>(
        &self,
        index: usize,
        warp: &B::Warp,
        a: &Flash,
        from: usize,
        mut v: Values<B>,
    ) -> [<B::Warp as Warp>::C; PARTS] {
        let head_dim = head_dim::<DIM>(a);
        let (skip, len) = self.tokens(from);
        let mut sums = [warp.zero(); PARTS];
        // Steps past the end, or before the window, would add zeros.
        let (mut first, end) = (skip / 16, len.div_ceil(16));
        loop {
            unrolled::<AHEAD>(|i| {
                let step = first + i;
                if step < end {
                    let weights =
                        warp.load_a(&self.weights, |row, octet| row * WEIGHTS + step * 16 + octet * 8);
                    let within = |s: usize| s.saturating_sub(step * 16);
                    let v = warp.keep_rows(&v[i], within(skip), within(len));
                    unrolled::<PARTS>(|part| {
                        if octet(index, part) * 8 < head_dim {
                            warp.mma::<I>(&weights, &v[part], &mut sums[part]);
                        }
                    });
                }
            });
            first += AHEAD;
            if first >= end {
                return sums;
            }
            v = self.fetch::<I, DIM>(index, warp, a, from, first, end);
        }
    }

    /// `put(row, output, d, values)` for each two neighbours of `sums` that there are, elements `d` and `d + 1` of the row that is
    /// `output`.
    #[inline(always)]
    fn each_output(
        &self,
        index: usize,
        warp: &B::Warp,
        head_dim: usize,
        sums: &[<B::Warp as Warp>::C; PARTS],
        mut put: impl FnMut(usize, usize, usize, [f32; 2]),
    ) {
        let own = self.own[index];
        unrolled::<PARTS>(|part| {
            let d = octet(index, part) * 8;
            if d < head_dim {
                warp.each_pair(&sums[part], |row, column, sums| {
                    if own[row].there {
                        put(row, own[row].output, d + column, sums);
                    }
                });
            }
        });
    }
}

/// The octet of a head's elements that is part `part` of warp `index`'s.
#[inline(always)]
fn octet(index: usize, part: usize) -> usize {
    index + WARPS * part
}

#[inline(always)]
fn whole<B: Block, I: MmaInput + Cached, const DIM: usize>(block: &B, a: &Flash) {
    let head_dim = head_dim::<DIM>(a);
    let tile = Tile::<B>::new::<DIM>(block, a, block.x());
    let mut state = block.per_warp::<_, WARPS>(|_, warp| {
        let mut merge = warp.rows(Merge::NONE);
        warp.each_row(|_, row| {
            if tile.rows.exists(row) {
                merge[row] = Merge::before(&a.sinks, tile.rows.head(row));
            }
        });
        ([warp.zero(); PARTS], merge)
    });
    let mut from = tile.first_seen / CHUNK * CHUNK;
    while from < tile.seen {
        let values = tile.softmax::<I, DIM>(block, a, from);
        block.warps(|index, warp| {
            let (sums, merge) = &mut state[index];
            warp.each_row(|lane, row| {
                let lane = index * 32 + lane;
                merge[row] = merge[row].chunk(tile.tops.get(lane, row), tile.totals.get(lane, row));
            });
            let chunk = tile.values::<I, DIM>(index, warp, a, from, values[index]);
            unrolled::<PARTS>(|part| {
                warp.zip_c(&mut sums[part], &chunk[part], |row, _, sum, chunk| merge[row].sum(sum, chunk));
            });
        });
        from += CHUNK;
    }
    block.warps(|index, warp| {
        let (sums, merge) = &state[index];
        tile.each_output(index, warp, head_dim, sums, |row, output, d, sums| {
            a.out.put_pair(output * head_dim + d, mapped(sums, |sum| sum / merge[row].total));
        });
    });
}

#[inline(always)]
fn chunk<B: Block, I: MmaInput + Cached, const DIM: usize>(block: &B, a: &Flash) {
    let (head_dim, chunks) = (head_dim::<DIM>(a), a.chunks as usize);
    let (index, chunk) = divide(block.x(), chunks);
    let tile = Tile::<B>::new::<DIM>(block, a, index);
    let from = chunk * CHUNK;
    if from >= tile.seen || from + CHUNK <= tile.first_seen {
        return;
    }
    let values = tile.softmax::<I, DIM>(block, a, from);
    block.each(ROWS, |lane, row| {
        if tile.rows.exists(row) {
            let partial = tile.rows.output(a, row) * chunks + chunk;
            a.partial_tops.set(partial * 2, tile.tops.get(lane, row));
            a.partial_tops.set(partial * 2 + 1, tile.totals.get(lane, row));
        }
    });
    block.warps(|index, warp| {
        let sums = tile.values::<I, DIM>(index, warp, a, from, values[index]);
        tile.each_output(index, warp, head_dim, &sums, |_, output, d, [left, right]| {
            let at = (output * chunks + chunk) * head_dim + d;
            a.partial.set(at, left);
            a.partial.set(at + 1, right);
        });
    });
}

/// A kernel for each type and size of heads, of those that are common; 0 for any.
macro_rules! kernels {
    ($($(#[$doc:meta])* $NAME:ident = $entry:ident, $body:ident, $geometry:ident, $input:ident, $dim:literal;)*) => {
        $(kernel! {
            $(#[$doc])*
            pub $NAME = $entry(Flash), lanes: LANES, geometry: $geometry, body: $body::<_, $input, $dim>
        })*
    };
}

kernels! {
    /// All chunks of a tile in one block, f16.
    WHOLE_F16 = flash__whole_f16, whole, whole_geometry, F16, 0;
    /// The same, of heads of 64 elements.
    WHOLE_F16_64 = flash__whole_f16_64, whole, whole_geometry, F16, 64;
    /// The same, of heads of 128 elements.
    WHOLE_F16_128 = flash__whole_f16_128, whole, whole_geometry, F16, 128;
    /// All chunks of a tile in one block, bf16.
    WHOLE_BF16 = flash__whole_bf16, whole, whole_geometry, Bf16, 0;
    /// The same, of heads of 64 elements.
    WHOLE_BF16_64 = flash__whole_bf16_64, whole, whole_geometry, Bf16, 64;
    /// The same, of heads of 128 elements.
    WHOLE_BF16_128 = flash__whole_bf16_128, whole, whole_geometry, Bf16, 128;
    /// A block a chunk, f16; [`crate::merge`] follows.
    CHUNK_F16 = flash__chunk_f16, chunk, chunk_geometry, F16, 0;
    /// The same, of heads of 64 elements.
    CHUNK_F16_64 = flash__chunk_f16_64, chunk, chunk_geometry, F16, 64;
    /// The same, of heads of 128 elements.
    CHUNK_F16_128 = flash__chunk_f16_128, chunk, chunk_geometry, F16, 128;
    /// A block a chunk, bf16; [`crate::merge`] follows.
    CHUNK_BF16 = flash__chunk_bf16, chunk, chunk_geometry, Bf16, 0;
    /// The same, of heads of 64 elements.
    CHUNK_BF16_64 = flash__chunk_bf16_64, chunk, chunk_geometry, Bf16, 64;
    /// The same, of heads of 128 elements.
    CHUNK_BF16_128 = flash__chunk_bf16_128, chunk, chunk_geometry, Bf16, 128;
}

/// The kernel whose blocks have all chunks of a tile, or one each, for heads of so many elements.
#[cfg(not(target_arch = "nvptx64"))]
pub fn of(chunk: bool, bf16: bool, head_dim: usize) -> &'static cuda_std::Kernel<Flash> {
    match (chunk, bf16, head_dim) {
        (false, false, 64) => &WHOLE_F16_64,
        (false, false, 128) => &WHOLE_F16_128,
        (false, false, _) => &WHOLE_F16,
        (false, true, 64) => &WHOLE_BF16_64,
        (false, true, 128) => &WHOLE_BF16_128,
        (false, true, _) => &WHOLE_BF16,
        (true, false, 64) => &CHUNK_F16_64,
        (true, false, 128) => &CHUNK_F16_128,
        (true, false, _) => &CHUNK_F16,
        (true, true, 64) => &CHUNK_BF16_64,
        (true, true, 128) => &CHUNK_BF16_128,
        (true, true, _) => &CHUNK_BF16,
    }
}
