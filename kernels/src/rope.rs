//! Rotary position embedding (Su et al. 2021), from the product of Q, K and V to queries and to pages of the KV cache.
//!
//! Pairs of a head's elements turn by an angle that grows with the position. The two pairings are different functions on
//! the same weights: Llama's GGUF files hold their Q and K rows permuted for the interleaved one, `(2i, 2i + 1)`; the
//! others pair `(i, i + rotated / 2)`. Angles come as a table of cosines and sines, computed on the host once, so that
//! both devices see the same bits. Values do not turn; they go to their pages on the way.
//!
//! Where a model norms its heads (Qwen3), each head of Q and K first becomes its root-mean-square norm,
//! `x / sqrt(mean(x^2) + epsilon) w`, with weights that all heads share. A warp a head: lane `l` of 32 folds the squares of
//! elements `l, l + 32, ...`, then [`Team::sum`](cuda_std::Team).
//!
//! A block has eight heads of one token. Bytes moved: 4 for each element of Q, K and V, and what is written of them.

use cuda_std::math::{divide, mul_add, sqrt};
use cuda_std::{Bf16, Block, F16, Geometry, In, Out, Scratch, Source, Team, kernel};

use crate::kv::{Cached, Full, PAGE};
use crate::product::{Line, Product};

/// Arguments of the kernels that norm no heads, and of the others beside the norms'. `S` is how elements of the cache are stored.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Rope<S> {
    /// `[tokens, heads, head_dim]`.
    pub q: Product,
    /// `[tokens, kv_heads, head_dim]`.
    pub k: Product,
    /// `[tokens, kv_heads, head_dim]`.
    pub v: Product,
    /// `[context, rotated / 2, 2]`: cosine and sine.
    pub table: In<f32>,
    /// `[tokens]`: positions, below the context.
    pub positions: In<u32>,
    /// `[tokens]`: page times [`PAGE`] plus the place within the page; no two tokens the same.
    pub slots: In<u32>,
    /// `[tokens, heads, head_dim]`: the queries, turned.
    pub queries: Out<S>,
    /// Keys, see [`crate::kv`].
    pub key_pages: Out<S>,
    /// Values, see [`crate::kv`].
    pub value_pages: Out<S>,
    /// Tokens.
    pub tokens: u32,
    /// Query heads.
    pub heads: u32,
    /// Heads of keys and values.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// How many of them turn, from the first; even.
    pub rotated: u32,
}

/// Arguments of the kernels that norm heads.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct RopeNormed<S> {
    /// What is turned, how, and where it goes.
    pub rope: Rope<S>,
    /// `[head_dim]`: weights of the queries' norm.
    pub q_norm: In<f32>,
    /// `[head_dim]`: weights of the keys' norm.
    pub k_norm: In<f32>,
    /// Added to the mean of squares.
    pub epsilon: f32,
}

/// Lanes of a block.
const LANES: usize = 512;
/// Heads of a block.
const HEADS: usize = LANES / WARP / 2;
/// Elements that a lane waits for at once: of a block's heads of 128 it has two, or one pair.
const AHEAD: usize = 2;
/// Lanes of a warp.
const WARP: usize = 32;

fn geometry<S>(a: &Rope<S>) -> Geometry {
    let blocks = |heads: u32| (heads as usize).div_ceil(HEADS);
    Geometry { grid: [a.tokens as usize, blocks(a.heads) + 2 * blocks(a.kv_heads)], scratch: 0 }
}

fn geometry_normed<S>(a: &RopeNormed<S>) -> Geometry {
    Geometry { scratch: HEADS * size_of::<f32>(), ..geometry(&a.rope) }
}

/// The heads of a block, `first..end`.
#[derive(Clone, Copy)]
enum Part {
    Query { first: usize, end: usize },
    Key { first: usize, end: usize },
    Value { first: usize, end: usize },
}

