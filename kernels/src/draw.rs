//! Draws weights: a tensor's stored bytes out of a key, for models without a file.
//!
//! Every number is `hash(key, i)` of its own place `i` and of nothing before it, so that any piece of a tensor can be
//! drawn by itself, in any order, with the same bits on every device. The hash is MurmurHash3's 32-bit finaliser (Appleby
//! 2011), once with each half of the key.
//!
//! Plain types: `middle + reach x` with `x` uniform in `-1..1`. A lane writes 4 bytes: one f32 of 24 random bits, or two
//! 16-bit floats of 16 random bits each, rounded from f32. Quantised types: a lane writes 2 bytes, be it a block's scale,
//! its minimum, or random quants. Scales differ a little, so that a kernel which takes a neighbour's is found out: the
//! low seven bits of an f16 are random. Where quants are not even about zero, the scale's sign is random too.
//!
//! A block covers 4096 such writes. Bytes moved: the tensor once.

use cuda_std::math::mul_add;
use cuda_std::{Bf16, Block, F16, Geometry, Out, kernel};

use crate::format::{BLOCK, Brain, Format, Half, Q4_0, Q4_1, Q8_0};

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Draw {
    /// A piece of the tensor; whole words of 4 bytes for plain types, of 2 for quantised ones.
    pub out: Out<u8>,
    /// Of the tensor.
    pub key: u64,
    /// The piece's first word in the tensor.
    pub first: u32,
    /// Plain types: the mean.
    pub middle: f32,
    /// Plain types: how far a value may lie from the mean.
    pub reach: f32,
    /// Quantised types: the bits of a positive f16 that is the least scale; 127 units in the last place above it is the
    /// greatest.
    pub scale: u32,
    /// Q4_1: in the same way the bits of a negative f16 that is the greatest minimum.
    pub minimum: u32,
}

/// Words a block covers.
const SPAN: usize = 4096;

fn geometry<const WORD: usize>(a: &Draw) -> Geometry {
    Geometry { grid: [(a.out.len() / WORD).div_ceil(SPAN), 1], scratch: 0 }
}

/// A bijection of 32-bit words in which every bit of the input moves every bit of the output.
#[inline(always)]
fn mix(mut h: u32) -> u32 {
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

#[inline(always)]
fn hash(key: u64, i: u32) -> u32 {
    mix(mix(i ^ key as u32) ^ (key >> 32) as u32)
}

/// `middle + reach x`, with `x` the middle of one of `2^BITS` equal parts of `-1..1`.
#[inline(always)]
fn uniform<const BITS: u32>(a: &Draw, random: u32) -> f32 {
    let odd = (2 * random + 1) as i32 - (1 << BITS);
    mul_add(odd as f32 * (1.0 / (1u32 << BITS) as f32), a.reach, a.middle)
}

/// `word(i)` for each word of this block's span, numbered within the tensor.
#[inline(always)]
fn fill<B: Block, V: Copy, const WORD: usize>(block: &B, a: &Draw, word: impl Fn(u32) -> V) {
    let begin = block.x() * SPAN;
    let count = SPAN.min(a.out.len() / WORD - begin);
    let first = a.first.wrapping_add(begin as u32);
    block.each(count, |_, i| a.out.set_as(WORD * (begin + i), word(first.wrapping_add(i as u32))));
}

#[inline(always)]
fn single<B: Block>(block: &B, a: &Draw) {
    fill::<B, f32, 4>(block, a, |i| uniform::<24>(a, hash(a.key, i) >> 8));
}

/// A float of 16 bits.
trait Narrow {
    /// Rounded to nearest, ties to even.
    fn bits(value: f32) -> u16;
}

impl Narrow for Half {
    #[inline(always)]
    fn bits(value: f32) -> u16 {
        F16::from_f32(value).0
    }
}

impl Narrow for Brain {
    #[inline(always)]
    fn bits(value: f32) -> u16 {
        Bf16::from_f32(value).0
    }
}

#[inline(always)]
fn pair<B: Block, N: Narrow>(block: &B, a: &Draw) {
    fill::<B, u32, 4>(block, a, |i| {
        let random = hash(a.key, i);
        let bits = |half: u32| N::bits(uniform::<16>(a, half)) as u32;
        bits(random & 0xffff) | bits(random >> 16) << 16
    });
}

/// Quantised blocks of `HEAD` 16-bit words of scale and minimum, then quants.
#[inline(always)]
fn blocks<B: Block, F: Format, const HEAD: u32>(block: &B, a: &Draw) {
    let words = F::BYTES as u32 / 2;
    fill::<B, u16, 2>(block, a, |i| {
        let (random, place) = (hash(a.key, i), i % words);
        let sign = if HEAD == 1 { random & 0x8000 } else { 0 };
        let scale = (a.scale + (random & 127)) | sign;
        let minimum = a.minimum + (random & 127);
        let quants = if place == 1 && HEAD == 2 { minimum } else { random };
        (if place == 0 { scale } else { quants }) as u16
    });
}

const _: () =
    assert!(Q8_0::BYTES == 2 + BLOCK && Q4_0::BYTES == 2 + BLOCK / 2 && Q4_1::BYTES == 4 + BLOCK / 2);

macro_rules! kernels {
    ($($NAME:ident = $entry:ident, $word:literal, $body:expr;)*) => {$(
        kernel! {
            /// See the module; the name tells the stored type.
            pub $NAME = $entry(Draw), lanes: 256, geometry: geometry::<$word>, body: $body
        }
    )*};
}

kernels! {
    F32_WEIGHTS = draw__f32, 4, single;
    F16_WEIGHTS = draw__f16, 4, pair::<_, Half>;
    BF16_WEIGHTS = draw__bf16, 4, pair::<_, Brain>;
    Q8_0_WEIGHTS = draw__q8_0, 2, blocks::<_, Q8_0, 1>;
    Q4_0_WEIGHTS = draw__q4_0, 2, blocks::<_, Q4_0, 1>;
    Q4_1_WEIGHTS = draw__q4_1, 2, blocks::<_, Q4_1, 2>;
}
