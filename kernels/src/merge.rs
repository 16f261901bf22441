//! The merge of attention's chunks, for a few long sequences: what [`crate::flash`]'s blocks of one chunk each left.
//!
//! `out[t, h] = sum over c of e^(top_c - top) partial_c / sum over c of e^(top_c - top) total_c`, a block a row. Chunks join from the
//! first to the last, as [`crate::flash`] says. What each is multiplied by is known beforehand, since a greatest score is exact in any
//! order: a lane makes a chunk's factors, and then a lane joins an element's sums, one multiplication and one fused one a chunk. Bytes
//! moved: `4 (head_dim + 2)` a chunk, and `4 head_dim`.

use cuda_std::math::max;
use cuda_std::{Block, Geometry, In, Scratch, kernel, unrolled};

use crate::chunks::{CHUNK, Merge};
#[cfg(doc)]
use crate::flash::Flash;
use crate::flash::MAX_HEAD_DIM;
use crate::kv::first_seen;
use crate::rows::Rows;

const LANES: usize = 128;
/// Chunks whose sums are waited for at once.
const TOGETHER: usize = 8;

/// Arguments of [`MERGE`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Partials {
    /// `[tokens, heads, chunks, head_dim]`, see [`Flash`].
    pub partial: In<f32>,
    /// `[tokens, heads, chunks, 2]`, see [`Flash`].
    pub partial_tops: In<f32>,
    /// `[tokens]`.
    pub positions: In<u32>,
    /// `[heads]`, see [`Flash`].
    pub sinks: In<f32>,
    /// `[tokens, heads * head_dim]`, see [`Flash`].
    pub out: Rows,
    /// Tokens.
    pub tokens: u32,
    /// Query heads.
    pub heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Chunks for which there is room; those of a token's past come first.
    pub chunks: u32,
    /// See [`Flash`]: chunks before the window are not read.
    pub window: u32,
}

fn geometry(a: &Partials) -> Geometry {
    Geometry { grid: [a.tokens as usize, a.heads as usize], scratch: 4 * (4 * LANES + 1) }
}

#[inline(always)]
fn merge<B: Block>(block: &B, a: &Partials) {
    let (head_dim, chunks) = (a.head_dim as usize, a.chunks as usize);
    let row = block.x() * a.heads as usize + block.y();
    let seen = a.positions.get(block.x()) as usize + 1;
    let (first, end) = (first_seen(seen, a.window as usize) / CHUNK, seen.div_ceil(CHUNK));
    let [tops, totals, keeps, adds] = [(); 4].map(|()| block.scratch::<f32>(LANES));
    let greatest = block.scratch::<f32>(1);
    // Each lane has an element.
    const { assert!(MAX_HEAD_DIM <= LANES) };
    let mut state = block.per_lane((Merge::before(&a.sinks, block.y()), 0.0f32));
    let mut next = block.per_lane([0.0; TOGETHER]);
    for from in (first..end).step_by(LANES) {
        let (base, last) = ((row * chunks + from) * head_dim, (end - 1 - from) as u32);
        // Sums of a lane's element, of the chunks from the `i`th on; those that there are not change nothing.
        let read = |i: usize, d: usize| {
            let mut sums = [0.0; TOGETHER];
            unrolled::<TOGETHER>(|j| {
                let after = ((i + j) as u32).min(last) * a.head_dim;
                sums[j] = a.partial.get(base + d + after as usize);
            });
            sums
        };
        block.each(head_dim, |lane, d| next[lane] = read(0, d));
        let count = LANES.min((end - from).next_multiple_of(TOGETHER));
        block.each(count, |lane, i| {
            let chunk = row * chunks + from + i;
            let there = from + i < end;
            tops.set(lane, i, if there { a.partial_tops.get(2 * chunk) } else { f32::NEG_INFINITY });
            totals.set(lane, i, if there { a.partial_tops.get(2 * chunk + 1) } else { 0.0 });
        });
        block.barrier();
        // A lane a chunk: how it joins those before it, whose greatest score is exact in any order.
        block.each(count, |lane, i| {
            let mut top = state[lane].0.top;
            for first in (0..i).step_by(TOGETHER) {
                unrolled::<TOGETHER>(|j| {
                    let before = tops.get(lane, first + j);
                    top = if first + j < i { max(top, before) } else { top };
                });
            }
            let joined = Merge { top, ..Merge::NONE }.chunk(tops.get(lane, i), 0.0);
            keeps.set(lane, i, joined.keep);
            adds.set(lane, i, joined.add);
            if i == count - 1 {
                greatest.set(lane, 0, max(top, tops.get(lane, i)));
            }
        });
        block.barrier();
        block.lanes(|lane| state[lane].0.top = greatest.get(lane, 0));
        // A lane an element. While some chunks join, the next ones' sums are on their way.
        block.each(head_dim, |lane, d| {
            let (mut merge, mut sum) = state[lane];
            for i in (0..count).step_by(TOGETHER) {
                let sums = next[lane];
                next[lane] = read(i + TOGETHER, d);
                unrolled::<TOGETHER>(|j| {
                    let i = i + j;
                    merge = merge.joined(keeps.get(lane, i), adds.get(lane, i), totals.get(lane, i));
                    sum = merge.sum(sum, sums[j]);
                });
            }
            state[lane] = (merge, sum);
        });
        block.barrier();
    }
    block.each(head_dim, |lane, d| {
        let (merge, sum) = state[lane];
        a.out.put(row * head_dim + d, sum / merge.total);
    });
}

kernel! {
    /// See the module.
    pub MERGE = merge__chunks(Partials), lanes: LANES, geometry: geometry, body: merge
}
