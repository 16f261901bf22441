//! What reads the products of pairs of a token and an expert: the clamped activation, and the sum of a token's experts.
//!
//! Tolerances: an activation's exponential, sum, quotient and product are off by at most five units in the last place, and
//! its exponential by what a rounding of its argument makes of it; a sum by a rounding for each expert.

use kernels::expert_sum::{ExpertSum, SUM};
use kernels::expert_swiglu::{BF16, ExpertSwiglu, F16_, F32};
use kernels::experts::ExpertProduct;

use super::float::Float;
use super::random::Random;
use super::rows::{expect_scaled, stage_scaled};
use super::{Case, Expect, Launch, Stage};

/// Sums of pairs, and what makes values of them.
#[derive(Clone)]
pub(crate) struct PairSums {
    chosen: Vec<u32>,
    n: usize,
    sums: Vec<f32>,
    factor: f32,
    /// `[experts, n]`, NaN where nobody chose the expert.
    bias: Option<Vec<f32>>,
    rounding: Float,
}

impl PairSums {
    /// Number `variant` of the combinations: with a factor or without, with biases or without, rounded to each type.
    fn variant(random: &mut Random, chosen: &[u32], n: usize, variant: usize) -> Self {
        let experts = chosen.iter().max().map_or(0, |&expert| expert as usize) + 1;
        let mut bias = Vec::new();
        for expert in 0..experts as u32 {
            bias.extend((0..n).map(|_| if chosen.contains(&expert) { random.wide(3) } else { f32::NAN }));
        }
        let factor = 2f32.powi(random.below(9) as i32 - 4);
        Self {
            chosen: chosen.to_vec(),
            n,
            sums: (0..chosen.len() * n).map(|_| random.wide(4)).collect(),
            factor: if variant % 2 == 1 { factor } else { 1.0 },
            bias: (variant / 2 % 2 == 1).then_some(bias),
            rounding: Float::ALL[variant % 3],
        }
    }

    fn value(&self, pair: usize, i: usize) -> f32 {
        let mut value = self.sums[pair * self.n + i] * self.factor;
        if let Some(bias) = &self.bias {
            value += bias[self.chosen[pair] as usize * self.n + i];
        }
        self.rounding.round(value)
    }

    fn stage(&self, stage: &mut Stage) -> ExpertProduct {
        ExpertProduct {
            sums: stage.input(&self.sums),
            bias: stage.optional(self.bias.as_deref()),
            chosen: stage.input(&self.chosen),
            factor: self.factor,
            n: self.n as u32,
            rounding: self.rounding.rounding(),
        }
    }
}

/// Pairs of some tokens.
fn chosen(random: &mut Random, tokens: usize, used: usize) -> Vec<u32> {
    (0..tokens * used).map(|_| 2 * random.below(6) as u32).collect()
}

/// The activation.
pub(crate) struct Clamped {
    form: Float,
    gate: PairSums,
    up: PairSums,
    alpha: f32,
    limit: f32,
}

/// Around the limits, and where the exponential leaves f32.
const SPECIAL: [f32; 12] = [0.0, -0.0, 6.999, 7.0, 7.001, -7.0, -7.001, 60.0, -60.0, -1.0, 4e3, -4e3];

impl Clamped {
    pub(crate) fn new(form: Float, tokens: usize, used: usize, n: usize, variant: usize) -> Self {
        let mut random = Random::new((tokens * n + variant) as u64);
        let chosen = chosen(&mut random, tokens, used);
        let sums = |random: &mut Random| PairSums::variant(random, &chosen, n, variant);
        let (mut gate, mut up) = (sums(&mut random), sums(&mut random));
        for (i, &value) in SPECIAL.iter().enumerate().take(n) {
            gate.sums[i] = value;
            up.sums[i] = SPECIAL[(i * 5 + 3) % SPECIAL.len()];
        }
        Self { form, gate, up, alpha: 1.702, limit: 7.0 }
    }
}

pub(crate) fn activations(form: Float) -> Vec<Box<dyn Case>> {
    let shapes = [(1, 1, 1), (1, 4, 255), (3, 4, 1025), (2, 2, 2880), (9, 3, 40)];
    let shapes = shapes.into_iter().chain((0..7).map(|_| (4, 2, 100)));
    shapes
        .enumerate()
        .map(|(variant, (tokens, used, n))| Box::new(Clamped::new(form, tokens, used, n, variant)) as _)
        .collect()
}

