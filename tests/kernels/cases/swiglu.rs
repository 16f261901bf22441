//! `silu(gate) up`, whose exponential, sum, quotient and product are off by at most four units in the last place. Where
//! `e^-gate` is beyond f32 the answer is zero, and the true one below 1e-36.

use kernels::swiglu::{BF16, F16_, F32, Swiglu};

use super::float::Float;
use super::product::Sums;
use super::random::Random;
use super::rows::{expect_scaled, stage_scaled};
use super::{Case, Expect, Launch, Stage};

/// Two products, of which rows in some form are made.
pub(crate) struct Gate {
    pub(crate) form: Float,
    pub(crate) gate: Sums,
    pub(crate) up: Sums,
}

/// The exponential leaves f32 on either side; times any factor, all are within f16.
const SPECIAL: [f32; 11] = [0.0, -0.0, 88.0, -88.0, -88.7, -89.0, 104.0, -104.0, 4e3, -4e3, 1e-38];

impl Gate {
    /// Some combination of what a product may have; the second row is zeros, the third tiny.
    pub(crate) fn new(form: Float, rows: usize, n: usize, variant: usize) -> Self {
        let mut random = Random::new((rows * n + variant) as u64);
        let gate = Sums::variant(&mut random, rows, n, variant).with_row(0, &SPECIAL);
        let mut up = Sums::variant(&mut random, rows, n, variant);
        if rows > 1 && variant == 0 {
            up = up.with_row(1, &vec![0.0; n]);
        }
        if rows > 2 && variant == 0 {
            up = up.with_row(2, &(0..n).map(|_| random.float() * 1e-39).collect::<Vec<_>>());
        }
        Self { form, gate, up }
    }

    /// One row by itself.
    pub(crate) fn row(&self, row: usize) -> Self {
        Self { gate: self.gate.row(row), up: self.up.row(row), ..*self }
    }
}

pub(crate) fn cases(form: Float) -> Vec<Box<dyn Case>> {
    let shapes = [
        (1, 1),
        (1, 255),
        (5, 1024),
        (3, 341),
        (1, 1025),
        (17, 576),
        (2, 1536),
        (70, 7),
        (9, 40),
        (9, 2100),
        (2, 4500),
    ];
    let variants = shapes.into_iter().enumerate().map(|(i, (rows, n))| (rows, n, i));
    let more = (0..12).map(|variant| (4, 100, variant));
    variants.chain(more).map(|(rows, n, variant)| Box::new(Gate::new(form, rows, n, variant)) as _).collect()
}

impl Case for Gate {
    fn label(&self) -> String {
        format!("rows={} n={} {}", self.gate.rows, self.gate.n, self.gate.label())
    }

    fn bytes(&self) -> u64 {
        let written = if self.form == Float::F32 { 4 } else { 2 };
        self.gate.bytes() + self.up.bytes() + (written * self.gate.rows * self.gate.n) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let Sums { rows, n, .. } = self.gate;
        let args = Swiglu {
            gate: self.gate.stage(stage),
            up: self.up.stage(stage),
            y: stage_scaled(stage, self.form, rows, n),
            n: n as u32,
            rows: rows as u32,
        };
        let kernel = match self.form {
            Float::F32 => &F32,
            Float::F16 => &F16_,
            Float::Bf16 => &BF16,
        };
        Launch::new(kernel, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let Sums { rows, n, .. } = self.gate;
        let values = (0..rows * n).map(|i| {
            let (gate, up) = (self.gate.value(i / n, i % n) as f64, self.up.value(i / n, i % n) as f64);
            let want = gate / (1.0 + (-gate).exp()) * up;
            let smallest = 1e-36 * up.abs() + f32::from_bits(1) as f64;
            // A zero is exact.
            let off = if want == 0.0 { 0.0 } else { want.abs() * 4.0 * 2f64.powi(-23) + smallest };
            (want, off)
        });
        expect_scaled(self.form, &values.collect::<Vec<_>>())
    }
}
