//! The attention of [`crate::flash`] for prompts: the same bits, by more rows that share what they read.
//!
//! A block has 128 rows, 16 a warp. A chunk's keys, then its values, come to scratch memory by 16-byte asynchronous copies
//! while the warps work on the other; scores and the softmax stay in registers, where a tensor-core step's output has the
//! form of the next one's input (Dao 2023). The order of everything is [`crate::flash`]'s.
//!
//! Bytes moved: `4 head_dim` for each token seen, tile and key head.

use cuda_std::math::{divide, exp_negative, sqrt};
use cuda_std::{Bf16, Block, F16, Geometry, MmaInput, Scratch, Warp, kernel, mapped, unrolled};

use crate::chunks::{Asking, CHUNK, Merge};
use crate::flash::{Flash, MAX_HEAD_DIM};
use crate::kv::{Cached, PAGE};

pub(crate) const WARPS: usize = 8;
pub(crate) const LANES: usize = WARPS * 32;
/// Rows of a warp.
pub(crate) const STEP: usize = 16;
/// Rows of a block.
pub(crate) const ROWS: usize = WARPS * STEP;
/// Octets of a chunk's tokens.
const OCTETS: usize = CHUNK / 8;
/// Steps over a chunk's tokens.
const STEPS: usize = CHUNK / 16;
/// Octets of a head's elements at most, and how many of them are summed at once.
const PARTS: usize = MAX_HEAD_DIM / 8;
const TOGETHER: usize = 4;
/// Cells from one element of the values to the next in scratch memory: not a multiple of 128 bytes, against bank conflicts.
const VALUES: usize = CHUNK + 8;

/// Tokens in a tile at most, where so many query heads share a key head.
pub fn tile_tokens(group: usize) -> usize {
    (ROWS / group).max(1)
}

/// Blocks for the rows of one tile.
#[inline(always)]
pub(crate) fn parts(group: usize) -> usize {
    group.div_ceil(ROWS)
}

/// Cells from one row to the next of queries and keys.
#[inline(always)]
pub(crate) fn stride(head_dim: usize) -> usize {
    head_dim + 8
}

fn geometry(a: &Flash) -> Geometry {
    let (head_dim, group) = (a.head_dim as usize, (a.heads / a.kv_heads) as usize);
    Geometry {
        grid: [a.count as usize * parts(group), a.kv_heads as usize],
        scratch: 2 * ((ROWS + CHUNK) * stride(head_dim) + head_dim * VALUES),
    }
}

/// What a warp keeps from one phase to the next.
struct State<W: Warp> {
    /// Of its rows: positions seen, up to their own.
    seen: W::Rows<u32>,
    merge: W::Rows<Merge>,
    sums: [W::C; PARTS],
    /// Of the chunk: scores, and the softmax's weights.
    scores: [W::C; OCTETS],
    weights: [W::A; STEPS],
}

impl<W: Warp> Clone for State<W> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<W: Warp> Copy for State<W> {}

