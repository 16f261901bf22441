//! Stored matrix x few rows on the tensor core: the oracles of [`super::matmul`] over the rounded weights.

use kernels::qmatmul::{self, Chosen, QMatMul};
use kernels::rows::Rows;
use kernels::swiglu::Gated;
use kernels::{broad, relay, warpgroup};

use super::dequantise::Weights;
use super::product::Sums;
use super::random::Random;
use super::rows::stage_scaled;
use super::stored::{Layout, Stored};
use super::swiglu::Gate;
use super::{Case, Expect, Launch, Scale, Stage, matmul};

/// Of a matrix of few rows, of one of many, and of one whose blocks of seven warps are shared more evenly among a GPU's multiprocessors.
const FEW_ROWS: usize = 1;
pub(crate) const MANY_ROWS: usize = 8192;
pub(crate) const UNEVEN_ROWS: usize = 28_672;
/// Of a matrix that the broad kernels have blocks of 128 rows for.
pub(crate) const BLOCKS_OF_128: usize = 10_240;

/// What sums are multiplied by of which an activation is made.
const FACTOR: f32 = 0.5;

/// Kernels that multiply.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Way {
    /// Whose warps multiply by themselves.
    Warps,
    /// Whose warps multiply together.
    Group,
    /// Whose blocks make weights in scratch memory.
    Broad,
    /// Whose warps relay sums.
    Relay,
}

/// Stored weights, and rows of the type that these are rounded to.
pub(crate) struct Product {
    pub(crate) stored: Stored,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) m: usize,
    pub(crate) w: Vec<u8>,
    pub(crate) x: Vec<u16>,
    /// Rows of the matrix that the kernel is chosen for, here one of the above.
    pub(crate) rows: usize,
    /// Of which kernels it is one.
    pub(crate) way: Way,
    /// Whether half of the rows are gates, of which an activation is made.
    pub(crate) gated: bool,
}

impl Product {
    /// Random weights, and rows with exponents in `-spread..=spread`; the last row, if there are several, is zeros.
    pub(crate) fn new(stored: Stored, n: usize, k: usize, m: usize, spread: i32) -> Self {
        let mut random = Random::new((n * k + m) as u64 + spread as u64);
        let w = stored.random(&mut random, n * k);
        let mut x: Vec<u16> = (0..m * k).map(|_| stored.rounded().bits(random.wide(spread))).collect();
        if m > 1 {
            x[(m - 1) * k..].fill(0);
        }
        Self { stored, n, k, m, w, x, rows: FEW_ROWS, way: Way::Warps, gated: false }
    }

    /// One row by itself.
    pub(crate) fn row(&self, row: usize) -> Self {
        Self { m: 1, w: self.w.clone(), x: self.x[row * self.k..][..self.k].to_vec(), ..*self }
    }

    /// The kernel, if there is one.
    pub(crate) fn chosen(&self) -> Option<Chosen> {
        match self.way {
            Way::Warps => qmatmul::of(self.stored, self.rows, self.m, usize::MAX),
            Way::Group => warpgroup::of(self.stored, self.rows, self.m),
            Way::Broad => broad::of(self.stored, self.rows, self.m),
            Way::Relay => relay::of(self.stored, self.rows, self.m, usize::MAX)
                .map(|kernel| Chosen { kernel, gates: false }),
        }
    }

    /// The activation of this product's gates and of what these gate, whose sums its kernel left.
    pub(crate) fn activation(&self, sums: &[f32]) -> Gate {
        let form = self.stored.rounded();
        let part = |i| Sums::part(sums, (self.n, self.n / 2, i), FACTOR, form);
        Gate { form, gate: part(0), up: part(1) }
    }

    /// The stored weights.
    pub(crate) fn weights(&self) -> Weights {
        Weights { stored: self.stored, bytes: self.w.clone() }
    }

    /// The product with these weights, rounded.
    pub(crate) fn with_halves(&self, w: Vec<u16>) -> matmul::Product {
        let Self { n, k, m, .. } = *self;
        matmul::Product { input: self.stored.rounded(), n, k, m, w, x: self.x.clone() }
    }
}

pub(crate) fn cases(stored: Stored, scale: Scale) -> Vec<Box<dyn Case>> {
    let mut shapes = vec![(1, 32, 1, 1), (15, 64, 2, 12), (16, 96, 8, 1), (33, 32, 9, 12), (9, 320, 18, 3)];
    if scale == Scale::Full {
        for m in 1..=17 {
            let (n, k) = ([1, 15, 16, 33][m % 4], [32, 64, 96, 576][m / 4 % 4]);
            shapes.extend([(n, k, m, 1), (n, k, m, 12)]);
        }
        shapes.extend([(33, 1536, 17, 1), (16, 1536, 3, 12), (200, 576, 1, 4), (47, 64, 24, 2)]);
        // More tokens than a step has, than a block; slices that end within.
        shapes.extend([(40, 544, 64, 2), (33, 1312, 70, 3), (170, 2048, 33, 1), (8, 1024, 131, 2)]);
        // Rows that begin with a line, and slices that do not.
        shapes.push((70, 2048, 5, 3));
    }
    let ways =
        shapes.into_iter().flat_map(|shape| [FEW_ROWS, MANY_ROWS, UNEVEN_ROWS].map(|rows| (shape, rows)));
    // Of up to 8 tokens there is one kernel for 16-bit weights, and of more than that one of many rows.
    ways.filter(
        |((_, _, m, _), rows)| {
            if *m > 8 { *rows != UNEVEN_ROWS } else { *rows == FEW_ROWS || stored.is_quantised() }
        },
    )
    .map(|((n, k, m, spread), rows)| {
        Box::new(Product { rows, ..Product::new(stored, n, stored.row_length(k), m, spread) }) as _
    })
    .collect()
}

