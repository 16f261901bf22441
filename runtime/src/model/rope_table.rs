//! The angles of rotary position embedding, computed once on the host with a portable `libm`: every machine gets the same
//! bits.

use std::f64::consts::TAU;

use crate::device::{Device, Purpose};
use crate::gguf::{Content, Gguf, TensorType};
use crate::model::ModelError;
use crate::model::config::{ModelConfig, RopeConfig, Scaling};
use crate::ops::RopeTable;
use crate::synthetic;

/// Divides each frequency, where a model has it (Llama 3.1 and later).
const FACTORS: &str = "rope_freqs.weight";
/// In its place in contexts up to the original one, and beyond.
const SHORT_AND_LONG: [&str; 2] = ["rope_factors_short.weight", "rope_factors_long.weight"];

/// Cosines and sines for `context` positions.
pub(super) fn load(
    device: &Device,
    gguf: &Gguf,
    config: &ModelConfig,
    context: usize,
) -> Result<RopeTable, ModelError> {
    let rope = config.rope;
    let frequencies = frequencies(&rope, divisors(gguf, &rope, context)?);
    // A planned device keeps none.
    let computed = if device.is_planned() { 0 } else { context };
    let mut angles = Vec::with_capacity(computed * rope.rotated);
    for position in 0..computed {
        for frequency in &frequencies {
            let (sin, cos) = libm::sincos(position as f64 * frequency);
            angles.extend([(cos * rope.magnitude) as f32, (sin * rope.magnitude) as f32]);
        }
    }
    // Where nothing turns, memory that nobody reads.
    let mut buffer = device.alloc(Purpose::Inputs, (context * rope.rotated).max(1))?;
    device.upload(&mut buffer, 0, &angles)?;
    Ok(RopeTable { angles: buffer, rotated: rope.rotated, pairing: rope.pairing })
}

/// Radians a position, of each pair.
fn frequencies(rope: &RopeConfig, divisors: Vec<f64>) -> Vec<f64> {
    let pair = |(i, divisor): (usize, f64)| {
        let frequency = libm::pow(rope.base, -2.0 * i as f64 / rope.rotated as f64);
        match rope.scaling {
            Scaling::Long { .. } => frequency / divisor,
            Scaling::Linear { factor } => frequency / factor / divisor,
            Scaling::Yarn { factor, .. } => {
                let (frequency, keep) = (frequency / divisor, kept(rope, i as f64));
                frequency * keep + frequency / factor * (1.0 - keep)
            }
        }
    };
    divisors.into_iter().enumerate().map(pair).collect()
}

/// How much of the frequency of pair `i` YaRN keeps: 1 of a fast one, 0 of a slow one. The range between is rounded to whole
/// pairs, as programs that read GGUF do, unless the file says otherwise.
fn kept(rope: &RopeConfig, i: f64) -> f64 {
    let Scaling::Yarn { original, beta_fast, beta_slow, truncate, .. } = rope.scaling else { return 1.0 };
    let rotated = rope.rotated as f64;
    // The pair that turns so often over the original context.
    let pair = |turns: f64| rotated * libm::log(original / (turns * TAU)) / (2.0 * libm::log(rope.base));
    let (mut low, mut high) = (pair(beta_fast), pair(beta_slow));
    if truncate {
        (low, high) = (libm::floor(low), libm::ceil(high));
    }
    let (low, high) = (low.max(0.0), high.min(rotated - 1.0));
    1.0 - ((i - low) / (high - low).max(0.001)).clamp(0.0, 1.0)
}

/// What the file divides the frequency of each pair by.
fn divisors(gguf: &Gguf, rope: &RopeConfig, context: usize) -> Result<Vec<f64>, ModelError> {
    let half = rope.rotated / 2;
    let name = match rope.scaling {
        Scaling::Long { original } => SHORT_AND_LONG[usize::from(context > original)],
        _ => FACTORS,
    };
    let wrong =
        |problem: String| ModelError::Tensor { path: gguf.path().to_owned(), name: name.to_owned(), problem };
    let Some(tensor) = gguf.tensor(name) else {
        return if name == FACTORS { Ok(vec![1.0; half]) } else { Err(wrong("is missing".to_owned())) };
    };
    if tensor.ty != TensorType::F32 || tensor.values() != half {
        return Err(wrong(format!("is {:?} {:?}, F32 [{half}] was expected", tensor.ty, tensor.dims)));
    }
    let data = match gguf.content() {
        Content::Stored => gguf.data(tensor)?,
        Content::Drawn(seed) => synthetic::drawn_bytes(tensor, seed)?,
    };
    let factors = data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes) as f64);
    let factors: Vec<f64> = factors.collect();
    match factors.iter().find(|&&factor| !factor.is_finite() || factor == 0.0) {
        Some(factor) => Err(wrong(format!("a factor is {factor}"))),
        None => Ok(factors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Pairing;

    #[test]
    fn yarn_keeps_fast_pairs_divides_slow_ones_and_mixes_those_between() {
        let of = |truncate| {
            let scaling =
                Scaling::Yarn { factor: 32.0, original: 4096.0, beta_fast: 32.0, beta_slow: 1.0, truncate };
            let pairing = Pairing::SplitHalf;
            let rope = RopeConfig { rotated: 64, base: 150_000.0, pairing, scaling, magnitude: 1.0 };
            frequencies(&rope, vec![1.0; 32])
        };
        let (truncated, exact) = (of(true), of(false));
        // By an independent reference, with a range that is rounded to whole pairs and one that is not.
        for (pair, rounded, unrounded) in [
            (0, 1.0, 1.0),
            (8, 5.081_327_481_546_147e-2, 5.081_327_481_546_147e-2),
            (9, 3.162_075_227_534_648e-2, 3.170_569_618_466_377e-2),
            (12, 7.015_713_910_504_388e-3, 6.794_959_489_732_219e-3),
            (17, 2.279_477_957_951_252e-4, 1.293_187_012_450_632e-4),
            (18, 3.830_881_237_375_338e-5, 3.830_881_237_375_338e-5),
            (31, 3.023_511_428_119_214_4e-7, 3.023_511_428_119_214_4e-7),
        ] {
            for (got, want) in [(truncated[pair], rounded), (exact[pair], unrounded)] {
                let got: f64 = got;
                assert!((got - want).abs() <= 1e-12 * want, "pair {pair}: {got:e} for {want:e}");
            }
        }
    }
}
