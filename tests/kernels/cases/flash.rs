//! Paged attention on the tensor core: `softmax(q . k / sqrt(d)) v` over all tokens up to a token's own, whole or as the
//! parts that a merge finishes. Its oracle is in `oracle.rs`.

mod oracle;

use cuda_std::Kernel;
use kernels::flash::{self, CHUNK};
use kernels::kv::PAGE;
use kernels::{prompt, prompt_group};

use super::attention::first_visible;
use super::float::Float;
use super::random::Random;
use super::rows::{no_rows, stage_rows};
use super::{Case, Expect, Launch, Scale, Stage};

/// How many heads of which size.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) kv_heads: usize,
    /// Query heads that share a key head.
    pub(crate) group: usize,
    pub(crate) head_dim: usize,
}

/// Which kernel computes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Whole,
    Chunks,
    Prompt,
    /// Of warps that multiply together.
    PromptGroup,
}

/// Neighbouring tokens of one sequence that ask.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// Tokens that the sequence's pages hold.
    pub(crate) length: usize,
    /// The first one's position.
    pub(crate) first: usize,
    pub(crate) count: usize,
}

impl Run {
    /// The last `count` tokens of a sequence.
    pub(crate) fn last(length: usize, count: usize) -> Self {
        Self { length, first: length - count, count }
    }
}

/// A run for each sequence, cut into tiles; the sequences' pages lie in random order among each other and among pages of
/// nobody, and what is past a sequence's end is garbage.
#[derive(Clone)]
pub(crate) struct Flash {
    pub(crate) float: Float,
    /// Of what comes out.
    pub(crate) form: Float,
    pub(crate) path: Path,
    pub(crate) heads: Heads,
    runs: Vec<Run>,
    /// By sequence, token, head and element.
    pub(crate) keys: Vec<Vec<u16>>,
    pub(crate) values: Vec<Vec<u16>>,
    /// Sequence and position of each token that asks.
    pub(crate) tokens: Vec<(usize, usize)>,
    /// A tile's first token and how many.
    pub(crate) tiles: Vec<[usize; 2]>,
    pub(crate) q: Vec<u16>,
    /// By sequence: its pages.
    pages: Vec<Vec<u32>>,
    /// Positions that a token sees; 0 for all.
    pub(crate) window: usize,
    /// By query head; empty for none.
    pub(crate) sinks: Vec<f32>,
}

impl Flash {
    /// Tiles as full as they can be. `size` of the queries makes the softmax sharp.
    pub(crate) fn new(float: Float, heads: Heads, runs: &[Run], size: f32) -> Self {
        let Heads { kv_heads, group, head_dim } = heads;
        let held: usize = runs.iter().map(|run| run.length).sum();
        let mut random = Random::new((kv_heads * group * head_dim + held) as u64);
        let mut bits = |n: usize, size: f32| -> Vec<u16> {
            random.floats(n).iter().map(|x| float.bits(x * size)).collect()
        };
        let tokens: Vec<(usize, usize)> = runs
            .iter()
            .enumerate()
            .flat_map(|(sequence, run)| (run.first..run.first + run.count).map(move |at| (sequence, at)))
            .collect();
        let q = bits(tokens.len() * kv_heads * group * head_dim, size);
        let [keys, values] =
            [(); 2].map(|_| runs.iter().map(|run| bits(run.length * kv_heads * head_dim, 1.0)).collect());
        let needed = |run: &Run| run.length.div_ceil(PAGE);
        let mut free: Vec<u32> = (0..runs.iter().map(needed).sum::<usize>() as u32 + 3).collect();
        random.shuffle(&mut free);
        let pages = runs.iter().map(|run| free.split_off(free.len() - needed(run))).collect();
        let (form, path, runs) = (Float::F32, Path::Whole, runs.to_vec());
        let (tiles, sinks) = (Vec::new(), Vec::new());
        Self { float, form, path, heads, runs, keys, values, tokens, tiles, q, pages, window: 0, sinks }
            .cut(|_, most| most)
    }

