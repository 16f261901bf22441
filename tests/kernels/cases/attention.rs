//! Paged attention: `softmax(q . k / sqrt(d)) v` over all tokens up to a token's own, or over those in its window; a sink is
//! one more score in the sum.
//!
//! Tolerance, with `u = 2^-24`: a score is off by `(head_dim + 4) u` of its sum of magnitudes, and its exponential by as
//! much relative to itself, in numerator and denominator; sums over a chunk and merges of chunks add
//! `CHUNK + 8 chunks + 16` roundings, all relative to the weighted magnitudes of the values.

use kernels::attention::{Attention, CHUNK, F32};
use kernels::kv::PAGE;

use super::random::Random;
use super::{Case, Expect, Launch, Scale, Stage};

/// Some tokens of some sequences, whose pages lie in random order among each other.
pub(crate) struct Attend {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// By sequence, token, head and element.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    /// Sequence and position.
    tokens: Vec<(usize, usize)>,
    q: Vec<f32>,
    /// By sequence: its pages.
    pages: Vec<Vec<u32>>,
    /// Positions that a token sees; 0 for all.
    window: usize,
    /// By head; empty for none.
    sinks: Vec<f32>,
}

impl Attend {
    /// For each length a sequence, of which the last `last` tokens ask. `size` of the queries makes the softmax sharp.
    pub(crate) fn new(
        kv_heads: usize,
        ratio: usize,
        head_dim: usize,
        lengths: &[usize],
        last: usize,
        size: f32,
    ) -> Self {
        let (heads, row) = (kv_heads * ratio, kv_heads * head_dim);
        let mut random = Random::new((heads * head_dim + lengths.iter().sum::<usize>()) as u64);
        let mut tokens: Vec<(usize, usize)> = lengths
            .iter()
            .enumerate()
            .flat_map(|(sequence, &length)| {
                (length.saturating_sub(last)..length).map(move |position| (sequence, position))
            })
            .collect();
        random.shuffle(&mut tokens);
        let q = random.floats(tokens.len() * heads * head_dim).iter().map(|q| q * size).collect();
        let [keys, values] =
            [(); 2].map(|_| lengths.iter().map(|length| random.floats(length * row)).collect());
        let mut free: Vec<u32> =
            (0..lengths.iter().map(|length| length.div_ceil(PAGE) as u32).sum()).collect();
        random.shuffle(&mut free);
        let pages = lengths.iter().map(|length| free.split_off(free.len() - length.div_ceil(PAGE))).collect();
        Self { heads, kv_heads, head_dim, keys, values, tokens, q, pages, window: 0, sinks: Vec::new() }
    }

    /// The same through a window; keys and values that no token sees are NaN.
    pub(crate) fn through(mut self, window: usize) -> Self {
        self.window = window;
        let row = self.kv_heads * self.head_dim;
        for (sequence, (keys, values)) in self.keys.iter_mut().zip(&mut self.values).enumerate() {
            let positions = self.tokens.iter().filter(|token| token.0 == sequence).map(|token| token.1);
            let unseen = positions.map(|position| first_visible(position, window)).min().unwrap_or(0);
            keys[..unseen * row].fill(f32::NAN);
            values[..unseen * row].fill(f32::NAN);
        }
        self
    }

    /// The same with sinks of about this size.
    pub(crate) fn with_sinks(mut self, size: f32) -> Self {
        self.sinks = Random::new(9).floats(self.heads).iter().map(|sink| sink * size).collect();
        self
    }

    /// All pages with the keys and values in them, in the layout of [`kernels::kv`]; NaN where there are none.
    fn cache(&self) -> (Vec<f32>, Vec<f32>) {
        let (kv_heads, head_dim) = (self.kv_heads, self.head_dim);
        let pages: usize = self.pages.iter().map(Vec::len).sum();
        let mut keys = vec![f32::NAN; pages * PAGE * kv_heads * head_dim];
        let mut values = keys.clone();
        for (sequence, pages) in self.pages.iter().enumerate() {
            for (i, (&k, &v)) in self.keys[sequence].iter().zip(&self.values[sequence]).enumerate() {
                let (position, head, d) = (i / (kv_heads * head_dim), i / head_dim % kv_heads, i % head_dim);
                let page = pages[position / PAGE] as usize * kv_heads + head;
                keys[(page * head_dim + d) * PAGE + position % PAGE] = k;
                values[(page * PAGE + position % PAGE) * head_dim + d] = v;
            }
        }
        (keys, values)
    }

