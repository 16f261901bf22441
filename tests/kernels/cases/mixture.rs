//! Experts' matrices x the rows of their tokens: `y[p] = w[expert(p)] x[p / share]`, in the tolerance of [`super::matvec`], or
//! the bits of the tensor core's exact model. Experts without a pair are NaN, and those behind the last one with a pair are
//! not there: who reads them is found.

use kernels::expert_matmul::{self, ExpertMatMul};
use kernels::expert_matvec::{self, ExpertMatVec};

use super::float::Float;
use super::random::Random;
use super::router::Grouping;
use super::stored::{Layout, Stored};
use super::{Case, Expect, Launch, Scale, Stage, matmul, matvec};

/// Which kernels compute it, with tiles of so many pairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// f32 chains: 1 or 8.
    Chain(usize),
    /// The tensor core: one of [`expert_matmul::TILES`].
    TensorCore(usize),
}

/// The sizes of a mixture.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) experts: usize,
    /// Experts of a token.
    pub(crate) used: usize,
    /// Pairs that multiply the same row: `used`, or 1.
    pub(crate) share: usize,
}

/// Experts' weights, and the rows of some pairs.
#[derive(Clone)]
pub(crate) struct Mixture {
    pub(crate) stored: Stored,
    pub(crate) way: Way,
    pub(crate) shape: Shape,
    pub(crate) chosen: Vec<u32>,
    /// `[experts, n, k]`.
    pub(crate) w: Vec<u8>,
    /// `[pairs / share, k]`.
    pub(crate) x: Vec<f32>,
}

impl Mixture {
    /// Each token chooses among `popular` experts, every second one from the second on.
    pub(crate) fn new(stored: Stored, way: Way, shape: Shape, tokens: usize, popular: usize) -> Self {
        let Shape { n, k, experts, used, share } = shape;
        let mut random = Random::new((n * k + tokens) as u64);
        let chosen: Vec<u32> = (0..tokens * used)
            .map(|pair| {
                // Neighbours differ, as a token's experts do.
                let among = (random.below(popular) + pair) % popular;
                ((1 + 2 * among) % experts) as u32
            })
            .collect();
        let mut w = stored.random(&mut random, experts * n * k);
        let size = w.len() / experts;
        for (expert, bytes) in w.chunks_exact_mut(size).enumerate() {
            if !chosen.contains(&(expert as u32)) {
                bytes.fill(0xff);
            }
        }
        let x = (0..tokens * used / share * k).map(|_| random.wide(2)).collect();
        Self { stored, way, shape, chosen, w, x }
    }

    /// One token by itself.
    pub(crate) fn token(&self, token: usize) -> Self {
        let Shape { used, share, k, .. } = self.shape;
        let rows = used / share * k;
        Self {
            chosen: self.chosen[token * used..][..used].to_vec(),
            x: self.x[token * rows..][..rows].to_vec(),
            ..self.clone()
        }
    }

    /// The tensor core's type.
    fn input(&self) -> Float {
        if self.stored == Stored::BF16 { Float::Bf16 } else { self.stored.rounded() }
    }

    fn grouping(&self) -> Grouping {
        let (Way::Chain(tile) | Way::TensorCore(tile)) = self.way;
        Grouping { chosen: self.chosen.clone(), experts: self.shape.experts, tile }
    }

    /// An expert's weights.
    fn weights(&self, expert: usize) -> &[u8] {
        let size = self.w.len() / self.shape.experts;
        &self.w[expert * size..][..size]
    }

    /// The row of a pair.
    fn row(&self, pair: usize) -> &[f32] {
        &self.x[pair / self.shape.share * self.shape.k..][..self.shape.k]
    }

    /// A pair's product as one with a matrix that is no expert's: [`matvec`]'s.
    pub(crate) fn chain(&self, pair: usize) -> matvec::Product {
        let Shape { n, k, .. } = self.shape;
        let (w, x) = (self.weights(self.chosen[pair] as usize).to_vec(), self.row(pair).to_vec());
        matvec::Product { stored: self.stored, together: 1, n, k, m: 1, w, x }
    }

    /// A pair's product as one with a matrix that is no expert's, of weights that are rounded: [`matmul`]'s.
    pub(crate) fn steps(&self, pair: usize) -> matmul::Product {
        let (Shape { n, k, .. }, input) = (self.shape, self.input());
        let w = self.stored.halves(self.weights(self.chosen[pair] as usize));
        matmul::Product { input, n, k, m: 1, w, x: self.row(pair).iter().map(|&x| input.bits(x)).collect() }
    }
}