impl Case for Clamped {
    fn label(&self) -> String {
        format!("pairs={} n={} rounding={}", self.gate.chosen.len(), self.gate.n, self.gate.rounding.name())
    }

    fn bytes(&self) -> u64 {
        let written = if self.form == Float::F32 { 4 } else { 2 };
        ((8 + written) * self.gate.sums.len()) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let (pairs, n) = (self.gate.chosen.len(), self.gate.n);
        let args = ExpertSwiglu {
            gate: self.gate.stage(stage),
            up: self.up.stage(stage),
            y: stage_scaled(stage, self.form, pairs, n),
            alpha: self.alpha,
            limit: self.limit,
            n: n as u32,
            pairs: pairs as u32,
        };
        let kernel = match self.form {
            Float::F32 => &F32,
            Float::F16 => &F16_,
            Float::Bf16 => &BF16,
        };
        Launch::new(kernel, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let (n, limit) = (self.gate.n, self.limit as f64);
        let values = (0..self.gate.sums.len()).map(|i| {
            let gate = (self.gate.value(i / n, i % n) as f64).min(limit);
            let up = (self.up.value(i / n, i % n) as f64).clamp(-limit, limit);
            let argument = -(self.alpha as f64) * gate;
            let want = gate / (1.0 + argument.exp()) * (up + 1.0);
            let unit = 2f64.powi(-23);
            // `up + 1` is rounded, too, so that where it nearly vanishes its unit counts.
            let off = want.abs() * unit * (5.0 + argument.abs().min(104.0)) + 1e-36 * (up.abs() + 1.0);
            (want, if gate == 0.0 { 0.0 } else { off })
        });
        expect_scaled(self.form, &values.collect::<Vec<_>>())
    }
}

/// The sum of each token's experts.
pub(crate) struct Together {
    values: PairSums,
    used: usize,
    weights: Vec<f32>,
}

impl Together {
    pub(crate) fn new(tokens: usize, used: usize, n: usize, variant: usize) -> Self {
        let mut random = Random::new((tokens * n + variant) as u64);
        let chosen = chosen(&mut random, tokens, used);
        let values = PairSums::variant(&mut random, &chosen, n, variant);
        let weights = random.floats(tokens * used);
        Self { values, used, weights }
    }

    /// One token by itself.
    pub(crate) fn token(&self, token: usize) -> Self {
        let (used, n) = (self.used, self.values.n);
        let values = PairSums {
            chosen: self.values.chosen[token * used..][..used].to_vec(),
            sums: self.values.sums[token * used * n..][..used * n].to_vec(),
            ..self.values.clone()
        };
        Self { values, used, weights: self.weights[token * used..][..used].to_vec() }
    }
}

pub(crate) fn sums() -> Vec<Box<dyn Case>> {
    let shapes = [(1, 1, 1), (1, 4, 1024), (3, 4, 2880), (2, 8, 1025), (9, 3, 40), (5, 2, 64)];
    let cases = shapes.into_iter().flat_map(|(tokens, used, n)| {
        [0, 1, 2, 3, 4].map(|variant| Box::new(Together::new(tokens, used, n, variant)) as _)
    });
    cases.collect()
}

impl Case for Together {
    fn label(&self) -> String {
        format!("tokens={} used={} n={}", self.weights.len() / self.used, self.used, self.values.n)
    }

    fn bytes(&self) -> u64 {
        (4 * (self.values.sums.len() + self.values.sums.len() / self.used)) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let (tokens, n) = (self.weights.len() / self.used, self.values.n);
        let args = ExpertSum {
            values: self.values.stage(stage),
            weights: stage.input(&self.weights),
            y: stage.output(tokens * n),
            n: n as u32,
            used: self.used as u32,
            tokens: tokens as u32,
        };
        Launch::new(&SUM, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let (used, n) = (self.used, self.values.n);
        let all = (0..self.weights.len() / used * n).map(|at| {
            let (token, i) = (at / n, at % n);
            let terms = (token * used..(token + 1) * used)
                .map(|pair| self.weights[pair] as f64 * self.values.value(pair, i) as f64);
            let terms: Vec<f64> = terms.collect();
            let magnitude: f64 = terms.iter().map(|term| term.abs()).sum();
            (terms.iter().sum(), magnitude * used as f64 * 2f64.powi(-24))
        });
        vec![Expect::near(all)]
    }
}