#[inline(always)]
fn prompt<B: Block, I: MmaInput + Cached>(block: &B, a: &Flash) {
    let head_dim = a.head_dim as usize;
    let (stride, scale) = (stride(head_dim), 1.0 / sqrt(head_dim as f32));
    let window = if a.window == 0 { u32::MAX } else { a.window };
    // The last tiles, which may see most, come first.
    let parts = parts((a.heads / a.kv_heads) as usize);
    let index = a.count as usize * parts - 1 - block.x();
    let (tile, part) = divide(index, parts);
    let rows = Asking::new(a, tile, part * ROWS, block.y());
    let (seen, first_seen) = (rows.seen(a), rows.first_seen(a));
    let queries = block.scratch::<u16>(ROWS * stride);
    let keys = block.scratch::<u16>(CHUNK * stride);
    let values = block.scratch::<u16>(head_dim * VALUES);

    // Begins to copy a chunk's keys, two lanes a token; past the end there are zeros.
    macro_rules! fetch_keys {
        ($from:expr) => {
            block.lanes(|lane| {
                let (place, half) = (lane / 2, lane % 2);
                let at = $from + place;
                let there = at < seen;
                let key = if there { rows.page(a, at / PAGE) + I::key(at % PAGE, 0, head_dim) } else { 0 };
                for unit in (half..head_dim / 8).step_by(2) {
                    keys.copy_async(lane, place * stride + unit * 8, &a.key_pages, key + unit * 8, there);
                }
            });
            block.warps(|_, warp| warp.copies_commit());
        };
    }
    // Begins to copy a chunk's values, a lane eight neighbouring tokens. Those that no row sees are replaced by zeros.
    macro_rules! fetch_values {
        ($from:expr) => {
            block.lanes(|lane| {
                let octet = lane % OCTETS * 8;
                let at = $from + octet;
                let some = at < seen && first_seen < at + 8;
                let page = if some { rows.page(a, at / PAGE) } else { 0 };
                for d in (lane / OCTETS..head_dim).step_by(LANES / OCTETS) {
                    let (from, to) = (page + I::value(at % PAGE, d, head_dim), d * VALUES + octet);
                    if !some || (first_seen <= at && at + 8 <= seen) {
                        values.copy_async(lane, to, &a.value_pages, if some { from } else { 0 }, some);
                    } else {
                        for i in 0..8 {
                            let there = first_seen <= at + i && at + i < seen;
                            values.set(lane, to + i, if there { a.value_pages.get(from + i) } else { 0 });
                        }
                    }
                }
            });
            block.warps(|_, warp| warp.copies_commit());
        };
    }

    let mut from = first_seen / CHUNK * CHUNK;
    block.each(ROWS * (head_dim / 8), |lane, i| {
        let (row, unit) = divide(i, head_dim / 8);
        let there = rows.exists(row);
        let q = if there { rows.output(a, row) * head_dim + unit * 8 } else { 0 };
        queries.copy_async(lane, row * stride + unit * 8, &a.q, q, there);
    });
    fetch_keys!(from);
    fetch_values!(from);

    let mut state = block.per_warp::<_, WARPS>(|index, warp| {
        let (mut saw, mut merge) = (warp.rows(0u32), warp.rows(Merge::NONE));
        warp.each_row(|_, row| {
            let at = index * STEP + row;
            if rows.exists(at) {
                saw[row] = a.positions.get(rows.token(at)) + 1;
                merge[row] = Merge::before(&a.sinks, rows.head(at));
            }
        });
        let zero = warp.zero();
        State::<B::Warp> {
            seen: saw,
            merge,
            sums: [zero; PARTS],
            scores: [zero; OCTETS],
            weights: [warp.round_to_a::<I>(&zero, &zero); STEPS],
        }
    });
    let warp_seen = |index: usize| rows.last_sees(a, index * STEP, STEP);

    while from < seen {
        // The keys are there, of all warps.
        block.warps(|_, warp| warp.copies_wait::<1>());
        block.barrier();
        block.warps(|index, warp| {
            if from < warp_seen(index) {
                let scores = &mut state[index].scores;
                *scores = [warp.zero(); OCTETS];
                for step in 0..head_dim / 16 {
                    let q = warp
                        .load_a(&queries, |row, octet| (index * STEP + row) * stride + step * 16 + octet * 8);
                    unrolled::<OCTETS>(|o| {
                        let k = warp
                            .load_b(&keys, |column, octet| (o * 8 + column) * stride + step * 16 + octet * 8);
                        warp.mma::<I>(&q, &k, &mut scores[o]);
                    });
                }
            }
        });
        // All are done with the keys.
        block.barrier();
        fetch_keys!(from + CHUNK);
        block.warps(|index, warp| {
            if from < warp_seen(index) {
                let State { seen, merge, scores, weights, .. } = &mut state[index];
                // Most chunks are seen whole, by every row.
                let fewest = a.positions.get(rows.token(index * STEP)) as usize + 1;
                let whole = from + CHUNK <= fewest && warp_seen(index) - from <= window as usize;
                unrolled::<OCTETS>(|o| {
                    let score = scores[o];
                    warp.zip_c(&mut scores[o], &score, |_, _, score, _| score * scale);
                });
                if !whole {
                    unrolled::<OCTETS>(|o| {
                        let score = scores[o];
                        warp.zip_c(&mut scores[o], &score, |row, column, score, _| {
                            let at = (from + o * 8 + column) as u32;
                            let sees = at < seen[row] && seen[row] - at <= window;
                            if sees { score } else { f32::NEG_INFINITY }
                        });
                    });
                }
                let top = warp.max_rows(scores);
                // Where a row sees nothing all scores are minus infinity, and weights zeros.
                let mut less = top;
                warp.each_row(|_, row| {
                    less[row] = if top[row] == f32::NEG_INFINITY { 0.0 } else { top[row] }
                });
                unrolled::<OCTETS>(|o| {
                    let score = scores[o];
                    warp.zip_c(&mut scores[o], &score, |row, _, score, _| exp_negative(score - less[row]));
                });
                let total = warp.sum_rows(scores);
                warp.each_row(|_, row| merge[row] = merge[row].chunk(top[row], total[row]));
                unrolled::<STEPS>(|step| {
                    weights[step] = warp.round_to_a::<I>(&scores[2 * step], &scores[2 * step + 1]);
                });
            }
        });
        // The values are there, of all warps.
        block.warps(|_, warp| warp.copies_wait::<1>());
        block.barrier();
        block.warps(|index, warp| {
            if from < warp_seen(index) {
                let State { merge, sums, weights, .. } = &mut state[index];
                // Steps past what the rows see, or before the window, would add zeros.
                let len = CHUNK.min(warp_seen(index) - from).div_ceil(16);
                let skip = first_seen.saturating_sub(from) / 16;
                unrolled::<{ PARTS / TOGETHER }>(|part| {
                    let d = part * TOGETHER * 8;
                    if d < head_dim {
                        let mut chunk = [warp.zero(); TOGETHER];
                        unrolled::<STEPS>(|step| {
                            if skip <= step && step < len {
                                unrolled::<TOGETHER>(|i| {
                                    if d + i * 8 < head_dim {
                                        let v = warp.load_b(&values, |column, octet| {
                                            (d + i * 8 + column) * VALUES + step * 16 + octet * 8
                                        });
                                        warp.mma::<I>(&weights[step], &v, &mut chunk[i]);
                                    }
                                });
                            }
                        });
                        unrolled::<TOGETHER>(|i| {
                            warp.zip_c(&mut sums[part * TOGETHER + i], &chunk[i], |row, _, sum, chunk| {
                                merge[row].sum(sum, chunk)
                            });
                        });
                    }
                });
            }
        });
        // All are done with the values.
        block.barrier();
        fetch_values!(from + CHUNK);
        from += CHUNK;
    }
    block.warps(|index, warp| {
        let State { merge, sums, .. } = &state[index];
        unrolled::<PARTS>(|part| {
            let d = part * 8;
            if d < head_dim {
                warp.each_pair(&sums[part], |row, column, sums| {
                    let at = index * STEP + row;
                    if rows.exists(at) {
                        let values = mapped(sums, |sum| sum / merge[row].total);
                        a.out.put_pair(rows.output(a, at) * head_dim + d + column, values);
                    }
                });
            }
        });
    });
}

kernel! {
    /// f16.
    pub F16_ = prompt__f16(Flash), lanes: LANES, geometry: geometry, body: prompt::<_, F16>
}
kernel! {
    /// bf16.
    pub BF16 = prompt__bf16(Flash), lanes: LANES, geometry: geometry, body: prompt::<_, Bf16>
}
