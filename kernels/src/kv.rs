//! Writes new keys and values into their pages.
//!
//! The cache is made of pages of [`PAGE`] tokens. A layer's keys are `[pages, kv_heads, head_dim, PAGE]`, so that
//! neighbouring lanes, each with a token of its own, read neighbouring elements; its values are
//! `[pages, kv_heads, PAGE, head_dim]`, so that lanes with a dimension each do.

use cuda_std::{Block, Geometry, In, Out, kernel};

/// Tokens in a page.
pub const PAGE: usize = 32;

/// Arguments of [`WRITE_F32`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct KvWrite {
    /// `[tokens, kv_heads, head_dim]`.
    pub k: In<f32>,
    /// `[tokens, kv_heads, head_dim]`.
    pub v: In<f32>,
    /// Key pages, see the module.
    pub key_pages: Out<f32>,
    /// Value pages, see the module.
    pub value_pages: Out<f32>,
    /// `[tokens]`: page times [`PAGE`] plus the place within the page; no two tokens the same.
    pub slots: In<u32>,
    /// Tokens.
    pub tokens: u32,
    /// Heads of keys and values.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
}

fn geometry(a: &KvWrite) -> Geometry {
    Geometry { grid: [a.tokens as usize, 1], scratch: 0 }
}

#[inline(always)]
fn write<B: Block>(block: &B, a: &KvWrite) {
    let (kv_heads, head_dim) = (a.kv_heads as usize, a.head_dim as usize);
    let token = block.x();
    let slot = a.slots.get(token) as usize;
    let (page, place) = (slot / PAGE, slot % PAGE);
    block.each(kv_heads * head_dim, |_, i| {
        let (head, d) = (i / head_dim, i % head_dim);
        let at = (page * kv_heads + head) * head_dim * PAGE;
        a.key_pages.set(at + d * PAGE + place, a.k.get(token * kv_heads * head_dim + i));
        a.value_pages.set(at + place * head_dim + d, a.v.get(token * kv_heads * head_dim + i));
    });
}

kernel! {
    /// Keys and values into f32 pages.
    pub WRITE_F32 = kv__write_f32(KvWrite), lanes: 128, geometry: geometry, body: write
}
