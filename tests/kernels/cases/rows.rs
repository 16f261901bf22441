//! Rows in the form that a product reads. Rounding alone is exact: f16 after a multiplication, and no further than its greatest number.
//!
//! Where the rows are computed first, what is off before rounding is off after it, and rounding adds half a unit in the
//! last place.

use kernels::rows::{BF16, F16_, Round, Rows};

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
            y: stage_scaled(stage, self.form, rows, self.n),
            n: self.n as u32,
            rows: rows as u32,
        };
        Launch::new(if self.form == Float::F16 { &F16_ } else { &BF16 }, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let value = |x: f32| if self.form == Float::F16 { (x * SCALE).clamp(-MOST, MOST) } else { x };
        vec![Expect::bits(&self.x.iter().map(|&x| self.form.bits(value(x))).collect::<Vec<_>>())]
    }
}

/// What the rows of these tests are multiplied by in the form f16: what would be another's shows.
const SCALE: f32 = 0.25;
/// The greatest number of f16.
const MOST: f32 = 65504.0;

/// Memory for rows, in the order of what [`expect_scaled`] answers.
pub(crate) fn stage_scaled(stage: &mut Stage, form: Float, rows: usize, n: usize) -> Rows {
    let scale = if form == Float::F16 { SCALE } else { 0.0 };
    match form {
        Float::F32 => Rows { values: stage.output(rows * n), bits: stage.nothing(), scale },
        _ => Rows {
            values: stage.nothing(),
            // A 16-bit float may have the bits of the stage's poison: not as an output. These are NaNs.
            bits: stage.in_out(&vec![u16::MAX; rows * n]),
            scale,
        },
    }
}

/// Memory for rows whose scale is 1, for [`expect_rows`].
pub(crate) fn stage_rows(stage: &mut Stage, form: Float, rows: usize, n: usize) -> Rows {
    let rows = stage_scaled(stage, form, rows, n);
    Rows { scale: if form == Float::F16 { 1.0 } else { 0.0 }, ..rows }
}

/// In place of rows that a kernel does not write.
pub(crate) fn no_rows(stage: &Stage) -> Rows {
    Rows { values: stage.nothing(), bits: stage.nothing(), scale: 0.0 }
}

/// What rows hold whose elements are computed, each so far off at most.
pub(crate) fn expect_rows(form: Float, values: &[(f64, f64)]) -> Vec<Expect> {
    let most = if form == Float::F16 { MOST as f64 } else { f64::INFINITY };
    let rounded = values.iter().map(|&(value, off)| {
        let value = value.clamp(-most, most);
        (value, off + form.half_unit(value.abs() + off))
    });
    match form {
        Float::F32 => vec![Expect::near(values.iter().copied())],
        _ => vec![Expect::near_as(form, rounded)],
    }
}

/// The same of [`stage_scaled`].
pub(crate) fn expect_scaled(form: Float, values: &[(f64, f64)]) -> Vec<Expect> {
    let scale = if form == Float::F16 { SCALE as f64 } else { 1.0 };
    expect_rows(form, &values.iter().map(|&(value, off)| (value * scale, off * scale)).collect::<Vec<_>>())
}
