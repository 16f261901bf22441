//! Attention in f64, chunk by chunk.
//!
//! Tolerance. A score is a chain of tensor-core steps (see [`super::super::matmul`]) and three roundings; a weight is off
//! by what its score and the greatest one are, by the rounding of their difference, and by the exponential's unit and a
//! half. A sum of weights adds nine roundings; a weighted sum has the weights rounded to 16 bits and is a chain of eight
//! steps. A merge of chunks takes one more exponential and a few roundings for each chunk.

use kernels::flash::CHUNK;

use super::super::Expect;
use super::super::attention::first_visible;
use super::super::rows::expect_rows;
use super::{Flash, Heads, Path};

/// The distance between the smallest f32, of which each step may lose some.
const SMALLEST: f64 = 1e-42;
/// What a step of 16 loses, of the sum of its terms' magnitudes.
const STEP: f64 = 17.0 / (1 << 25) as f64 + 1.0 / (1 << 23) as f64;
const UNIT: f64 = 1.0 / (1 << 24) as f64;

/// What one head of one token has of a chunk. Values with tolerances.
struct Part {
    top: (f64, f64),
    total: (f64, f64),
    sums: Vec<(f64, f64)>,
    /// The weighted magnitudes of the values.
    magnitudes: Vec<f64>,
}

/// What the case's outputs hold.
pub(super) fn expect(case: &Flash) -> Vec<Expect> {
    let Heads { kv_heads, group, head_dim } = case.heads;
    let (heads, chunks) = (kv_heads * group, case.chunks());
    let widen = |data: &[Vec<u16>]| -> Vec<Vec<f64>> {
        data.iter().map(|bits| bits.iter().map(|&bits| case.float.value(bits)).collect()).collect()
    };
    let (keys, values) = (widen(&case.keys), widen(&case.values));
    let mut out = vec![(0.0, 0.0); case.q.len()];
    let mut partial = vec![(f64::NAN, 0.0); case.q.len() * chunks];
    let mut tops = vec![(f64::NAN, 0.0); case.tokens.len() * heads * chunks * 2];
    for &[first, count] in &case.tiles {
        // The tile's first and last token decide which chunks are computed for all of them.
        let reached = case.tokens[first + count - 1].1 / CHUNK + 1;
        let begun = first_visible(case.tokens[first].1, case.window) / CHUNK;
        for token in first..first + count {
            let (sequence, position) = case.tokens[token];
            for head in 0..heads {
                let row = token * heads + head;
                let q: Vec<f64> =
                    case.q[row * head_dim..][..head_dim].iter().map(|&bits| case.float.value(bits)).collect();
                let of = |data: &'_ [f64], s: usize| {
                    data[(s * kv_heads + head / group) * head_dim..][..head_dim].to_vec()
                };
                let parts: Vec<Part> = (begun..reached)
                    .map(|chunk| {
                        let begin = first_visible(position, case.window).max(chunk * CHUNK);
                        let tokens = begin..(position + 1).min((chunk + 1) * CHUNK);
                        let seen: Vec<[Vec<f64>; 2]> =
                            tokens.map(|s| [of(&keys[sequence], s), of(&values[sequence], s)]).collect();
                        part(case, &q, &seen)
                    })
                    .collect();
                for (chunk, part) in parts.iter().enumerate() {
                    let at = row * chunks + begun + chunk;
                    partial[at * head_dim..][..head_dim].copy_from_slice(&part.sums);
                    [tops[at * 2], tops[at * 2 + 1]] = [part.top, part.total];
                }
                let sink = case.sinks.get(head).map_or(f64::NEG_INFINITY, |&sink| sink as f64);
                merge(&parts, sink, &mut out[row * head_dim..][..head_dim]);
            }
        }
    }
    match case.path {
        Path::Whole | Path::Prompt | Path::PromptGroup => expect_rows(case.form, &out),
        Path::Chunks => vec![Expect::near(partial), Expect::near(tops)],
    }
}

