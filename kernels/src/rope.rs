//! Rotary position embedding (Su et al. 2021), from the product of Q, K and V to queries and to pages of the KV cache.
//!
//! Pairs of a head's elements turn by an angle that grows with the position. The two pairings are different functions on
//! the same weights: Llama's GGUF files hold their Q and K rows permuted for the interleaved one, `(2i, 2i + 1)`; the
//! others pair `(i, i + rotated / 2)`. Angles come as a table of cosines and sines, computed on the host once, so that
//! both devices see the same bits. Values do not turn; they go to their pages on the way.
//!
//! A block a token. Bytes moved: 4 for each element of Q, K and V, and what is written of them.

use cuda_std::math::mul_add;
use cuda_std::{Bf16, Block, F16, Geometry, In, Out, kernel};

use crate::kv::{Cached, Full, PAGE};
use crate::product::Product;

/// Arguments of every kernel here. `S` is how elements of the cache are stored.
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

fn geometry<S>(a: &Rope<S>) -> Geometry {
    Geometry { grid: [a.tokens as usize, 1], scratch: 0 }
}

/// `pair(i)` are the elements of a head that form pair `i`.
#[inline(always)]
fn rope<B: Block, C: Cached>(block: &B, a: &Rope<C::Stored>, pair: impl Fn(usize) -> (usize, usize)) {
    let (heads, kv_heads, head_dim) = (a.heads as usize, a.kv_heads as usize, a.head_dim as usize);
    let token = block.x();
    let slot = a.slots.get(token) as usize;
    let (page, place) = (slot / PAGE, slot % PAGE);
    let in_page = |head: usize| (page * kv_heads + head) * head_dim * PAGE;

    turn(block, a, token, &a.q, heads, &pair, |head, d, value| {
        a.queries.set((token * heads + head) * head_dim + d, C::store(value));
    });
    turn(block, a, token, &a.k, kv_heads, &pair, |head, d, value| {
        a.key_pages.set(in_page(head) + C::key(place, d, head_dim), C::store(value));
    });
    block.each(kv_heads * head_dim, |_, i| {
        let (head, d) = (i / head_dim, i % head_dim);
        a.value_pages.set(in_page(head) + C::value(place, d, head_dim), C::store(a.v.get(token, i)));
    });
}

/// Turns the heads of one token; `put(head, d, value)` takes every element.
#[inline(always)]
fn turn<B: Block, S>(
    block: &B,
    a: &Rope<S>,
    token: usize,
    x: &Product,
    heads: usize,
    pair: impl Fn(usize) -> (usize, usize),
    put: impl Fn(usize, usize, f32),
) {
    let (head_dim, rotated) = (a.head_dim as usize, a.rotated as usize);
    let half = rotated / 2;
    let angles = a.positions.get(token) as usize * rotated;
    block.each(heads * half, |_, i| {
        let (head, i) = (i / half, i % half);
        let (first, second) = pair(i);
        let (cos, sin) = (a.table.get(angles + 2 * i), a.table.get(angles + 2 * i + 1));
        let (x, y) = (x.get(token, head * head_dim + first), x.get(token, head * head_dim + second));
        put(head, first, mul_add(x, cos, -(y * sin)));
        put(head, second, mul_add(x, sin, y * cos));
    });
    let rest = head_dim - rotated;
    block.each(heads * rest, |_, i| {
        let (head, d) = (i / rest, rotated + i % rest);
        put(head, d, x.get(token, head * head_dim + d));
    });
}

#[inline(always)]
fn interleaved<B: Block, C: Cached>(block: &B, a: &Rope<C::Stored>) {
    rope::<B, C>(block, a, |i| (2 * i, 2 * i + 1));
}

#[inline(always)]
fn split_half<B: Block, C: Cached>(block: &B, a: &Rope<C::Stored>) {
    let half = a.rotated as usize / 2;
    rope::<B, C>(block, a, |i| (i, i + half));
}

/// One kernel a pairing and a type of the cache.
macro_rules! kernels {
    ($($NAME:ident = $entry:ident, $stored:ty, $body:ident::<$cached:ty>;)*) => {$(
        kernel! {
            /// See the module; the name tells the pairing and the type of the cache.
            pub $NAME = $entry(Rope<$stored>), lanes: 512, geometry: geometry, body: $body::<_, $cached>
        }
    )*};
}

kernels! {
    INTERLEAVED_F32 = rope__interleaved_f32, f32, interleaved::<Full>;
    INTERLEAVED_F16 = rope__interleaved_f16, u16, interleaved::<F16>;
    INTERLEAVED_BF16 = rope__interleaved_bf16, u16, interleaved::<Bf16>;
    SPLIT_HALF_F32 = rope__split_half_f32, f32, split_half::<Full>;
    SPLIT_HALF_F16 = rope__split_half_f16, u16, split_half::<F16>;
    SPLIT_HALF_BF16 = rope__split_half_bf16, u16, split_half::<Bf16>;
}
