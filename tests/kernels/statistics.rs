//! Draws follow the distribution they claim.

use libtest_mimic::Failed;
use runtime::device::Device;

use crate::cases::Entry;
use crate::cases::random::Random;
use crate::cases::sample::Draw;
use crate::trials::run;

/// Pearson's chi-square of 60 000 draws against the softmax in f64. With 39 degrees of freedom the statistic passes 95
/// once in a million times; the draws are the same on every run.
pub(crate) fn draws_follow_the_softmax() -> Result<(), Failed> {
    let (vocab, draws, temperature) = (40, 60_000, 1.3f32);
    let logits: Vec<f32> = Random::new(3).floats(vocab).iter().map(|logit| 3.0 * logit).collect();
    let cpu = Device::cpu(0);
    let tokens = run(&Draw::often(&logits, temperature, draws), &cpu, Entry::Device(&cpu))?;

    let mut counts = vec![0.0f64; vocab];
    for &token in tokens[0].as_chunks::<4>().0 {
        *counts.get_mut(u32::from_le_bytes(token) as usize).ok_or("an id outside of the vocabulary")? += 1.0;
    }
    let weights: Vec<f64> = logits.iter().map(|&logit| (logit as f64 / temperature as f64).exp()).collect();
    let total: f64 = weights.iter().sum();
    let expected = weights.iter().map(|weight| weight / total * draws as f64);
    let chi_square: f64 =
        counts.iter().zip(expected).map(|(count, want)| (count - want).powi(2) / want).sum();
    if chi_square > 95.0 {
        return Err(format!("chi-square is {chi_square:.1}").into());
    }
    Ok(())
}
