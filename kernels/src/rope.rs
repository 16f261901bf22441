//! Rotary position embedding (Su et al. 2021): pairs of a head's elements turn by an angle that grows with the position.
//!
//! The two pairings are different functions on the same weights: Llama's GGUF files hold their Q and K rows permuted
//! for the interleaved one, `(2i, 2i + 1)`; the others pair `(i, i + rotated / 2)`. Angles come as a table of cosines
//! and sines, computed on the host once, so that both devices see the same bits.

use cuda_std::math::mul_add;
use cuda_std::{Block, Geometry, In, Out, kernel};

/// Arguments of [`INTERLEAVED`] and [`SPLIT_HALF`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Rope {
    /// `[tokens, heads, head_dim]`, turned in place.
    pub x: Out<f32>,
    /// `[context, rotated / 2, 2]`: cosine and sine.
    pub table: In<f32>,
    /// `[tokens]`: positions, below the context.
    pub positions: In<u32>,
    /// Tokens.
    pub tokens: u32,
    /// Heads of a token.
    pub heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// How many of them turn, from the first; even.
    pub rotated: u32,
}

fn geometry(a: &Rope) -> Geometry {
    Geometry { grid: [a.tokens as usize, 1], scratch: 0 }
}

/// Turns pairs; `pair(i)` are the elements of a head that form pair `i`.
#[inline(always)]
fn rope<B: Block>(block: &B, a: &Rope, pair: impl Fn(usize) -> (usize, usize)) {
    let (heads, head_dim, half) = (a.heads as usize, a.head_dim as usize, a.rotated as usize / 2);
    let token = block.x();
    let angles = a.positions.get(token) as usize * half * 2;
    block.each(heads * half, |_, i| {
        let (head, i) = (i / half, i % half);
        let (first, second) = pair(i);
        let at = (token * heads + head) * head_dim;
        let (cos, sin) = (a.table.get(angles + 2 * i), a.table.get(angles + 2 * i + 1));
        let (x, y) = (a.x.get(at + first), a.x.get(at + second));
        a.x.set(at + first, mul_add(x, cos, -(y * sin)));
        a.x.set(at + second, mul_add(x, sin, y * cos));
    });
}

#[inline(always)]
fn interleaved<B: Block>(block: &B, a: &Rope) {
    rope(block, a, |i| (2 * i, 2 * i + 1));
}

#[inline(always)]
fn split_half<B: Block>(block: &B, a: &Rope) {
    let half = a.rotated as usize / 2;
    rope(block, a, |i| (i, i + half));
}

kernel! {
    /// Pairs `(2i, 2i + 1)`.
    pub INTERLEAVED = rope__interleaved(Rope), lanes: 128, geometry: geometry, body: interleaved
}
kernel! {
    /// Pairs `(i, i + rotated / 2)`.
    pub SPLIT_HALF = rope__split_half(Rope), lanes: 128, geometry: geometry, body: split_half
}
