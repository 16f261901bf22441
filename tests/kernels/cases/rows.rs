//! Rows in the form that a product reads. Rounding alone is exact: f16 after a multiplication by
//! `2^(14 - floor(log2 max|x|))`, whose exponent stays within -126 and 126.
//!
//! Where the rows are computed first, what is off before rounding is off after it, and rounding adds half a unit in the
//! last place.

use kernels::rows::{BF16, F16_, Round, Rows, Shared, parts};

use super::float::Float;
use super::random::Random;
use super::{Case, Expect, Launch, Stage};

/// Rows to be written in a 16-bit form.
pub(crate) struct Rounded {
    pub(crate) form: Float,
    pub(crate) n: usize,
    pub(crate) x: Vec<f32>,
}

impl Rounded {
    /// Rows of every size: zeros, subnormals, the smallest and the greatest numbers, ordinary ones.
    pub(crate) fn new(form: Float, rows: usize, n: usize) -> Self {
        let mut random = Random::new((rows * n) as u64);
        let mut x = Vec::with_capacity(rows * n);
        for row in 0..rows {
            let size =
                [1.0, 0.0, 1e-40, f32::MAX, 2f32.powi(-112), 2f32.powi(-113), 1e-5, 2f32.powi(20)][row % 8];
            x.extend((0..n).map(|_| random.wide(if row % 3 == 0 { 0 } else { 9 }).clamp(-1.0, 1.0) * size));
            // The greatest is a power of two, or just below one, or at the end.
            let at = [0, n / 2, n - 1][row % 3];
            x[row * n + at] = [size, -size, size.next_down().max(0.0)][row / 2 % 3];
        }
        Self { form, n, x }
    }
}

pub(crate) fn cases(form: Float) -> Vec<Box<dyn Case>> {
    [(1, 1), (8, 2), (17, 255), (9, 576), (24, 513), (2, 4096)]
        .map(|(rows, n)| Box::new(Rounded::new(form, rows, n)) as _)
        .into()
}

impl Case for Rounded {
    fn label(&self) -> String {
        format!("rows={} n={}", self.x.len() / self.n, self.n)
    }

    fn bytes(&self) -> u64 {
        6 * self.x.len() as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let rows = self.x.len() / self.n;
        let args = Round {
            x: stage.input(&self.x),
            y: stage_rows(stage, self.form, rows, self.n),
            n: self.n as u32,
            rows: rows as u32,
        };
        Launch::new(if self.form == Float::F16 { &F16_ } else { &BF16 }, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        if self.form == Float::Bf16 {
            return vec![Expect::bits(&self.x.iter().map(|&x| Float::Bf16.bits(x)).collect::<Vec<_>>())];
        }
        let (mut bits, mut factors) = (Vec::new(), Vec::new());
        for x in self.x.chunks_exact(self.n) {
            let up = up(x.iter().fold(0.0, |most, &x| (x as f64).abs().max(most)));
            bits.extend(x.iter().map(|&x| half::f16::from_f64(x as f64 * 2f64.powi(up)).to_bits()));
            factors.push(2f32.powi(-up));
        }
        vec![Expect::bits(&bits), Expect::bits(&factors)]
    }
}

/// The exponent of what a row in the form f16 is multiplied by, given its greatest magnitude.
fn up(most: f64) -> i32 {
    if most == 0.0 {
        return 0;
    }
    (14 - power(most)).clamp(-126, 126)
}

/// The exponent of the greatest power of two that is not above a positive number.
pub(crate) fn power(number: f64) -> i32 {
    (-1100..1024).rev().find(|&n| 2f64.powi(n) <= number).unwrap_or(-1100)
}

/// Memory for rows, in the order of what [`expect_rows`] answers; where there are few of the form f16, blocks may share one.
pub(crate) fn stage_rows(stage: &mut Stage, form: Float, rows: usize, n: usize) -> Rows {
    let nothing = Shared { values: stage.nothing(), tops: stage.nothing(), done: stage.nothing() };
    match form {
        Float::F32 => Rows {
            values: stage.output(rows * n),
            bits: stage.nothing(),
            factors: stage.nothing(),
            shared: nothing,
        },
        _ => Rows {
            values: stage.nothing(),
            // A 16-bit float may have the bits of the stage's poison: not as an output. These are NaNs.
            bits: stage.in_out(&vec![u16::MAX; rows * n]),
            factors: if form == Float::F16 { stage.output(rows) } else { stage.nothing() },
            shared: if form == Float::F16 && rows < 8 {
                Shared {
                    values: stage.workspace(rows * n),
                    tops: stage.workspace(rows * parts(n)),
                    done: stage.counters(rows),
                }
            } else {
                nothing
            },
        },
    }
}

/// In place of rows that a kernel does not write.
pub(crate) fn no_rows(stage: &Stage) -> Rows {
    let shared = Shared { values: stage.nothing(), tops: stage.nothing(), done: stage.nothing() };
    Rows { values: stage.nothing(), bits: stage.nothing(), factors: stage.nothing(), shared }
}

/// What `rows` rows hold whose elements are computed, each so far off at most, and not scaled.
pub(crate) fn expect_unscaled(form: Float, rows: usize, values: &[(f64, f64)]) -> Vec<Expect> {
    let rounded = values.iter().map(|&(value, off)| (value, off + form.half_unit(value.abs() + off)));
    match form {
        Float::F32 => vec![Expect::near(values.iter().copied())],
        Float::Bf16 => vec![Expect::near_as(form, rounded)],
        Float::F16 => vec![Expect::near_as(form, rounded), Expect::bits(&vec![1.0f32; rows])],
    }
}

/// What rows hold whose elements are computed, each so far off at most.
pub(crate) fn expect_rows(form: Float, n: usize, values: &[(f64, f64)]) -> Vec<Expect> {
    if form == Float::F32 {
        return vec![Expect::near(values.iter().copied())];
    }
    let up = |row: &[(f64, f64)]| {
        let most = |sign: f64| {
            row.iter().map(|(value, off)| (value.abs() + sign * off).max(0.0)).fold(0.0, f64::max)
        };
        let up = if form == Float::F16 { self::up(most(1.0)) } else { 0 };
        let sure = form != Float::F16 || up == self::up(most(-1.0));
        assert!(sure, "the oracle cannot tell a row's factor: the case needs other numbers");
        up
    };
    expect_scaled(form, n, values, &values.chunks_exact(n).map(up).collect::<Vec<_>>())
}

/// What rows hold whose elements are computed, each so far off at most, where those of the form f16 are multiplied by `2^up`.
pub(crate) fn expect_scaled(form: Float, n: usize, values: &[(f64, f64)], up: &[i32]) -> Vec<Expect> {
    if form == Float::F32 {
        return vec![Expect::near(values.iter().copied())];
    }
    let (mut pairs, mut factors) = (Vec::new(), Vec::new());
    for (row, &up) in values.chunks_exact(n).zip(up) {
        let up = if form == Float::F16 { up } else { 0 };
        factors.push(2f32.powi(-up));
        pairs.extend(row.iter().map(|(value, off)| {
            let (value, off) = (value * 2f64.powi(up), off * 2f64.powi(up));
            (value, off + form.half_unit(value.abs() + off))
        }));
    }
    let mut expected = vec![Expect::near_as(form, pairs)];
    if form == Float::F16 {
        expected.push(Expect::bits(&factors));
    }
    expected
}
