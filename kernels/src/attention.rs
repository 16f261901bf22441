//! Paged causal attention with grouped queries and online softmax, f32 numerics.
//!
//! `out[t, h] = sum over s <= position(t) of softmax(q[t, h] . k[s] / sqrt(d)) v[s]`; query head `h` reads key and value
//! head `h / (heads / kv_heads)`. With a sliding window only the last `window` of these `s` count (Beltagy et al. 2020). A
//! head's sink is one more score in the softmax's sum, with no value (Xiao et al. 2023).
//!
//! A block computes one head of one token, whether it is a prompt's token or a generated one. The order, which depends
//! on nothing else: the tokens' keys come in chunks of [`CHUNK`]; within a chunk a score is a chain over the head's
//! elements, the maximum is exact, the sum of exponentials is [`Team::sum`] with a lane for each token, and a value's
//! element is a chain over the tokens; chunks merge from the first to the last (Milakov and Gimelshein 2018). A sink stands
//! before the first chunk. Chunks that lie before the window are left out; what else a token does not see has no score, and
//! its value is not read.
//!
//! Bytes moved: `8 head_dim` for each token seen and each head.

use cuda_std::math::{exp, max, mul_add, sqrt};
use cuda_std::{Block, Geometry, In, Out, Scratch, Team, kernel};

use crate::kv::{PAGE, first_seen};

/// Tokens in a chunk: a lane each.
pub const CHUNK: usize = 128;
/// A head's elements at most: one for each lane and part.
pub const MAX_HEAD_DIM: usize = PARTS * CHUNK;
/// Elements of a head that a lane may own.
const PARTS: usize = 2;

/// Arguments of [`F32`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Attention {
    /// `[tokens, heads, head_dim]`.
    pub q: In<f32>,
    /// `[pages, kv_heads, head_dim, PAGE]`.
    pub key_pages: In<f32>,
    /// `[pages, kv_heads, PAGE, head_dim]`.
    pub value_pages: In<f32>,
    /// `[sequences, table_width]`: a sequence's pages in order.
    pub page_table: In<u32>,
    /// `[tokens]`: which sequence a token belongs to.
    pub sequences: In<u32>,
    /// `[tokens]`: its position there; it sees all up to itself.
    pub positions: In<u32>,
    /// `[heads]`: sinks; empty where there are none.
    pub sinks: In<f32>,
    /// `[tokens, heads, head_dim]`.
    pub out: Out<f32>,
    /// Tokens.
    pub tokens: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Elements of a head, up to [`MAX_HEAD_DIM`].
    pub head_dim: u32,
    /// Pages in a row of the table.
    pub table_width: u32,
    /// Positions that a token sees at most, itself among them; 0 for all.
    pub window: u32,
}

fn geometry(a: &Attention) -> Geometry {
    Geometry { grid: [a.tokens as usize, a.heads as usize], scratch: 4 * (MAX_HEAD_DIM + CHUNK) }
}

#[inline(always)]
fn attention<B: Block>(block: &B, a: &Attention) {
    let (heads, kv_heads, head_dim) = (a.heads as usize, a.kv_heads as usize, a.head_dim as usize);
    let (token, head) = (block.x(), block.y());
    let kv_head = head / (heads / kv_heads);
    let q = (token * heads + head) * head_dim;
    let seen = a.positions.get(token) as usize + 1;
    let table = a.sequences.get(token) as usize * a.table_width as usize;
    // Where a page's part for this head begins, in keys and values alike.
    let page = |i: usize| (a.page_table.get(table + i) as usize * kv_heads + kv_head) * head_dim * PAGE;

    let query = block.scratch::<f32>(MAX_HEAD_DIM);
    let weights = block.scratch::<f32>(CHUNK);
    let scale = 1.0 / sqrt(head_dim as f32);
    block.each(head_dim, |lane, d| query.set(lane, d, a.q.get(q + d) * scale));
    block.barrier();

    let (mut top, mut total) =
        if a.sinks.is_empty() { (f32::NEG_INFINITY, 0.0f32) } else { (a.sinks.get(head), 1.0) };
    let mut out = [block.per_lane(0.0f32); PARTS];
    let begin = first_seen(seen, a.window as usize);
    let mut first = begin / CHUNK * CHUNK;
    while first < seen {
        let len = CHUNK.min(seen - first);
        // The chunk's tokens before this one are not seen.
        let skip = begin.saturating_sub(first);

        // Scores: a page a warp, a token a lane.
        block.warps(|index, warp| {
            if index * PAGE < len && skip < (index + 1) * PAGE {
                let keys = page(first / PAGE + index);
                let mut score = warp.per_lane(0.0f32);
                for d in 0..head_dim {
                    warp.lanes(|lane| {
                        score[lane] = mul_add(
                            query.get(index * PAGE + lane, d),
                            a.key_pages.get(keys + d * PAGE + lane),
                            score[lane],
                        )
                    });
                }
                warp.lanes(|lane| weights.set(index * PAGE + lane, index * PAGE + lane, score[lane]));
            }
        });

        // Softmax within the chunk.
        let mut score = block.per_lane(f32::NEG_INFINITY);
        block.each(len, |lane, s| {
            if s >= skip {
                score[lane] = weights.get(lane, s);
            }
        });
        let chunk_top = block.max(&score);
        let mut weight = block.per_lane(0.0f32);
        block.each(len, |lane, s| {
            weight[lane] = exp(score[lane] - chunk_top);
            weights.set(lane, s, weight[lane]);
        });
        let chunk_total = block.sum(&weight);
        block.barrier();

        // Values: an element of the head a lane.
        let mut chunk_out = [block.per_lane(0.0f32); PARTS];
        for s in skip..len {
            let values = page((first + s) / PAGE) + s % PAGE * head_dim;
            each_element(block, head_dim, |lane, part, d| {
                let sum = &mut chunk_out[part][lane];
                *sum = mul_add(weights.get(lane, s), a.value_pages.get(values + d), *sum);
            });
        }
        block.barrier();

        // Merge the chunk with those before it.
        let new_top = max(top, chunk_top);
        let (keep, add) = (exp(top - new_top), exp(chunk_top - new_top));
        top = new_top;
        total = mul_add(chunk_total, add, total * keep);
        each_element(block, head_dim, |lane, part, _| {
            let sum = &mut out[part][lane];
            *sum = mul_add(chunk_out[part][lane], add, *sum * keep);
        });
        first += CHUNK;
    }
    each_element(block, head_dim, |lane, part, d| a.out.set(q + d, out[part][lane] / total));
}

/// `f(lane, part, d)` for each element `d` of a head; a lane has one in each part.
#[inline(always)]
fn each_element<B: Block>(block: &B, head_dim: usize, mut f: impl FnMut(usize, usize, usize)) {
    for part in 0..PARTS {
        let first = part * CHUNK;
        block.each(CHUNK.min(head_dim.saturating_sub(first)), |lane, i| f(lane, part, first + i));
    }
}

kernel! {
    /// Attention over f32 pages, see the module.
    pub F32 = attention__f32(Attention), lanes: CHUNK, geometry: geometry, body: attention
}