impl Part {
    #[inline(always)]
    fn of<S>(a: &Rope<S>, y: usize) -> Self {
        let (heads, kv_heads) = (a.heads as usize, a.kv_heads as usize);
        let (queries, keys) = (heads.div_ceil(HEADS), kv_heads.div_ceil(HEADS));
        let range = |i: usize, heads: usize| (i * HEADS, heads.min((i + 1) * HEADS));
        if y < queries {
            let (first, end) = range(y, heads);
            Self::Query { first, end }
        } else if y < queries + keys {
            let (first, end) = range(y - queries, kv_heads);
            Self::Key { first, end }
        } else {
            let (first, end) = range(y - queries - keys, kv_heads);
            Self::Value { first, end }
        }
    }
}

/// Of one token: `pair(i)` are the elements of a head that form pair `i`. What element `d` of a head is before it turns, a lane
/// makes of the product's value: `query(lane, head, d, value)`, and `key`.
#[inline(always)]
fn rope<B: Block, C: Cached>(
    block: &B,
    a: &Rope<C::Stored>,
    pair: impl Fn(usize) -> (usize, usize),
    query: impl Fn(usize, usize, usize, f32) -> f32,
    key: impl Fn(usize, usize, usize, f32) -> f32,
) {
    let (heads, kv_heads, head_dim) = (a.heads as usize, a.kv_heads as usize, a.head_dim as usize);
    let token = block.x();
    let slot = a.slots.get(token) as usize;
    let (page, place) = (slot / PAGE, slot % PAGE);
    let in_page = |head: usize| (page * kv_heads + head) * head_dim * PAGE;
    match Part::of(a, block.y()) {
        Part::Query { first, end } => {
            turn(block, a, (first, end), &a.q.row(token), query, &pair, |head, d, value| {
                a.queries.set((token * heads + head) * head_dim + d, C::store(value));
            });
        }
        Part::Key { first, end } => {
            turn(block, a, (first, end), &a.k.row(token), key, &pair, |head, d, value| {
                a.key_pages.set(in_page(head) + C::key(place, d, head_dim), C::store(value));
            });
        }
        Part::Value { first, end } => {
            let v = a.v.row(token);
            let read = |i: usize| v.read(first * head_dim + i);
            block.each_read::<AHEAD, _>((end - first) * head_dim, read, |_, i, parts| {
                let (head, d) = divide(i, head_dim);
                let at = in_page(first + head) + C::value(place, d, head_dim);
                a.value_pages.set(at, C::store(v.value(parts)));
            });
        }
    }
}

/// Turns some heads of the block's token; `put(head, d, value)` takes every element.
#[inline(always)]
fn turn<B: Block, S>(
    block: &B,
    a: &Rope<S>,
    (first_head, end): (usize, usize),
    line: &Line,
    x: impl Fn(usize, usize, usize, f32) -> f32,
    pair: impl Fn(usize) -> (usize, usize),
    put: impl Fn(usize, usize, f32),
) {
    let (head_dim, rotated) = (a.head_dim as usize, a.rotated as usize);
    let (half, heads) = (rotated / 2, end - first_head);
    let angles = a.positions.get(block.x()) as usize * rotated;
    let place = |i: usize| {
        let (head, i) = divide(i, half);
        let (first, second) = pair(i);
        (first_head + head, i, first, second)
    };
    let read = |i: usize| {
        let (head, i, first, second) = place(i);
        let angle = [a.table.get(angles + 2 * i), a.table.get(angles + 2 * i + 1)];
        (line.read(head * head_dim + first), line.read(head * head_dim + second), angle)
    };
    block.each_read::<1, _>(heads * half, read, |lane, i, (one, two, [cos, sin])| {
        let (head, _, first, second) = place(i);
        let [one, two] = line.values([one, two]);
        let (x, y) = (x(lane, head, first, one), x(lane, head, second, two));
        put(head, first, mul_add(x, cos, -(y * sin)));
        put(head, second, mul_add(x, sin, y * cos));
    });
    let rest = head_dim - rotated;
    block.each(heads * rest, |lane, i| {
        let (head, d) = divide(i, rest);
        let (head, d) = (first_head + head, rotated + d);
        put(head, d, x(lane, head, d, line.value(line.read(head * head_dim + d))));
    });
}

/// The heads as their products are.
#[inline(always)]
fn plain<B: Block, C: Cached>(block: &B, a: &Rope<C::Stored>, pair: impl Fn(usize) -> (usize, usize)) {
    rope::<B, C>(block, a, pair, |_, _, _, x| x, |_, _, _, x| x);
}

