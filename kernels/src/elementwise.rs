//! What touches every element once: residual and bias additions, the gated activation.
//!
//! A block covers 1024 elements; 12 bytes moved an element.

use cuda_std::math::silu;
use cuda_std::{Block, Geometry, In, Out, kernel};

/// Elements a block covers.
const SPAN: usize = 1024;

/// Arguments of [`ADD`], [`ADD_BIAS`] and [`SWIGLU`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Elementwise {
    /// Read and replaced: `[len]`.
    pub y: Out<f32>,
    /// What is combined with it: `[len]`, or `[n]` for a bias.
    pub x: In<f32>,
    /// Elements of `y`.
    pub len: u64,
    /// Elements in a row of `y`.
    pub n: u64,
}

fn geometry(a: &Elementwise) -> Geometry {
    Geometry { grid: [(a.len as usize).div_ceil(SPAN), 1], scratch: 0 }
}

/// `f(y, i)` for each element `i` of this block's span.
#[inline(always)]
fn map<B: Block>(block: &B, a: &Elementwise, f: impl Fn(f32, usize) -> f32) {
    let first = block.x() * SPAN;
    block.each(SPAN.min(a.len as usize - first), |_, i| a.y.set(first + i, f(a.y.get(first + i), first + i)));
}

#[inline(always)]
fn add<B: Block>(block: &B, a: &Elementwise) {
    map(block, a, |y, i| y + a.x.get(i));
}

#[inline(always)]
fn add_bias<B: Block>(block: &B, a: &Elementwise) {
    let n = a.n as usize;
    map(block, a, |y, i| y + a.x.get(i % n));
}

#[inline(always)]
fn swiglu<B: Block>(block: &B, a: &Elementwise) {
    map(block, a, |gate, i| silu(gate) * a.x.get(i));
}

kernel! {
    /// `y += x`, the residual addition.
    pub ADD = elementwise__add(Elementwise), lanes: 256, geometry: geometry, body: add
}
kernel! {
    /// `y[r, i] += x[i]`, a bias for every row.
    pub ADD_BIAS = elementwise__add_bias(Elementwise), lanes: 256, geometry: geometry, body: add_bias
}
kernel! {
    /// `y = silu(y) x`, with the gate in `y` and the up projection in `x` (Shazeer 2020).
    pub SWIGLU = elementwise__swiglu(Elementwise), lanes: 256, geometry: geometry, body: swiglu
}
