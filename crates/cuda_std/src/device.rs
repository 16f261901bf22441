//! The device's teams: a lane is a thread, a per-lane value a register.

use core::ops::{Index, IndexMut};

use crate::unrolled;

mod block;
mod group;
mod intrinsics;
mod relay;
mod shared;
mod warp;
mod warp_group;

pub use block::DeviceBlock;
pub use group::DeviceGroup;
pub(crate) use intrinsics::{
    add_f16_pairs, fuse_f16_pairs, multiply_bf16_pairs, multiply_f16_pairs, pack_bf16, pack_f16,
    permute_bytes, repeat_high_f16, repeat_low_f16, widen_f16_pair,
};
use intrinsics::{shuffle_xor, thread_x};
pub use relay::Relayed;
pub use shared::Shared;

/// A register of this thread; the lane in an index is this thread's and picks nothing.
#[derive(Clone, Copy)]
pub struct Register<V>(V);

impl<V> Index<usize> for Register<V> {
    type Output = V;
    #[inline(always)]
    fn index(&self, _: usize) -> &V {
        &self.0
    }
}

impl<V> IndexMut<usize> for Register<V> {
    #[inline(always)]
    fn index_mut(&mut self, _: usize) -> &mut V {
        &mut self.0
    }
}

/// The lanes of `mask`, this thread's group of `N`, combined: lane `l` takes lane `l + N/2`, then `l + N/4`, ...
#[inline(always)]
fn tree<V: Copy, const N: usize>(
    mask: u32,
    mut value: V,
    exchange: impl Fn(V, u32, u32) -> V,
    f: impl Fn(V, V) -> V,
) -> V {
    let mut step = N as u32 / 2;
    while step > 0 {
        value = f(value, exchange(value, mask, step));
        step /= 2;
    }
    value
}

#[inline(always)]
fn exchange_f32(value: f32, mask: u32, step: u32) -> f32 {
    f32::from_bits(exchange_u32(value.to_bits(), mask, step))
}

#[inline(always)]
fn exchange_u32(value: u32, mask: u32, step: u32) -> u32 {
    // SAFETY: every lane of `mask` runs this together: collectives stand outside of lane closures.
    unsafe { shuffle_xor(mask, value, step) }
}

#[inline(always)]
fn exchange_u64(value: u64, mask: u32, step: u32) -> u64 {
    let (low, high) =
        (exchange_u32(value as u32, mask, step), exchange_u32((value >> 32) as u32, mask, step));
    (high as u64) << 32 | low as u64
}

/// This thread's number in its block.
#[inline(always)]
pub(crate) fn thread() -> usize {
    // SAFETY: reads a register.
    unsafe { thread_x() as usize }
}

/// What is read for elements `lane`, `lane + LANES`, ... below `n`, `M` at a time: `f(first, left, read)`, for element
/// `first + j LANES` where `j LANES` is below `left`.
#[inline(always)]
fn each_batch<const LANES: usize, const M: usize, V: Copy>(
    lane: usize,
    n: usize,
    read: impl Fn(usize) -> V,
    mut f: impl FnMut(usize, u32, [V; M]),
) {
    let mut first = lane;
    // Where all are there, nobody asks: each is read at a constant distance from the first.
    while first + (M - 1) * LANES < n {
        let mut values = [read(first); M];
        unrolled::<M>(|j| values[j] = read(first + j * LANES));
        f(first, u32::MAX, values);
        first += M * LANES;
    }
    if first < n {
        let left = (n - first) as u32;
        // Past the end the first is read again.
        let mut values = [read(first); M];
        unrolled::<M>(|j| {
            if j > 0 {
                values[j] = read(first + if ((j * LANES) as u32) < left { j * LANES } else { 0 });
            }
        });
        f(first, left, values);
    }
}

/// `f` of those elements of a batch that are there.
#[inline(always)]
fn each_there<const LANES: usize, const M: usize, V: Copy>(
    (first, left): (usize, u32),
    values: [V; M],
    mut f: impl FnMut(usize, V),
) {
    unrolled::<M>(|j| {
        if ((j * LANES) as u32) < left {
            f(first + j * LANES, values[j]);
        }
    });
}

/// The exact sum of the warp's lanes before `lane`: in step `s`, blocks of `s` lanes hand their sums to the next.
#[inline(always)]
fn scan_warp(value: u64, lane: usize) -> u64 {
    let (mut before, mut total) = (0u64, value);
    let mut step = 1;
    while step < 32 {
        let other = exchange_u64(total, u32::MAX, step);
        if lane & step as usize != 0 {
            before = before.wrapping_add(other);
        }
        total = total.wrapping_add(other);
        step *= 2;
    }
    before
}
