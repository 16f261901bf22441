//! A mixture's router. The chosen experts and their groups are exact. A weight is off by its own exponential and by the sum,
//! each two units of the exponential and of a difference of up to 100, and a few roundings.

use kernels::router::{CHOOSE, Choose, GROUP, Group, tiles};

use super::product::Sums;
use super::random::Random;
use super::{Case, Expect, Launch, Stage};

/// Logits of some tokens, of which each takes the greatest.
pub(crate) struct Choice {
    logits: Sums,
    used: usize,
}

impl Choice {
    /// Some combination of what a product may have. `levels` different logits at most, so that there are ties; 0 for any.
    pub(crate) fn new(tokens: usize, experts: usize, used: usize, variant: usize, levels: usize) -> Self {
        let mut random = Random::new((tokens * experts + variant) as u64);
        let mut logits = Sums::variant(&mut random, tokens, experts, variant);
        if levels > 0 {
            for token in 0..tokens {
                let row: Vec<f32> = (0..experts).map(|_| random.below(levels) as f32 - 1.0).collect();
                logits = logits.with_row(token, &row);
            }
        }
        Self { logits, used }
    }

    /// One token by itself.
    pub(crate) fn row(&self, token: usize) -> Self {
        Self { logits: self.logits.row(token), ..*self }
    }

    /// The experts of a token, the greatest logit first, the lowest expert among equals.
    fn chosen(&self, token: usize) -> Vec<usize> {
        let mut experts: Vec<usize> = (0..self.logits.n).collect();
        let logit = |expert: usize| self.logits.value(token, expert);
        experts.sort_by(|&a, &b| logit(b).total_cmp(&logit(a)).then(a.cmp(&b)));
        experts.truncate(self.used);
        experts
    }
}

pub(crate) fn choices() -> Vec<Box<dyn Case>> {
    let shapes =
        [(1, 1, 1), (3, 4, 4), (5, 8, 4), (2, 32, 4), (17, 32, 8), (2, 33, 8), (3, 128, 8), (1, 300, 2)];
    let variants = (0..12).map(|variant| (4, 32, 4, variant, 0));
    let plain = shapes.into_iter().map(|(tokens, experts, used)| (tokens, experts, used, 0, 0));
    let ties = shapes.into_iter().map(|(tokens, experts, used)| (tokens, experts, used, 0, 3));
    let all = variants.chain(plain).chain(ties).chain([(5, 32, 4, 0, 1)]);
    all.map(|(tokens, experts, used, variant, levels)| {
        Box::new(Choice::new(tokens, experts, used, variant, levels)) as _
    })
    .collect()
}

impl Case for Choice {
    fn label(&self) -> String {
        let Sums { rows, n, .. } = self.logits;
        format!("tokens={rows} experts={n} used={} {}", self.used, self.logits.label())
    }

    fn bytes(&self) -> u64 {
        self.logits.bytes() + (8 * self.logits.rows * self.used) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let Sums { rows: tokens, n: experts, .. } = self.logits;
        let args = Choose {
            logits: self.logits.stage(stage),
            chosen: stage.output(tokens * self.used),
            weights: stage.output(tokens * self.used),
            tokens: tokens as u32,
            experts: experts as u32,
            used: self.used as u32,
        };
        Launch::new(&CHOOSE, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let chosen: Vec<Vec<usize>> = (0..self.logits.rows).map(|token| self.chosen(token)).collect();
        let ids: Vec<u32> = chosen.iter().flatten().map(|&expert| expert as u32).collect();
        let mut weights = Vec::new();
        for (token, experts) in chosen.iter().enumerate() {
            let logit = |expert: usize| self.logits.value(token, expert) as f64;
            let counts: Vec<f64> =
                experts.iter().map(|&expert| (logit(expert) - logit(experts[0])).exp()).collect();
            let total: f64 = counts.iter().sum();
            weights.extend(counts.iter().map(|count| {
                let want = count / total;
                (want, want * (120.0 + 2.0 * self.used as f64) * 2f64.powi(-23) + 1e-42)
            }));
        }
        vec![Expect::bits(&ids), Expect::near(weights)]
    }
}

/// Pairs and the expert of each.
#[derive(Clone)]
pub(crate) struct Grouping {
    pub(crate) chosen: Vec<u32>,
    pub(crate) experts: usize,
    pub(crate) tile: usize,
}

impl Grouping {
    /// Experts at random.
    pub(crate) fn random(pairs: usize, experts: usize, tile: usize) -> Self {
        let mut random = Random::new((pairs + experts) as u64);
        Self { chosen: (0..pairs).map(|_| random.below(experts) as u32).collect(), experts, tile }
    }

    /// The pairs by expert.
    pub(crate) fn sorted(&self) -> Vec<u32> {
        let mut pairs: Vec<u32> = (0..self.chosen.len() as u32).collect();
        pairs.sort_by_key(|&pair| self.chosen[pair as usize]);
        pairs
    }

    /// Expert, first place and pairs of each tile, and nothing for those that could have been there.
    pub(crate) fn tiles(&self) -> Vec<u32> {
        let (mut list, mut first) = (Vec::new(), 0);
        for expert in 0..self.experts as u32 {
            let mut left = self.chosen.iter().filter(|&&chosen| chosen == expert).count();
            while left > 0 {
                let count = left.min(self.tile);
                list.extend([expert, first, count as u32]);
                first += count as u32;
                left -= count;
            }
        }
        let most = tiles(self.chosen.len(), self.experts, self.tile);
        assert!(list.len() <= 3 * most, "more tiles than there may be");
        list.resize(3 * most, 0);
        list
    }
}

pub(crate) fn groupings() -> Vec<Box<dyn Case>> {
    let mut cases = Vec::new();
    let shapes =
        [(1, 1, 1), (4, 32, 1), (4, 32, 32), (20, 8, 8), (68, 32, 32), (1024, 32, 8), (2000, 33, 32)];
    for (pairs, experts, tile) in shapes.into_iter().chain([(4100, 128, 128), (700, 512, 8), (513, 1, 128)]) {
        let Grouping { chosen: even, .. } = Grouping::random(pairs, experts, tile);
        // All at one expert, and at the first and the last ones.
        let one = vec![experts as u32 / 2; pairs];
        let ends = (0..pairs).map(|i| if i % 3 == 0 { 0 } else { experts as u32 - 1 }).collect();
        cases.extend([even, one, ends].map(|chosen| Box::new(Grouping { chosen, experts, tile }) as _));
    }
    // A pair for each expert, which needs every tile that there may be.
    let chosen = (0..32).collect();
    cases.push(Box::new(Grouping { chosen, experts: 32, tile: 32 }) as _);
    cases
}

impl Case for Grouping {
    fn label(&self) -> String {
        format!("pairs={} experts={} tile={}", self.chosen.len(), self.experts, self.tile)
    }

    fn bytes(&self) -> u64 {
        (8 * self.chosen.len() + 4 * self.tiles().len()) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = Group {
            chosen: stage.input(&self.chosen),
            sorted: stage.output(self.chosen.len()),
            tiles: stage.output(self.tiles().len()),
            pairs: self.chosen.len() as u32,
            experts: self.experts as u32,
            tile: self.tile as u32,
        };
        Launch::new(&GROUP, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        vec![Expect::bits(&self.sorted()), Expect::bits(&self.tiles())]
    }
}