    /// The same through a window; keys and values that no token sees are NaN.
    pub(crate) fn within(mut self, window: usize) -> Self {
        self.window = window;
        let row = self.heads.kv_heads * self.heads.head_dim;
        for (run, (keys, values)) in self.runs.iter().zip(self.keys.iter_mut().zip(&mut self.values)) {
            let unseen = first_visible(run.first, window);
            keys[..unseen * row].fill(0xffff);
            values[..unseen * row].fill(0xffff);
        }
        self
    }

    /// The same with sinks of about this size.
    pub(crate) fn with_sinks(mut self, size: f32) -> Self {
        self.sinks = Random::new(9).floats(self.query_heads()).iter().map(|sink| sink * size).collect();
        self
    }

    /// The same tokens in other tiles: `count` is asked how many tokens the next one has, given a random stream and the
    /// most there may be.
    pub(crate) fn cut(mut self, count: impl Fn(&mut Random, usize) -> usize) -> Self {
        let mut random = Random::new(self.tokens.len() as u64);
        self.tiles.clear();
        let mut first = 0;
        for run in &self.runs {
            let end = first + run.count;
            while first < end {
                let most = self.tile_tokens().min(end - first);
                let count = count(&mut random, most);
                self.tiles.push([first, count]);
                first += count;
            }
        }
        random.shuffle(&mut self.tiles);
        self
    }

    /// Tokens in a tile at most.
    fn tile_tokens(&self) -> usize {
        let group = self.heads.group;
        match self.path {
            Path::Prompt | Path::PromptGroup => prompt::tile_tokens(group),
            Path::Whole | Path::Chunks => flash::tile_tokens(group),
        }
    }

    /// The same on another path.
    pub(crate) fn through(mut self, path: Path) -> Self {
        self.path = path;
        self
    }

    /// The same, whose rows come out in another form.
    pub(crate) fn in_form(mut self, form: Float) -> Self {
        self.form = form;
        self
    }

    /// The same for prompts, in the tiles of that path, as full as they can be.
    pub(crate) fn for_prompts(self) -> Self {
        self.through(Path::Prompt).cut(|_, most| most)
    }

    /// One token, with no other in the launch.
    pub(crate) fn only(&self, token: usize) -> Self {
        let row = self.q.len() / self.tokens.len();
        Self {
            tokens: vec![self.tokens[token]],
            tiles: vec![[0, 1]],
            q: self.q[token * row..][..row].to_vec(),
            ..self.clone()
        }
    }

    /// Query heads.
    pub(crate) fn query_heads(&self) -> usize {
        self.heads.kv_heads * self.heads.group
    }

    /// Chunks that there is room for: one more than the longest token needs.
    pub(crate) fn chunks(&self) -> usize {
        self.tokens.iter().map(|(_, position)| position / CHUNK + 1).max().unwrap_or(0) + 1
    }

    /// All pages with the keys and values in them, in the layout of [`kernels::kv`].
    fn cache(&self) -> [Vec<u16>; 2] {
        let Heads { kv_heads, head_dim, .. } = self.heads;
        let pages: usize = self.pages.iter().map(Vec::len).sum::<usize>() + 3;
        // NaN or infinity as f16, as bf16, or as both.
        let garbage = [0xffff, 0x7c00, 0x7f80, 0xff80, 0x7fff];
        let mut keys: Vec<u16> =
            garbage.into_iter().cycle().take(pages * PAGE * kv_heads * head_dim).collect();
        let mut values = keys.clone();
        for (sequence, pages) in self.pages.iter().enumerate() {
            for (i, (&k, &v)) in self.keys[sequence].iter().zip(&self.values[sequence]).enumerate() {
                let (position, head, d) = (i / (kv_heads * head_dim), i / head_dim % kv_heads, i % head_dim);
                let page = pages[position / PAGE] as usize * kv_heads + head;
                keys[(page * PAGE + position % PAGE) * head_dim + d] = k;
                values[(page * head_dim + d) * PAGE + position % PAGE] = v;
            }
        }
        [keys, values]
    }

