//! A mixture's router: which experts a token is sent to, and the tokens of each expert together.
//!
//! [`CHOOSE`] takes the `used` greatest of a token's logits, the lowest expert among equals, and weighs them by a softmax
//! over these alone: `weight[i] = e^(logit[i] - logit[0]) / sum over j of e^(logit[j] - logit[0])`, the sum a chain from the
//! greatest to the least. A block of 32 lanes a token.
//!
//! [`GROUP`] sorts the pairs of a token and an expert, pair `token used + slot`, by expert, and by number within one. A tile
//! is up to so many neighbours of one expert: a product's block reads that expert's weights once for all of them. How many
//! tiles there may be depends on the number of pairs alone, see [`tiles`]; those that there are not have no pair. One block:
//! a lane counts the pairs of one expert in one segment of the list, and a scan over the lanes says where they go.

use cuda_std::math::{exp, from_ordered_bits, ordered_bits};
use cuda_std::{Block, Geometry, In, Out, Scratch, kernel};

use crate::product::Product;

/// Arguments of [`CHOOSE`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Choose {
    /// `[tokens, experts]`.
    pub logits: Product,
    /// `[tokens, used]`: the chosen experts, the greatest logit first.
    pub chosen: Out<u32>,
    /// `[tokens, used]`: their weights.
    pub weights: Out<f32>,
    /// Tokens.
    pub tokens: u32,
    /// Experts.
    pub experts: u32,
    /// Experts of a token; `experts` at most.
    pub used: u32,
}

fn choose_geometry(a: &Choose) -> Geometry {
    Geometry { grid: [a.tokens as usize, 1], scratch: 0 }
}

#[inline(always)]
fn choose<B: Block>(block: &B, a: &Choose) {
    let (token, used) = (block.x(), a.used as usize);
    let (mut last, mut top, mut total) = (u64::MAX, 0.0f32, 0.0f32);
    for slot in 0..used {
        // Logits as integers in their order, before experts in the reverse of theirs: no two are equal.
        let mut best = block.per_lane(0u64);
        block.each(a.experts as usize, |lane, expert| {
            let logit = ordered_bits(a.logits.get(token, expert));
            let key = (logit as u64) << 32 | (u32::MAX - expert as u32) as u64;
            if key < last && key > best[lane] {
                best[lane] = key;
            }
        });
        last = block.max_u64(&best);
        let logit = from_ordered_bits((last >> 32) as u32);
        if slot == 0 {
            top = logit;
        }
        let weight = exp(logit - top);
        total += weight;
        block.lanes(|lane| {
            if lane == 0 {
                a.chosen.set(token * used + slot, u32::MAX - last as u32);
                a.weights.set(token * used + slot, weight);
            }
        });
    }
    block.lanes(|lane| {
        if lane == 0 {
            for at in token * used..(token + 1) * used {
                a.weights.set(at, a.weights.get(at) / total);
            }
        }
    });
}

/// Arguments of [`GROUP`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Group {
    /// `[pairs]`: the expert of each.
    pub chosen: In<u32>,
    /// `[pairs]`: the pairs by expert.
    pub sorted: Out<u32>,
    /// `[tiles, 3]`: a tile's expert, its first place in `sorted`, and its pairs; no pairs where there is no such tile.
    pub tiles: Out<u32>,
    /// Pairs.
    pub pairs: u32,
    /// Experts, up to [`MAX_EXPERTS`].
    pub experts: u32,
    /// Pairs in a tile at most.
    pub tile: u32,
}

/// Experts at most.
pub const MAX_EXPERTS: usize = LANES;

/// A kernel of 1024 lanes would have 64 registers at most, and this one has more.
const LANES: usize = 512;

/// Tiles that there may be: as many experts as there are pairs have a tile that is not full.
pub fn tiles(pairs: usize, experts: usize, tile: usize) -> usize {
    (pairs + (tile - 1) * experts.min(pairs)) / tile
}

fn group_geometry(a: &Group) -> Geometry {
    Geometry { grid: [1, 1], scratch: 4 * (a.experts as usize + 1) }
}

#[inline(always)]
fn group<B: Block>(block: &B, a: &Group) {
    let (pairs, experts, tile) = (a.pairs as usize, a.experts as usize, a.tile as usize);
    // Lane `expert segments + segment`: a scan goes through the experts, and through an expert's segments.
    let segments = LANES / experts;
    let len = pairs.div_ceil(segments);
    let of = |lane: usize| (lane / segments, lane % segments * len);
    let begins = block.scratch::<u32>(experts + 1);

    let mut count = block.per_lane(0u64);
    block.lanes(|lane| {
        let (expert, first) = of(lane);
        for pair in first..pairs.min(first + len) {
            if a.chosen.get(pair) as usize == expert {
                count[lane] += 1;
            }
        }
    });
    let before = block.scan_u64(&count);
    block.lanes(|lane| {
        let (expert, first) = of(lane);
        let mut to = before[lane] as usize;
        if expert < experts && lane % segments == 0 {
            begins.set(lane, expert, to as u32);
        }
        if lane == 0 {
            begins.set(lane, experts, pairs as u32);
        }
        for pair in first..pairs.min(first + len) {
            if a.chosen.get(pair) as usize == expert {
                a.sorted.set(to, pair as u32);
                to += 1;
            }
        }
    });
    block.barrier();

    let mut needed = block.per_lane(0u64);
    block.each(experts, |lane, expert| {
        let pairs = begins.get(lane, expert + 1) - begins.get(lane, expert);
        needed[lane] = (pairs as u64).div_ceil(tile as u64);
    });
    let (before, total) = (block.scan_u64(&needed), block.sum_u64(&needed) as usize);
    let put = |at: usize, [expert, first, count]: [usize; 3]| {
        a.tiles.set(3 * at, expert as u32);
        a.tiles.set(3 * at + 1, first as u32);
        a.tiles.set(3 * at + 2, count as u32);
    };
    block.each(experts, |lane, expert| {
        let (begin, end) = (begins.get(lane, expert) as usize, begins.get(lane, expert + 1) as usize);
        for i in 0..needed[lane] as usize {
            let first = begin + i * tile;
            put(before[lane] as usize + i, [expert, first, tile.min(end - first)]);
        }
    });
    block.each(tiles(pairs, experts, tile) - total, |_, i| put(total + i, [0, 0, 0]));
}

kernel! {
    /// A token's experts and their weights.
    pub CHOOSE = router__choose(Choose), lanes: 32, geometry: choose_geometry, body: choose
}
kernel! {
    /// The pairs of each expert together.
    pub GROUP = router__group(Group), lanes: LANES, geometry: group_geometry, body: group
}
