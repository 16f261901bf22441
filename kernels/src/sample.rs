//! From logits to a token: bias, repetition, presence and frequency penalties, temperature, top-k, top-p, min-p, draw.
//!
//! Probabilities become integers once, `2^40 p / p_max` cut off, so their sums are exact and have no order. Tokens have a
//! total order, their *rank*: the greater logit first, ties to the lower id. Top-k and top-p each keep the tokens from
//! some rank up; that rank is found bit by bit from the top, by counting tokens or adding up their weights, without a
//! sort. The draw takes a random 64-bit number to a place in the running sum of weights by id.
//!
//! Bias and penalties change the logits in place, a lane an entry, a block a row; 20 bytes moved an entry. Where the
//! model's own logits are wanted afterwards, they are put back.

use cuda_std::math::{exp, ordered_bits};
use cuda_std::{Block, Geometry, In, Out, Value, kernel};

/// How one row's token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Choice {
    /// Uniformly random bits.
    pub random: u64,
    /// Divides logits; 0 takes the token of the greatest rank.
    pub temperature: f32,
    /// Keep the smallest set that reaches this share of the weight; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens below this share of the greatest weight; 0 keeps all.
    pub min_p: f32,
    /// Keep so many tokens; 0 keeps all.
    pub top_k: u32,
}

// SAFETY: numbers, 24 bytes without a gap.
unsafe impl Value for Choice {}

/// Arguments of [`TOKEN`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Sample {
    /// `[rows, vocab]`.
    pub logits: In<f32>,
    /// `[rows, vocab]`, for the kernel's own use.
    pub weights: Out<u64>,
    /// `[rows]`.
    pub choices: In<Choice>,
    /// `[rows]`: the ids, or [`NO_TOKEN`].
    pub tokens: Out<u32>,
    /// Rows.
    pub rows: u32,
    /// Logits in a row.
    pub vocab: u32,
}

/// In place of an id: the row holds a NaN, or its greatest logit is infinite.
pub const NO_TOKEN: u32 = u32::MAX;

/// A token of a row whose logit is not left as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Entry {
    /// Its id; each once in a row. One outside of the vocabulary changes nothing.
    pub id: u32,
    /// How often the output has it; 0 where only the prompt has it, [`UNSEEN`] where neither does.
    pub count: u32,
    /// Added to the logit; negative infinity forbids the token. [`ADJUST`] leaves the former logit here.
    pub bias: f32,
}

// SAFETY: numbers, 12 bytes without a gap.
unsafe impl Value for Entry {}

/// In place of a count: a token of neither prompt nor output.
pub const UNSEEN: u32 = u32::MAX;

/// What a row's entries have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Adjustment {
    /// The row of logits.
    pub row: u32,
    /// Its first entry.
    pub first: u32,
    /// How many entries.
    pub entries: u32,
    /// Divides positive logits and multiplies others, of tokens that prompt or output have.
    pub repetition: f32,
    /// Subtracted from the logits of tokens that the output has.
    pub presence: f32,
    /// Subtracted once more for each time that the output has the token.
    pub frequency: f32,
}

// SAFETY: numbers, 24 bytes without a gap.
unsafe impl Value for Adjustment {}

/// Arguments of [`ADJUST`] and [`RESTORE`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Adjust {
    /// `[any, vocab]`, changed in place.
    pub logits: Out<f32>,
    /// Of all rows; changed in place.
    pub entries: Out<Entry>,
    /// The rows that have entries, each once.
    pub adjustments: In<Adjustment>,
    /// Logits in a row.
    pub vocab: u32,
}

const LANES: usize = 1024;

fn adjust_geometry(a: &Adjust) -> Geometry {
    Geometry { grid: [a.adjustments.len(), 1], scratch: 0 }
}

/// Bias first, then the penalties; each operation rounds by itself.
#[inline(always)]
fn adjusted(logit: f32, entry: Entry, by: &Adjustment) -> f32 {
    let mut logit = logit + entry.bias;
    if entry.count != UNSEEN {
        logit = if logit > 0.0 { logit / by.repetition } else { logit * by.repetition };
        if entry.count > 0 {
            logit = logit - by.presence - entry.count as f32 * by.frequency;
        }
    }
    logit
}

/// `f(place of the logit, place of the entry, entry)` for the entries of a block's row.
#[inline(always)]
fn each_entry<B: Block>(block: &B, a: &Adjust, f: impl Fn(usize, usize, Entry)) {
    let by = a.adjustments.get(block.x());
    block.each(by.entries as usize, |_, i| {
        let i = by.first as usize + i;
        let entry = a.entries.get(i);
        if entry.id < a.vocab {
            f(by.row as usize * a.vocab as usize + entry.id as usize, i, entry);
        }
    });
}

#[inline(always)]
fn adjust<B: Block>(block: &B, a: &Adjust) {
    let by = a.adjustments.get(block.x());
    each_entry(block, a, |at, i, entry| {
        let logit = a.logits.get(at);
        a.logits.set(at, adjusted(logit, entry, &by));
        a.entries.set(i, Entry { bias: logit, ..entry });
    });
}

#[inline(always)]
fn restore<B: Block>(block: &B, a: &Adjust) {
    each_entry(block, a, |at, _, entry| a.logits.set(at, entry.bias));
}

fn geometry(a: &Sample) -> Geometry {
    Geometry { grid: [a.rows as usize, 1], scratch: 0 }
}

/// The greatest weight, that of the most likely token.
pub(crate) const ONE: f32 = (1u64 << 40) as f32;