    fn kernel(&self) -> &'static Kernel<flash::Flash> {
        match (self.path, self.float) {
            (Path::Whole | Path::Chunks, float) => {
                flash::of(self.path == Path::Chunks, float != Float::F16, self.heads.head_dim)
            }
            (Path::Prompt, Float::F16) => &prompt::F16_,
            (Path::Prompt, _) => &prompt::BF16,
            (Path::PromptGroup, float) => {
                prompt_group::of(float != Float::F16, self.heads.head_dim).expect("a kernel for these heads")
            }
        }
    }
}

/// The edges of pages, chunks and tiles; several sequences; tokens from the middle of one.
pub(crate) fn edges(float: Float) -> Vec<Flash> {
    let run = |length, first, count| Run { length, first, count };
    let flash = |kv_heads, group, head_dim, runs: &[Run]| {
        Flash::new(float, Heads { kv_heads, group, head_dim }, runs, 1.0)
    };
    vec![
        flash(1, 1, 16, &[run(1, 0, 1)]),
        flash(2, 3, 64, &[run(33, 31, 2), run(1, 0, 1), run(40, 30, 9)]),
        flash(1, 4, 80, &[run(131, 125, 6), run(140, 127, 2)]),
        flash(1, 32, 32, &[run(20, 18, 2)]),
        flash(1, 1, 128, &[run(5, 0, 5)]),
        flash(1, 1, 16, &[run(290, 250, 10)]),
        flash(2, 3, 16, &[run(3, 0, 3)]).with_sinks(3.0),
        flash(1, 4, 32, &[run(300, 252, 10), run(40, 39, 1)]).within(100).with_sinks(1.0),
        flash(1, 1, 16, &[run(290, 250, 10)]).within(1),
        flash(1, 2, 16, &[run(290, 250, 16)]).within(128),
    ]
}

pub(crate) fn cases(float: Float, path: Path, scale: Scale) -> Vec<Box<dyn Case>> {
    let mut cases = edges(float);
    if path != Path::Chunks {
        cases.extend(
            [Float::F16, Float::Bf16]
                .into_iter()
                .flat_map(|form| edges(float).into_iter().map(move |case| case.in_form(form))),
        );
    }
    if scale == Scale::Full {
        let mut random = Random::new(2);
        for (i, head_dim) in [16, 32, 64, 80, 96, 128].into_iter().enumerate() {
            for (j, group) in [1, 3, 4, 8, 16, 32].into_iter().enumerate() {
                let heads = Heads { kv_heads: 1 + (i + j) % 2, group, head_dim };
                let long = 20 + random.below(380);
                let runs = [Run::last(long, 1 + random.below(18)), Run::last(1 + random.below(160), 1)];
                cases.push(Flash::new(float, heads, &runs, 1.0));
            }
        }
        let heads = |kv_heads, group, head_dim| Heads { kv_heads, group, head_dim };
        let lengths = [31, 32, 33, 127, 128, 129, 130, 255, 256, 257, 300, 700];
        cases.push(Flash::new(float, heads(3, 3, 64), &lengths.map(|length| Run::last(length, 1)), 1.0));
        cases.push(Flash::new(float, heads(2, 4, 64), &lengths.map(|length| Run::last(length, 5)), 1.0));
        // A whole prompt; one token with all the weight.
        cases.push(Flash::new(float, heads(1, 3, 64), &[Run::last(300, 300)], 1.0));
        cases.push(Flash::new(float, heads(2, 4, 128), &[Run::last(700, 2), Run::last(256, 3)], 1000.0));
        // Windows that begin on, before and behind the edges of steps, pages and chunks.
        for window in [1, 2, 15, 16, 17, 31, 32, 33, 127, 128, 129, 160, 256, 699, 700, 5000] {
            let runs = [Run::last(700, 20), Run::last(300, 3), Run::last(40, 40)];
            let case = Flash::new(float, heads(1, 4, 64), &runs, 1.0).within(window);
            cases.push(if window % 2 == 0 { case.with_sinks(2.0) } else { case });
        }
        cases.push(Flash::new(float, heads(2, 4, 64), &[Run::last(257, 2)], 1.0).with_sinks(1000.0));
        cases.push(Flash::new(float, heads(2, 4, 64), &[Run::last(257, 2)], 1000.0).with_sinks(1.0));
        if matches!(path, Path::Prompt | Path::PromptGroup) {
            let runs = [Run::last(290, 290), Run { length: 700, first: 300, count: 140 }];
            let case = Flash::new(float, heads(2, 4, 128), &runs, 1.0);
            cases.extend([case.clone().within(77).with_sinks(1.0), case]);
        }
        let ragged: Vec<Flash> = cases.iter().map(|case| case.clone().cut(ragged)).collect();
        cases.extend(ragged);
    }
    if path == Path::PromptGroup {
        cases.retain(|case| prompt_group::of(false, case.heads.head_dim).is_some());
    }
    if matches!(path, Path::Prompt | Path::PromptGroup) {
        let large: Vec<Flash> = cases.iter().map(|case| case.clone().for_prompts()).collect();
        let ragged = large.iter().map(|case| case.clone().cut(ragged));
        cases = ragged.chain(large.iter().cloned()).collect();
    }
    cases.into_iter().map(|case| Box::new(case.through(path)) as _).collect()
}