    /// One head of one token, with the tolerance of each element.
    fn attend(&self, q: &[f32], head: usize, sequence: usize, position: usize) -> Vec<(f64, f64)> {
        let (head_dim, kv_head) = (self.head_dim, head / (self.heads / self.kv_heads));
        let first = first_visible(position, self.window);
        let at = |data: &[Vec<f32>], s: usize, d: usize| {
            data[sequence][(s * self.kv_heads + kv_head) * head_dim + d] as f64
        };
        let scale = 1.0 / (head_dim as f64).sqrt();
        let terms = |s: usize| (0..head_dim).map(move |d| q[d] as f64 * scale * at(&self.keys, s, d));
        let scores: Vec<f64> = (first..=position).map(|s| terms(s).sum()).collect();
        let magnitude = (first..=position).map(|s| terms(s).map(f64::abs).sum()).fold(0.0, f64::max);
        let sink = self.sinks.get(head).map_or(f64::NEG_INFINITY, |&sink| sink as f64);
        let top = scores.iter().copied().fold(sink, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
        let total: f64 = weights.iter().sum::<f64>() + (sink - top).exp();

        let chunks = (position / CHUNK + 1) as f64;
        let roundings = 2.0 * (head_dim + 4) as f64 * magnitude + CHUNK as f64 + 8.0 * chunks + 16.0;
        let mean = |f: fn(f64) -> f64, d: usize| {
            weights
                .iter()
                .enumerate()
                .map(|(s, weight)| weight / total * f(at(&self.values, first + s, d)))
                .sum::<f64>()
        };
        (0..head_dim)
            .map(|d| (mean(|v| v, d), mean(f64::abs, d) * roundings * 2f64.powi(-24) + 1e-42))
            .collect()
    }
}

/// The first position `k` that a token at `q` sees: `q - k < window`; 0 is no window.
pub(crate) fn first_visible(q: usize, window: usize) -> usize {
    (0..=q).find(|k| window == 0 || q - k < window).unwrap_or(q)
}

pub(crate) fn cases(scale: Scale) -> Vec<Box<dyn Case>> {
    let mut cases = vec![
        Attend::new(1, 1, 32, &[1], 1, 1.0),
        Attend::new(2, 3, 64, &[33, 1, 40], 2, 1.0),
        Attend::new(1, 4, 48, &[130], 3, 4.0),
        Attend::new(1, 1, 256, &[5], 5, 1.0),
        Attend::new(2, 2, 32, &[5], 5, 1.0).with_sinks(3.0),
        Attend::new(1, 4, 32, &[300, 131, 9], 3, 1.0).through(100).with_sinks(1.0),
        Attend::new(1, 1, 16, &[290], 40, 1.0).through(1),
    ];
    if scale == Scale::Full {
        let mut random = Random::new(2);
        for (i, head_dim) in [32, 48, 64, 80, 96, 128, 256].into_iter().enumerate() {
            for (j, ratio) in [1, 3, 4, 8].into_iter().enumerate() {
                let lengths = [1 + random.below(700), 1 + random.below(160), 1];
                cases.push(Attend::new(1 + (i + j) % 2, ratio, head_dim, &lengths, 2, 1.0));
            }
        }
        // The edges of pages and chunks, a whole prompt, and a softmax in which one token has all the weight.
        cases.push(Attend::new(3, 3, 64, &[31, 32, 33, 127, 128, 129, 255, 256, 257, 700], 1, 1.0));
        cases.push(Attend::new(1, 3, 64, &[300], 300, 1.0));
        cases.push(Attend::new(2, 4, 128, &[700, 256], 2, 1000.0));
        // Windows that begin on, before and behind the edges of pages and chunks; sinks below and above every score.
        for window in [1, 2, 31, 32, 33, 127, 128, 129, 160, 256, 699, 700, 5000] {
            let case = Attend::new(2, 4, 64, &[700, 300, 40], 3, 1.0).through(window);
            cases.push(if window % 2 == 0 { case.with_sinks(2.0) } else { case });
        }
        cases.push(Attend::new(2, 4, 64, &[257, 3], 2, 1.0).with_sinks(1000.0));
        cases.push(Attend::new(2, 4, 64, &[257, 3], 2, 1000.0).with_sinks(1.0));
    }
    cases.into_iter().map(|case| Box::new(case) as _).collect()
}

impl Case for Attend {
    fn label(&self) -> String {
        let lengths: Vec<usize> =
            self.keys.iter().map(|keys| keys.len() / self.kv_heads / self.head_dim).collect();
        let Self { heads, kv_heads, head_dim, .. } = self;
        let Self { window, sinks, .. } = self;
        format!(
            "heads={heads}/{kv_heads} head_dim={head_dim} tokens={} of {lengths:?} window={window} sinks={}",
            self.tokens.len(),
            sinks.len()
        )
    }

    fn bytes(&self) -> u64 {
        let seen: usize = self
            .tokens
            .iter()
            .map(|&(_, position)| position + 1 - first_visible(position, self.window))
            .sum();
        (8 * (seen * self.kv_heads + self.tokens.len() * self.heads) * self.head_dim) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let (keys, values) = self.cache();
        let table_width = self.pages.iter().map(Vec::len).max().unwrap_or(0) + 1;
        // Nobody looks at the page numbers behind a sequence's own.
        let table: Vec<u32> = self
            .pages
            .iter()
            .flat_map(|pages| pages.iter().copied().chain(std::iter::repeat(u32::MAX)).take(table_width))
            .collect();
        let column = |f: fn(&(usize, usize)) -> usize| {
            self.tokens.iter().map(|token| f(token) as u32).collect::<Vec<_>>()
        };
        let args = Attention {
            q: stage.input(&self.q),
            key_pages: stage.input(&keys),
            value_pages: stage.input(&values),
            page_table: stage.input(&table),
            sequences: stage.input(&column(|token| token.0)),
            positions: stage.input(&column(|token| token.1)),
            sinks: stage.optional((!self.sinks.is_empty()).then_some(&self.sinks[..])),
            out: stage.output(self.q.len()),
            tokens: self.tokens.len() as u32,
            heads: self.heads as u32,
            kv_heads: self.kv_heads as u32,
            head_dim: self.head_dim as u32,
            table_width: table_width as u32,
            window: self.window as u32,
        };
        Launch::new(&F32, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let queries = self.q.chunks_exact(self.head_dim).enumerate();
        vec![Expect::near(queries.flat_map(|(i, q)| {
            let (sequence, position) = self.tokens[i / self.heads];
            self.attend(q, i % self.heads, sequence, position)
        }))]
    }
}
