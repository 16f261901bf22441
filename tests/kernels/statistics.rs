//! Draws follow the distribution they claim, and ties go where they should.

use kernels::sample::Choice;
use libtest_mimic::Failed;
use runtime::device::Device;

use crate::cases::Entry;
use crate::cases::random::Random;
use crate::cases::sample::{Draw, Repeat};
use crate::trials::run;

const VOCAB: usize = 40;
const DRAWS: usize = 60_000;

/// A way to choose. `random` is not used.
type Way = (&'static str, Choice, f32);

const FREE: Choice = Choice { random: 0, temperature: 1.3, top_p: 1.0, min_p: 0.0, top_k: 0 };

/// By name, with a repetition penalty on every third token.
pub(crate) const WAYS: [Way; 7] = [
    ("softmax", FREE, 1.0),
    ("top_k", Choice { top_k: 7, ..FREE }, 1.0),
    ("top_p", Choice { top_p: 0.8, ..FREE }, 1.0),
    ("min_p", Choice { min_p: 0.1, ..FREE }, 1.0),
    ("penalty", FREE, 1.8),
    ("a_low_temperature", Choice { temperature: 0.4, ..FREE }, 1.0),
    ("everything", Choice { top_k: 12, top_p: 0.9, min_p: 0.05, temperature: 0.9, random: 0 }, 1.3),
];

/// Pearson's chi-square of 60 000 draws against the distribution in f64. A right sampler fails once in a million times; the
/// draws are the same on every run.
pub(crate) fn draws_follow((_, choice, penalty): Way, device: &Device) -> Result<(), Failed> {
    let logits: Vec<f32> = Random::new(3).floats(VOCAB).iter().map(|logit| 3.0 * logit).collect();
    let seen: Vec<u32> = (0..VOCAB as u32).step_by(3).collect();
    let want = probabilities(&logits, &choice, &seen, penalty);

    let penalised = run(&Repeat::one(&logits, &seen, penalty), device, Entry::Device(device))?;
    let penalised: Vec<f32> = words(&penalised[0]).map(f32::from_bits).collect();
    let tokens = run(&Draw::often(&penalised, choice, DRAWS), device, Entry::Device(device))?;
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

/// Repetition penalty, temperature, top-k, top-p of what is left, min-p, in this order.
fn probabilities(logits: &[f32], choice: &Choice, seen: &[u32], penalty: f32) -> Vec<f64> {
    let mut scores: Vec<f64> = logits.iter().map(|&logit| logit.into()).collect();
    for &id in seen {
        let score = &mut scores[id as usize];
        *score = if *score > 0.0 { *score / penalty as f64 } else { *score * penalty as f64 };
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
        let tokens = run(&Draw::often(&logits, choice, 100), device, Entry::Device(device))?;
        assert!(words(&tokens[0]).all(|token| token == 5), "{choice:?}");
    }
    Ok(())
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word))
}