pub(crate) fn cases(stored: Stored, tensor_core: bool, scale: Scale) -> Vec<Box<dyn Case>> {
    let ways = if tensor_core {
        &expert_matmul::TILES.map(Way::TensorCore)[..]
    } else {
        &[Way::Chain(1), Way::Chain(8)]
    };
    // n, k, experts, used, tokens, popular
    let mut shapes =
        vec![(1, 32, 4, 2, 1, 2), (17, 64, 8, 4, 3, 4), (9, 96, 4, 1, 20, 1), (20, 288, 6, 2, 9, 3)];
    if scale == Scale::Full {
        shapes.extend([(33, 32, 32, 4, 40, 16), (64, 160, 8, 4, 70, 4), (47, 576, 5, 3, 17, 2)]);
        shapes.extend([(16, 2880, 4, 2, 3, 2), (40, 64, 4, 4, 150, 2)]);
    }
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for (i, (n, k, experts, used, tokens, popular)) in shapes.into_iter().enumerate() {
        // Rows that end within a block, where they may and the kernel takes them.
        let k = if i % 2 == 1 && !tensor_core { k - 5 } else { k };
        for share in [used, 1] {
            let shape = Shape { n, k: stored.row_length(k), experts, used, share };
            let case = |&way: &Way| Box::new(Mixture::new(stored, way, shape, tokens, popular)) as _;
            cases.extend(ways.iter().map(case));
        }
    }
    cases
}

impl Case for Mixture {
    fn label(&self) -> String {
        let Shape { n, k, experts, used, share } = self.shape;
        format!(
            "{:?} n={n} k={k} experts={experts} used={used} share={share} pairs={}",
            self.way,
            self.chosen.len()
        )
    }

    fn bytes(&self) -> u64 {
        let experts = (0..self.shape.experts as u32).filter(|expert| self.chosen.contains(expert)).count();
        let row = if let Way::Chain(_) = self.way { 4 } else { 2 };
        (self.w.len() / self.shape.experts * experts
            + row * self.x.len()
            + 4 * self.chosen.len() * self.shape.n) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let Shape { n, k, share, experts, .. } = self.shape;
        let grouping = self.grouping();
        let (sorted, tiles) = (grouping.sorted(), grouping.tiles());
        let last = self.chosen.iter().max().map_or(0, |&last| last as usize);
        let w = &self.w[..self.w.len() / experts * (last + 1)];
        let y = stage.output(self.chosen.len() * n);
        let (k, n, share, count) = (k as u32, n as u32, share as u32, tiles.len() as u32 / 3);
        match self.way {
            Way::Chain(tile) => {
                let (w, x) = (stage.input(w), stage.input(&self.x));
                let (sorted, tiles) = (stage.input(&sorted), stage.input(&tiles));
                let args = ExpertMatVec { w, x, y, sorted, tiles, k, n, share, count };
                Launch::new(expert_matvec::of(self.stored, tile).expect("a type of experts"), args)
            }
            Way::TensorCore(tile) => {
                let x: Vec<u16> = self.x.iter().map(|&x| self.input().bits(x)).collect();
                // What fills the last 16 bytes up is of no weight.
                let mut w = w.to_vec();
                w.resize(w.len().next_multiple_of(16), 0xff);
                let (w, x) = (stage.input(&w), stage.input(&x));
                let (sorted, tiles) = (stage.input(&sorted), stage.input(&tiles));
                let args = ExpertMatMul { w, x, y, sorted, tiles, k, n, share, count };
                let kernel =
                    expert_matmul::of(self.stored, tile).expect("a type of experts for the tensor core");
                Launch::new(kernel, args)
            }
        }
    }

    fn oracle(&self) -> Vec<Expect> {
        let pairs = 0..self.chosen.len();
        if let Way::TensorCore(_) = self.way {
            return vec![Expect::bits(
                &pairs.flat_map(|pair| self.steps(pair).model()).collect::<Vec<f32>>(),
            )];
        }
        let roundings = (self.shape.k.div_ceil(16) + 5) as f64;
        let values: Vec<Vec<f64>> = (0..self.shape.experts)
            .map(|expert| {
                let there = self.chosen.contains(&(expert as u32));
                if there { self.stored.values(self.weights(expert)) } else { Vec::new() }
            })
            .collect();
        vec![Expect::near(pairs.flat_map(|pair| {
            let (w, x) = (&values[self.chosen[pair] as usize], self.row(pair));
            w.chunks_exact(self.shape.k).map(move |w| {
                let terms = || w.iter().zip(x).map(|(&w, &x)| w * x as f64);
                (terms().sum(), terms().map(f64::abs).sum::<f64>() * roundings * 2f64.powi(-24))
            })
        }))]
    }
}