/// A token's place in the total order. Both zeros are one value.
#[inline(always)]
pub(crate) fn rank(logit: f32, id: usize) -> u64 {
    (ordered_bits(logit + 0.0) as u64) << 32 | !(id as u32) as u64
}

/// `amount(id)` summed over the vocabulary.
#[inline(always)]
pub(crate) fn total<B: Block>(block: &B, vocab: usize, amount: impl Fn(usize) -> u64) -> u64 {
    let mut sums = block.per_lane(0u64);
    block.each(vocab, |lane, id| sums[lane] += amount(id));
    block.sum_u64(&sums)
}

/// The greatest rank from which on the tokens' amounts add up to `wanted`; `best` is the rank of the first.
#[inline(always)]
fn floor_of<B: Block>(
    block: &B,
    vocab: usize,
    best: u64,
    logit: impl Fn(usize) -> f32,
    amount: impl Fn(usize) -> u64,
    wanted: u64,
) -> u64 {
    // The upper half of the ranks first, which is the logits alone.
    let upper = |id: usize| ordered_bits(logit(id) + 0.0);
    let mut found = 0u32;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        let candidate = found | 1 << bit;
        let above = |id: usize| if upper(id) >= candidate { amount(id) } else { 0 };
        if candidate <= (best >> 32) as u32 && total(block, vocab, above) >= wanted {
            found = candidate;
        }
    }
    let upper_found = found;
    let mut found = (upper_found as u64) << 32;
    if total(block, vocab, |id| (upper(id) == upper_found) as u64) == 1 {
        return found;
    }
    // Several tokens have this logit: those of the lowest ids stay, as many as are wanted. The bits of `!id` above the
    // vocabulary's are ones in every rank.
    let mut bit = 32 - (vocab as u32).leading_zeros();
    found |= !((1u64 << bit) - 1) as u32 as u64;
    while bit > 0 {
        bit -= 1;
        let candidate = found | 1 << bit;
        let above = |id: usize| if rank(logit(id), id) >= candidate { amount(id) } else { 0 };
        if candidate <= best && total(block, vocab, above) >= wanted {
            found = candidate;
        }
    }
    found
}

#[inline(always)]
fn sample<B: Block>(block: &B, a: &Sample) {
    let vocab = a.vocab as usize;
    let row = block.x();
    let choice = a.choices.get(row);
    let logit = |id: usize| a.logits.get(row * vocab + id);
    let answer = |token: u32| {
        block.lanes(|lane| {
            if lane == 0 {
                a.tokens.set(row, token);
            }
        })
    };

    // The token of the greatest rank; a NaN outranks all, to be noticed.
    let mut best = block.per_lane(0u64);
    block.each(vocab, |lane, id| {
        let rank = if logit(id).is_nan() { u64::MAX } else { rank(logit(id), id) };
        if rank > best[lane] {
            best[lane] = rank;
        }
    });
    let best = block.max_u64(&best);
    let best_id = !(best as u32);
    if best == u64::MAX || !logit(best_id as usize).is_finite() {
        return answer(NO_TOKEN);
    }
    if choice.temperature == 0.0 {
        return answer(best_id);
    }

    // The difference first: it may be infinite, but unlike a quotient of two it is never NaN.
    let top = logit(best_id as usize);
    let weight = |id: usize| a.weights.get(row * vocab + id);
    block.each(vocab, |_, id| {
        let share = exp((logit(id) - top) / choice.temperature);
        a.weights.set(row * vocab + id, (share * ONE) as u64);
    });
    block.barrier();

    // Top-k, then top-p of what is left: tokens below the floor are out.
    let mut floor = 0u64;
    if choice.top_k > 0 && (choice.top_k as usize) < vocab {
        floor = floor_of(block, vocab, best, logit, |_| 1, choice.top_k as u64);
    }
    if choice.top_p < 1.0 {
        let mass = total(block, vocab, |id| if rank(logit(id), id) >= floor { weight(id) } else { 0 });
        let share = (choice.top_p * 4_294_967_296.0) as u64;
        let wanted = ((mass as u128 * share as u128) >> 32) as u64;
        let from_p = floor_of(block, vocab, best, logit, weight, wanted.max(1));
        if from_p > floor {
            floor = from_p;
        }
    }
    let least = (choice.min_p * ONE) as u64;
    let kept = |id: usize| {
        if rank(logit(id), id) >= floor && weight(id) >= least { weight(id) } else { 0 }
    };

    // The draw: a lane owns a run of neighbouring ids, so the lanes in order are the ids in order.
    let run = vocab.div_ceil(LANES);
    let ids = |lane: usize| lane * run..vocab.min((lane + 1) * run);
    let mut mass = block.per_lane(0u64);
    block.lanes(|lane| {
        for id in ids(lane) {
            mass[lane] += kept(id);
        }
    });
    let before = block.scan_u64(&mass);
    let place = ((block.sum_u64(&mass) as u128 * choice.random as u128) >> 64) as u64;
    block.lanes(|lane| {
        let mut sum = before[lane];
        if place < sum || place >= sum + mass[lane] {
            return;
        }
        for id in ids(lane) {
            sum += kept(id);
            if place < sum {
                a.tokens.set(row, id as u32);
                return;
            }
        }
    });
}

kernel! {
    /// Applies a row's bias and penalties.
    pub ADJUST = sample__adjust(Adjust), lanes: LANES, geometry: adjust_geometry, body: adjust
}
kernel! {
    /// Puts the logits back that [`ADJUST`] changed.
    pub RESTORE = sample__restore(Adjust), lanes: LANES, geometry: adjust_geometry, body: restore
}
kernel! {
    /// Chooses a token for each row.
    pub TOKEN = sample__token(Sample), lanes: LANES, geometry: geometry, body: sample
}