#[inline(always)]
fn interleaved<B: Block, C: Cached>(block: &B, a: &Rope<C::Stored>) {
    plain::<B, C>(block, a, |i| (2 * i, 2 * i + 1));
}

#[inline(always)]
fn split_half<B: Block, C: Cached>(block: &B, a: &Rope<C::Stored>) {
    let half = a.rotated as usize / 2;
    plain::<B, C>(block, a, |i| (i, i + half));
}

/// Of each of a block's heads, in scratch memory: one over the root of its mean square. A warp a head.
#[inline(always)]
fn norms<B: Block>(
    block: &B,
    line: &Line,
    (first, end): (usize, usize),
    head_dim: usize,
    epsilon: f32,
    scales: &B::Scratch<f32>,
) {
    block.warps(|index, warp| {
        let head = first + index;
        if head < end {
            let mut squares = warp.per_lane(0.0f32);
            let read = |d: usize| line.read(head * head_dim + d);
            warp.each_read::<AHEAD, _>(head_dim, read, |lane, _, parts| {
                let x = line.value(parts);
                squares[lane] = mul_add(x, x, squares[lane]);
            });
            let scale = 1.0 / sqrt(warp.sum(&squares) / head_dim as f32 + epsilon);
            warp.lanes(|lane| {
                if lane == 0 {
                    scales.set(index * WARP + lane, index, scale);
                }
            });
        }
    });
}

/// The heads after their norms.
#[inline(always)]
fn normed_split_half<B: Block, C: Cached>(block: &B, a: &RopeNormed<C::Stored>) {
    let RopeNormed { rope: a, q_norm, k_norm, epsilon } = a;
    let (token, head_dim, half) = (block.x(), a.head_dim as usize, a.rotated as usize / 2);
    let scales = block.scratch::<f32>(HEADS);
    let first = match Part::of(a, block.y()) {
        Part::Query { first, end } => {
            norms(block, &a.q.row(token), (first, end), head_dim, *epsilon, &scales);
            first
        }
        Part::Key { first, end } => {
            norms(block, &a.k.row(token), (first, end), head_dim, *epsilon, &scales);
            first
        }
        Part::Value { first, .. } => first,
    };
    block.barrier();
    rope::<B, C>(
        block,
        a,
        |i| (i, i + half),
        |lane, head, d, x| x * scales.get(lane, head - first) * q_norm.get(d),
        |lane, head, d, x| x * scales.get(lane, head - first) * k_norm.get(d),
    );
}

/// One kernel a pairing and a type of the cache.
macro_rules! kernels {
    ($($NAME:ident = $entry:ident, $args:ident, $geometry:ident, $stored:ty, $body:ident::<$cached:ty>;)*) => {$(
        kernel! {
            /// See the module; the name tells the pairing and the type of the cache.
            pub $NAME = $entry($args<$stored>), lanes: LANES, geometry: $geometry, body: $body::<_, $cached>
        }
    )*};
}

kernels! {
    INTERLEAVED_F32 = rope__interleaved_f32, Rope, geometry, f32, interleaved::<Full>;
    INTERLEAVED_F16 = rope__interleaved_f16, Rope, geometry, u16, interleaved::<F16>;
    INTERLEAVED_BF16 = rope__interleaved_bf16, Rope, geometry, u16, interleaved::<Bf16>;
    SPLIT_HALF_F32 = rope__split_half_f32, Rope, geometry, f32, split_half::<Full>;
    SPLIT_HALF_F16 = rope__split_half_f16, Rope, geometry, u16, split_half::<F16>;
    SPLIT_HALF_BF16 = rope__split_half_bf16, Rope, geometry, u16, split_half::<Bf16>;
    NORMED_SPLIT_HALF_F32 = rope__normed_split_half_f32, RopeNormed, geometry_normed, f32, normed_split_half::<Full>;
    NORMED_SPLIT_HALF_F16 = rope__normed_split_half_f16, RopeNormed, geometry_normed, u16, normed_split_half::<F16>;
    NORMED_SPLIT_HALF_BF16 = rope__normed_split_half_bf16, RopeNormed, geometry_normed, u16, normed_split_half::<Bf16>;
}