/// Tiles of any size: for [`Flash::cut`].
pub(crate) fn ragged(random: &mut Random, most: usize) -> usize {
    1 + random.below(most)
}

impl Case for Flash {
    fn label(&self) -> String {
        let Heads { kv_heads, group, head_dim } = self.heads;
        let lengths: Vec<usize> = self.runs.iter().map(|run| run.length).collect();
        let (tokens, tiles) = (self.tokens.len(), self.tiles.len());
        format!(
            "heads={group}x{kv_heads} head_dim={head_dim} {tokens} tokens in {tiles} tiles of {lengths:?} \
             window={} sinks={} as {}",
            self.window,
            self.sinks.len(),
            self.form.name()
        )
    }

    fn bytes(&self) -> u64 {
        let Heads { kv_heads, head_dim, .. } = self.heads;
        let seen = |[first, count]: &[usize; 2]| {
            self.tokens[first + count - 1].1 + 1 - first_visible(self.tokens[*first].1, self.window)
        };
        let seen: usize = self.tiles.iter().map(seen).sum();
        // What a tile sees, the queries, and the sums.
        let left = if self.path == Path::Whole { 1 } else { self.chunks() - 1 };
        (4 * seen * kv_heads * head_dim + (2 + 4 * left) * self.q.len()) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let [keys, values] = self.cache();
        let (heads, chunks) = (self.query_heads(), self.chunks());
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
        let mut args = flash::Flash {
            q: stage.input(&self.q),
            key_pages: stage.input(&keys),
            value_pages: stage.input(&values),
            page_table: stage.input(&table),
            sequences: stage.input(&column(|token| token.0)),
            positions: stage.input(&column(|token| token.1)),
            sinks: stage.optional((!self.sinks.is_empty()).then_some(&self.sinks[..])),
            tiles: stage.input(&self.tiles.iter().flatten().map(|&n| n as u32).collect::<Vec<u32>>()),
            out: no_rows(stage),
            partial: stage.nothing(),
            partial_tops: stage.nothing(),
            count: self.tiles.len() as u32,
            heads: heads as u32,
            kv_heads: self.heads.kv_heads as u32,
            head_dim: self.heads.head_dim as u32,
            table_width: table_width as u32,
            chunks: chunks as u32,
            window: self.window as u32,
        };
        match self.path {
            Path::Whole | Path::Prompt | Path::PromptGroup => {
                args.out = stage_rows(stage, self.form, self.tokens.len(), heads * self.heads.head_dim);
            }
            // Chunks that a tile does not reach stay as they are.
            Path::Chunks => {
                args.partial = stage.in_out(&vec![f32::NAN; self.q.len() * chunks]);
                args.partial_tops = stage.in_out(&vec![f32::NAN; self.tokens.len() * heads * chunks * 2]);
            }
        }
        Launch::new(self.kernel(), args)
    }

    fn oracle(&self) -> Vec<Expect> {
        oracle::expect(self)
    }
}
