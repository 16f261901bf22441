//! How likely the model finds the chosen token, and which tokens it finds most likely.
//!
//! `ln p = z - z_max - ln(sum of e^(z - z_max))` over a row's logits `z`, of which the last logarithm is left to the host.
//! The sum is one of integers, `2^40 e^(z - z_max)` cut off, so it has no order; it is within `2^-19` of its value. A token
//! is told by its *rank*, which has its logit and its id (see [`crate::sample`]).
//!
//! A block a row. Each lane keeps the greatest rank of its tokens, `l, l + LANES, ...`; whenever the greatest of all has
//! been told, the lane it came from looks for its next one. So the row is read twice, and a lane's share of it, 4 bytes
//! a token, once more for each token told.

use cuda_std::math::{exp, from_ordered_bits};
use cuda_std::{Block, Geometry, In, Out, Value, kernel};

use crate::sample::{NO_TOKEN, ONE, rank, total};

/// Tokens that are told at most beside the chosen one.
pub const TOP: usize = 20;

/// Words of an answer: the sum, `2^40` for the most likely token's own part; the rank of the chosen token; the greatest
/// ranks, as many as were asked for, one at least. What is not told is 0.
pub const WORDS: usize = 2 + TOP;

/// A row whose log-probabilities are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Ask {
    /// The row of logits.
    pub row: u32,
    /// How many of the most likely tokens to tell, [`TOP`] at most.
    pub top: u32,
}

// SAFETY: numbers, 8 bytes without a gap.
unsafe impl Value for Ask {}

/// Arguments of [`LOGPROBS`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Logprobs {
    /// `[any, vocab]`.
    pub logits: In<f32>,
    /// `[any]`: the chosen ids; the answer about [`NO_TOKEN`] is zeros.
    pub tokens: In<u32>,
    /// The rows.
    pub asks: In<Ask>,
    /// `[asks, WORDS]`.
    pub answers: Out<u64>,
    /// Logits in a row.
    pub vocab: u32,
}

/// A GPU has registers for 512 lanes of this kernel.
const LANES: usize = 512;

fn geometry(a: &Logprobs) -> Geometry {
    Geometry { grid: [a.asks.len(), 1], scratch: 0 }
}

/// The logit in a rank; negative zero has become zero.
#[inline(always)]
pub fn logit_of(rank: u64) -> f32 {
    from_ordered_bits((rank >> 32) as u32)
}

/// The id in a rank.
#[inline(always)]
pub fn id_of(rank: u64) -> u32 {
    !(rank as u32)
}

#[inline(always)]
fn logprobs<B: Block>(block: &B, a: &Logprobs) {
    let vocab = a.vocab as usize;
    let ask = a.asks.get(block.x());
    let token = a.tokens.get(ask.row as usize);
    let logit = |id: usize| a.logits.get(ask.row as usize * vocab + id);
    let tell = |word: usize, value: u64| a.answers.set(block.x() * WORDS + word, value);
    if token == NO_TOKEN {
        return block.each(WORDS, |_, word| tell(word, 0));
    }

    let mut best = block.per_lane(0u64);
    block.each(vocab, |lane, id| {
        let rank = rank(logit(id), id);
        if rank > best[lane] {
            best[lane] = rank;
        }
    });
    let mut greatest = block.max_u64(&best);
    let top = logit_of(greatest);
    let sum = total(block, vocab, |id| (exp(logit(id) - top) * ONE) as u64);

    let mut word = 2;
    let told = 2 + if ask.top == 0 { 1 } else { ask.top as usize };
    loop {
        block.lanes(|lane| {
            if lane == 0 {
                tell(word, greatest);
            }
        });
        word += 1;
        if word == told {
            break;
        }
        block.lanes(|lane| {
            if best[lane] != greatest {
                return;
            }
            best[lane] = 0;
            let mut id = lane;
            while id < vocab {
                let rank = rank(logit(id), id);
                if rank < greatest && rank > best[lane] {
                    best[lane] = rank;
                }
                id += LANES;
            }
        });
        greatest = block.max_u64(&best);
    }
    block.lanes(|lane| {
        if lane == 0 {
            tell(0, sum);
            tell(1, rank(logit(token as usize), token as usize));
        }
    });
    block.each(WORDS - told, |_, i| tell(told + i, 0));
}

kernel! {
    /// The sum, the chosen token's rank and the greatest ranks of each row that asks.
    pub LOGPROBS = logprobs__top(Logprobs), lanes: LANES, geometry: geometry, body: logprobs
}