/// One chunk of one row, of which it sees these keys and values.
fn part(case: &Flash, q: &[f64], seen: &[[Vec<f64>; 2]]) -> Part {
    let head_dim = case.heads.head_dim;
    let size = |value: f64| value.abs().max(case.float.least_normal());
    let scale = 1.0 / (head_dim as f64).sqrt();
    let scores: Vec<(f64, f64)> = seen
        .iter()
        .map(|[k, _]| {
            let terms = || q.iter().zip(k).filter(|(q, k)| **q != 0.0 && **k != 0.0);
            let score = terms().map(|(q, k)| q * k).sum::<f64>() * scale;
            let magnitude = terms().map(|(q, k)| size(*q) * size(*k)).sum::<f64>() * scale;
            (score, magnitude * (head_dim / 16) as f64 * STEP + 4.0 * UNIT * score.abs() + SMALLEST)
        })
        .collect();
    let top = scores
        .iter()
        .fold((f64::NEG_INFINITY, 0.0f64), |(top, off), &(score, more)| (top.max(score), off.max(more)));
    let mut part =
        Part { top, total: (0.0, 0.0), sums: vec![(0.0, 0.0); head_dim], magnitudes: vec![0.0; head_dim] };
    for ((score, off), [_, v]) in scores.into_iter().zip(seen) {
        let weight = (score - top.0).exp();
        let share = (off + top.1 + UNIT * (score - top.0).abs()).exp_m1() + 4.0 * UNIT;
        let off = weight * share + SMALLEST;
        part.total.0 += weight;
        part.total.1 += off + weight * 9.0 * UNIT;
        let rounded = off + case.float.half_unit(weight + off);
        for (d, v) in v.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            let (sum, tolerance) = &mut part.sums[d];
            *sum += weight * v;
            *tolerance += rounded * v.abs() + size(weight + rounded) * size(*v) * 8.0 * STEP + SMALLEST;
            part.magnitudes[d] += weight * v.abs();
        }
    }
    part
}

/// All chunks of one row.
fn merge(parts: &[Part], sink: f64, out: &mut [(f64, f64)]) {
    let top = parts.iter().map(|part| part.top.0).fold(sink, f64::max);
    let chunks = parts.len() as f64 + 1.0;
    // What a chunk counts, and by how much of itself that is off.
    let counted: Vec<(&Part, f64, f64)> = parts
        .iter()
        .filter(|part| part.top.0 > f64::NEG_INFINITY)
        .map(|part| {
            let off = 2.0 * part.top.1 + UNIT * (part.top.0 - top).abs();
            (part, (part.top.0 - top).exp(), off.exp_m1() + 8.0 * chunks * UNIT)
        })
        .collect();
    // The sink's share of the sum is off by what the greatest score is.
    let of_sink = (sink - top).exp();
    let sink_off = counted.iter().map(|(part, ..)| part.top.1).fold(0.0, f64::max)
        + if of_sink > 0.0 { UNIT * (sink - top).abs() } else { 0.0 };
    let total: f64 = counted.iter().map(|(part, counts, _)| counts * part.total.0).sum::<f64>() + of_sink;
    let total_off: f64 = counted
        .iter()
        .map(|(part, counts, off)| counts * (part.total.1 + part.total.0 * off) + SMALLEST)
        .sum::<f64>()
        + of_sink * (sink_off.exp_m1() + 8.0 * chunks * UNIT);
    for (d, out) in out.iter_mut().enumerate() {
        let sum: f64 = counted.iter().map(|(part, counts, _)| counts * part.sums[d].0).sum();
        let sum_off: f64 = counted
            .iter()
            .map(|(part, counts, off)| counts * (part.sums[d].1 + part.magnitudes[d] * off) + SMALLEST)
            .sum();
        let want = sum / total;
        let off = (sum_off + want.abs() * total_off) / (total - total_off);
        *out = (want, off + want.abs() * 2.0 * UNIT + SMALLEST);
    }
}
