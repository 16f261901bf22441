//! Additions, exact; and `silu(gate) up`, whose exponential, sum, quotient and product are off by at most four units
//! in the last place. Where `e^-gate` is beyond f32 the answer is zero, and the true one below 1e-36.

use kernels::elementwise::{ADD, ADD_BIAS, Elementwise, SWIGLU};

use super::random::Random;
use super::{Case, Expect, Launch, Stage};

/// Which of the kernels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    AddBias,
    Swiglu,
}

/// Rows of `n`, and what is combined with them.
pub(crate) struct Map {
    op: Op,
    n: usize,
    y: Vec<f32>,
    x: Vec<f32>,
}

impl Map {
    /// Random rows, with values for which the exponential leaves f32 on either side.
    pub(crate) fn new(op: Op, rows: usize, n: usize) -> Self {
        let mut random = Random::new((rows * n) as u64);
        let mut y: Vec<f32> = (0..rows * n).map(|_| random.wide(4)).collect();
        let special = [0.0, -0.0, 88.0, -88.0, -88.7, -89.0, 104.0, -104.0, 1e4, -1e4, 1e-38];
        y.iter_mut().skip(3).zip(special).for_each(|(y, special)| *y = special);
        let x = (0..if op == Op::AddBias { n } else { rows * n }).map(|_| random.wide(4)).collect();
        Self { op, n, y, x }
    }
}

pub(crate) fn cases(op: Op) -> Vec<Box<dyn Case>> {
    [(1, 1), (1, 255), (1, 1024), (3, 341), (1, 1025), (17, 576), (2, 1536), (700, 7)]
        .map(|(rows, n)| Box::new(Map::new(op, rows, n)) as _)
        .into()
}

impl Case for Map {
    fn label(&self) -> String {
        format!("rows={} n={}", self.y.len() / self.n, self.n)
    }

    fn bytes(&self) -> u64 {
        (8 * self.y.len() + 4 * self.x.len()) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = Elementwise {
            y: stage.in_out(&self.y),
            x: stage.input(&self.x),
            len: self.y.len() as u64,
            n: self.n as u64,
        };
        let kernel = match self.op {
            Op::Add => &ADD,
            Op::AddBias => &ADD_BIAS,
            Op::Swiglu => &SWIGLU,
        };
        Launch::new(kernel, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let pairs = self.y.iter().zip(self.x.iter().cycle()).map(|(&y, &x)| (y as f64, x as f64));
        vec![match self.op {
            Op::Add | Op::AddBias => Expect::bits(&pairs.map(|(y, x)| (y + x) as f32).collect::<Vec<_>>()),
            Op::Swiglu => Expect::near(pairs.map(|(gate, up)| {
                let want = gate / (1.0 + (-gate).exp()) * up;
                (want, want.abs() * 4.0 * 2f64.powi(-23) + 1e-36 * up.abs())
            })),
        }]
    }
}
