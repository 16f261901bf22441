//! The residual addition by itself. Exact.

use kernels::residual::{ADD, Add};

use super::product::Sums;
use super::random::Random;
use super::{Case, Expect, Launch, Stage};

/// The residual stream and what is added to it.
pub(crate) struct Addition {
    x: Vec<f32>,
    product: Sums,
}

impl Addition {
    /// Some combination of what a product may have.
    pub(crate) fn new(rows: usize, n: usize, variant: usize) -> Self {
        let mut random = Random::new((rows * n + variant) as u64);
        let x = (0..rows * n).map(|_| random.wide(4)).collect();
        Self { x, product: Sums::variant(&mut random, rows, n, variant) }
    }
}

pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    let shapes = [(1, 1), (2, 255), (3, 1024), (5, 1025), (17, 576), (2, 4096), (70, 7)];
    let cases = shapes.into_iter().enumerate().map(|(variant, (rows, n))| Addition::new(rows, n, variant));
    cases
        .chain((0..12).map(|variant| Addition::new(3, 40, variant)))
        .map(|case| Box::new(case) as _)
        .collect()
}

impl Case for Addition {
    fn label(&self) -> String {
        format!("rows={} n={} {}", self.product.rows, self.product.n, self.product.label())
    }

    fn bytes(&self) -> u64 {
        8 * self.x.len() as u64 + self.product.bytes()
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = Add {
            x: stage.in_out(&self.x),
            product: self.product.stage(stage),
            n: self.product.n as u32,
            rows: self.product.rows as u32,
        };
        Launch::new(&ADD, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let n = self.product.n;
        let sum = |(i, &x): (usize, &f32)| (x as f64 + self.product.value(i / n, i % n) as f64) as f32;
        vec![Expect::bits(&self.x.iter().enumerate().map(sum).collect::<Vec<f32>>())]
    }
}