/// Of the kernels whose warps multiply together.
pub(crate) fn group_cases(stored: Stored, scale: Scale) -> Vec<Box<dyn Case>> {
    let mut shapes = vec![(65, 320, 9, 3)];
    if scale == Scale::Full {
        // All tokens of a block and fewer; slices that end within; more rows and more tokens than a block has.
        shapes.extend([
            (1, 32, 32, 12),
            (33, 2048, 18, 2),
            (200, 544, 33, 4),
            (47, 1312, 64, 1),
            (129, 96, 70, 12),
        ]);
        shapes.extend([(64, 1024, 128, 2), (130, 256, 131, 3)]);
    }
    let ways = shapes.into_iter().flat_map(|shape| [FEW_ROWS, MANY_ROWS].map(|rows| (shape, rows)));
    ways.filter(|((_, _, m, _), rows)| warpgroup::of(stored, *rows, *m).is_some())
        .map(|((n, k, m, spread), rows)| {
            let product = Product::new(stored, n, stored.row_length(k), m, spread);
            Box::new(Product { rows, way: Way::Group, ..product }) as _
        })
        .collect()
}

/// Of the kernels whose blocks make weights in scratch memory.
pub(crate) fn broad_cases(stored: Stored, scale: Scale) -> Vec<Box<dyn Case>> {
    let mut shapes = vec![(256, 256, 70, 3)];
    if scale == Scale::Full {
        // All tokens of a block and fewer; more rows and more tokens than a block has, and many slices.
        shapes.extend([(256, 512, 128, 12), (512, 256, 131, 2), (256, 2304, 65, 1), (256, 1024, 200, 3)]);
    }
    let ways = shapes.into_iter().flat_map(|shape| [BLOCKS_OF_128, UNEVEN_ROWS].map(|rows| (shape, rows)));
    ways.map(|((n, k, m, spread), rows)| {
        Box::new(Product { rows, way: Way::Broad, ..Product::new(stored, n, k, m, spread) }) as _
    })
    .collect()
}

/// Of the kernels whose warps relay sums.
pub(crate) fn relay_cases(stored: Stored, scale: Scale) -> Vec<Box<dyn Case>> {
    let mut shapes = vec![(17, 1120, 2, 3)];
    if scale == Scale::Full {
        // Fewer slices than warps, slices that end within, as many as are on the way, and more.
        shapes.extend([
            (1, 32, 1, 12),
            (16, 256, 2, 12),
            (33, 1024, 1, 1),
            (15, 1312, 2, 1),
            (47, 2304, 1, 2),
        ]);
        shapes.extend([(40, 4096, 1, 3), (200, 576, 2, 4), (9, 4640, 1, 2), (34, 768, 1, 12)]);
    }
    shapes
        .into_iter()
        .map(|(n, k, m, spread)| {
            let mut product =
                Product { way: Way::Relay, ..Product::new(stored, n, stored.row_length(k), m, spread) };
            // Whichever token it is that is zeros.
            if n % 2 == 0 {
                product.x.rotate_left(product.k);
            }
            Box::new(product) as _
        })
        .collect()
}

impl Case for Product {
    fn label(&self) -> String {
        let Self { n, k, m, rows, .. } = self;
        format!("n={n} k={k} m={m} as of {rows} rows")
    }

    fn bytes(&self) -> u64 {
        let written = if self.gated { 1 } else { 4 };
        (self.w.len() + 2 * self.x.len() + written * self.m * self.n) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        // What fills the last 16 bytes up is of no weight.
        let mut w = self.w.clone();
        w.resize(w.len().next_multiple_of(16), 0xff);
        let args = QMatMul {
            w: stage.input(&w),
            x: stage.input(&self.x),
            y: if self.gated { stage.nothing() } else { stage.output(self.m * self.n) },
            gated: if self.gated {
                let Rows { bits, scale, .. } = stage_scaled(stage, self.stored.rounded(), self.m, self.n / 2);
                Gated { y: bits, scale, factor: FACTOR }
            } else {
                Gated::nothing()
            },
            k: self.k as u32,
            n: self.n as u32,
            m: self.m as u32,
        };
        Launch::new(self.chosen().expect("a case that has a kernel").kernel, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        assert!(!self.gated, "an activation is compared with another kernel's");
        self.with_halves(self.weights().halves()).oracle()
    }
}
