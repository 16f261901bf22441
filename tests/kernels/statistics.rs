//! Draws follow the distribution they claim, and ties go where they should.

use kernels::sample::{Adjustment, Choice, Entry, UNSEEN};
use libtest_mimic::Failed;
use runtime::device::Device;

use crate::cases::Entry as Target;
use crate::cases::random::Random;
use crate::cases::sample::{self, Change, Changed, Draw};
use crate::trials::run;

const VOCAB: usize = 40;
const DRAWS: usize = 60_000;

/// A way to choose. `random` is not used.
type Way = (&'static str, Choice, Option<Adjustment>);

const FREE: Choice = Choice { random: 0, temperature: 1.3, top_p: 1.0, min_p: 0.0, top_k: 0 };

/// Penalties that change nothing.
const PLAIN: Adjustment =
    Adjustment { row: 0, first: 0, entries: 0, repetition: 1.0, presence: 0.0, frequency: 0.0 };

/// By name. An adjustment is of [`entries`], whose bias it includes.
pub(crate) const WAYS: [Way; 11] = [
    ("softmax", FREE, None),
    ("top_k", Choice { top_k: 7, ..FREE }, None),
    ("top_p", Choice { top_p: 0.8, ..FREE }, None),
    ("min_p", Choice { min_p: 0.1, ..FREE }, None),
    ("penalty", FREE, Some(Adjustment { repetition: 1.8, ..PLAIN })),
    ("presence_penalty", FREE, Some(Adjustment { presence: 0.9, ..PLAIN })),
    ("frequency_penalty", FREE, Some(Adjustment { frequency: -0.4, ..PLAIN })),
    ("all_penalties", FREE, Some(Adjustment { repetition: 0.7, presence: 0.6, frequency: 0.3, ..PLAIN })),
    ("bias", FREE, Some(PLAIN)),
    ("a_low_temperature", Choice { temperature: 0.4, ..FREE }, None),
    (
        "everything",
        Choice { top_k: 12, top_p: 0.9, min_p: 0.05, temperature: 0.9, random: 0 },
        Some(Adjustment { repetition: 1.3, presence: 0.2, frequency: 0.1, ..PLAIN }),
    ),
];

/// Every third token is one of the prompt, the output has some of these and others, some of all have a bias, and two
/// are forbidden.
fn entries() -> Vec<Entry> {
    let ids = (0..VOCAB as u32).filter(|id| id % 3 == 0 || id % 5 == 1);
    let count = |id: u32| if id % 5 == 1 { id % 4 + 1 } else { 0 };
    let bias = |id: u32| [0.0, 1.5, -0.7, 0.0][id as usize % 4];
    let mut entries: Vec<Entry> = ids.map(|id| Entry { id, count: count(id), bias: bias(id) }).collect();
    entries.push(Entry { id: 2, count: UNSEEN, bias: f32::NEG_INFINITY });
    entries.push(Entry { id: 4, count: UNSEEN, bias: 0.8 });
    entries[3].bias = f32::NEG_INFINITY;
    entries
}

/// Pearson's chi-square of 60 000 draws against the distribution in f64. A right sampler fails once in a million times; the
/// draws are the same on every run.
pub(crate) fn draws_follow((_, choice, by): Way, device: &Device) -> Result<(), Failed> {
    let logits: Vec<f32> = Random::new(3).floats(VOCAB).iter().map(|logit| 3.0 * logit).collect();
    let (entries, by) = by.map_or((Vec::new(), PLAIN), |by| (entries(), by));
    let want = probabilities(&logits, &choice, &entries, &by);

    let change = Changed(sample::Way::Adjust, Change::one(&logits, &entries, by));
    let adjusted = run(&change, device, Target::Device(device))?;
    let adjusted: Vec<f32> = words(&adjusted[0]).map(f32::from_bits).collect();
    let tokens = run(&Draw::often(&adjusted, choice, DRAWS), device, Target::Device(device))?;
    let mut counts = vec![0.0f64; VOCAB];
    for token in words(&tokens[0]) {
        *counts.get_mut(token as usize).ok_or("an id outside of the vocabulary")? += 1.0;
    }

    // Cells of too few draws are one cell.
    let (mut cells, mut rest) = (Vec::new(), (0.0, 0.0));
    for (id, (&count, &probability)) in counts.iter().zip(&want).enumerate() {
        let expected = probability * DRAWS as f64;
        match expected {
            0.0 if count > 0.0 => return Err(format!("token {id} was drawn and must not be").into()),
            0.0 => {}
            few if few < 10.0 => rest = (rest.0 + count, rest.1 + few),
            _ => cells.push((count, expected)),
        }
    }
    if rest.1 > 0.0 {
        cells.push(rest);
    }
    let chi_square: f64 = cells.iter().map(|(count, want)| (count - want).powi(2) / want).sum();
    let limit = one_in_a_million(cells.len() - 1);
    if cells.len() < 2 || chi_square > limit {
        return Err(
            format!("chi-square over {} cells is {chi_square:.1}, over {limit:.1}", cells.len()).into()
        );
    }
    Ok(())
}

/// Bias, repetition, presence and frequency penalties, temperature, top-k, top-p of what is left, min-p, in this order.
fn probabilities(logits: &[f32], choice: &Choice, entries: &[Entry], by: &Adjustment) -> Vec<f64> {
    let mut scores: Vec<f64> = logits.iter().map(|&logit| logit.into()).collect();
    for entry in entries {
        let score = &mut scores[entry.id as usize];
        *score += entry.bias as f64;
        if entry.count == UNSEEN {
            continue;
        }
        let repetition = by.repetition as f64;
        *score = if *score > 0.0 { *score / repetition } else { *score * repetition };
        if entry.count > 0 {
            *score -= by.presence as f64 + entry.count as f64 * by.frequency as f64;
        }
    }
    let weights: Vec<f64> = scores.iter().map(|score| (score / choice.temperature as f64).exp()).collect();
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    if choice.top_k > 0 {
        ids.truncate(choice.top_k as usize);
    }
    let mass: f64 = ids.iter().map(|&id| weights[id]).sum();
    let mut sum = 0.0;
    let reached = ids.iter().position(|&id| {
        sum += weights[id];
        sum >= choice.top_p as f64 * mass
    });
    ids.truncate(reached.map_or(ids.len(), |last| last + 1));
    let least = choice.min_p as f64 * weights[ids[0]];
    ids.retain(|&id| weights[id] >= least);
    let mass: f64 = ids.iter().map(|&id| weights[id]).sum();
    (0..logits.len()).map(|id| if ids.contains(&id) { weights[id] / mass } else { 0.0 }).collect()
}

/// What chi-square of so many degrees of freedom passes once in a million times, by Wilson and Hilferty's approximation.
fn one_in_a_million(freedom: usize) -> f64 {
    let spread = 2.0 / (9.0 * freedom as f64);
    freedom as f64 * (1.0 - spread + 4.753_4 * spread.sqrt()).powi(3)
}

/// Of equal logits the lowest id is taken: greedily, and where top-k leaves one.
pub(crate) fn ties_go_to_the_lowest_id(device: &Device) -> Result<(), Failed> {
    let mut logits = vec![-1.0f32; 700];
    [5, 6, 300, 699].into_iter().for_each(|id| logits[id] = 2.5);
    for choice in [Choice { temperature: 0.0, ..FREE }, Choice { top_k: 1, ..FREE }] {
        let tokens = run(&Draw::often(&logits, choice, 100), device, Target::Device(device))?;
        assert!(words(&tokens[0]).all(|token| token == 5), "{choice:?}");
    }
    Ok(())
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word))
}
