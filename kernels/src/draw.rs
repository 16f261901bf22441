//! Draws weights: a tensor's stored bytes out of a key, for models without a file.
//!
//! Every number is `hash(key, i)` of its own place `i` and of nothing before it, so that any piece of a tensor can be
//! drawn by itself, in any order, with the same bits on every device. The hash is MurmurHash3's 32-bit finaliser (Appleby
//! 2011), once with each half of the key.
//!
//! Plain types: `middle + reach x` with `x` uniform in `-1..1`. A lane writes 4 bytes: one f32 of 24 random bits, or two
//! 16-bit floats of 16 random bits each, rounded from f32. Quantised types: a lane writes 2 bytes, be it the f16 scale of a
//! block or super-block, its minimum, or random bits. Scales differ a little, so that a kernel which takes a neighbour's is
//! found out: the low seven bits of an f16 are random. Without a minimum the scale's sign is random too, since quants need
//! not be even about zero. MXFP4, whose blocks are of 17 bytes: a lane writes a byte, the scale's exponent or random bits.
//!
//! A block covers 4096 such writes. Bytes moved: the tensor once.

use cuda_std::math::mul_add;
use cuda_std::{Bf16, Block, F16, Geometry, MmaInput, Out, kernel};

#[cfg(not(target_arch = "nvptx64"))]
use crate::format::Stored;
use crate::format::{
    Format, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0,
};

/// Arguments of every kernel here.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Draw {
    /// A piece of the tensor, of whole words: [`word`].
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
    /// greatest. MXFP4: the least exponent; the greatest is one more.
    pub scale: u32,
    /// Types with a minimum: in the same way the bits of the f16 that is the least in magnitude.
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

#[inline(always)]
fn pair<B: Block, N: MmaInput>(block: &B, a: &Draw) {
    fill::<B, u32, 4>(block, a, |i| {
        let random = hash(a.key, i);
        let bits = |half: u32| N::bits(uniform::<16>(a, half)) as u32;
        bits(random & 0xffff) | bits(random >> 16) << 16
    });
}

/// Where there is no minimum.
const NONE: u32 = u32::MAX;

/// Quantised blocks with an f16 scale at word `SCALE` and, unless it is [`NONE`], an f16 minimum at word `MINIMUM`.
#[inline(always)]
fn blocks<B: Block, F: Format, const SCALE: u32, const MINIMUM: u32>(block: &B, a: &Draw) {
    blocks_with::<B, F, SCALE, MINIMUM>(block, a, |_, _, random| random);
}

/// [`blocks`] whose other words are `rest(word, word within the block, random)`.
#[inline(always)]
fn blocks_with<B: Block, F: Format, const SCALE: u32, const MINIMUM: u32>(
    block: &B,
    a: &Draw,
    rest: impl Fn(u32, u32, u32) -> u32,
) {
    let words = F::BYTES as u32 / 2;
    fill::<B, u16, 2>(block, a, |i| {
        let (random, place) = (hash(a.key, i), i % words);
        let sign = if MINIMUM == NONE { random & 0x8000 } else { 0 };
        let word = if place == SCALE {
            (a.scale + (random & 127)) | sign
        } else if place == MINIMUM {
            a.minimum + (random & 127)
        } else {
            rest(i, place, random)
        };
        word as u16
    });
}

/// Super-blocks of Q2_K: each part's minimum in the upper half of a byte is its scale in the lower half, or the part's
/// values would not be even about zero.
#[inline(always)]
fn q2_k<B: Block>(block: &B, a: &Draw) {
    blocks_with::<B, Q2_K, 40, 41>(
        block,
        a,
        |_, place, random| {
            if place < 8 { (random & 0x0f0f) * 0x11 } else { random }
        },
    );
}

/// Super-blocks of Q4_K and Q5_K, for the same reason with minima that are the scales: bytes 4 to 7 of twelve are the first
/// four, and the others' halves are alike.
#[inline(always)]
fn q4_k<B: Block, F: Format>(block: &B, a: &Draw) {
    blocks_with::<B, F, 0, 1>(block, a, |i, place, random| match place {
        4 | 5 => hash(a.key, i - 2),
        6 | 7 => (random & 0x0f0f) * 0x11,
        _ => random,
    });
}

/// Quantised blocks with an exponent in the first byte.
#[inline(always)]
fn with_exponents<B: Block, F: Format>(block: &B, a: &Draw) {
    fill::<B, u8, 1>(block, a, |i| {
        let random = hash(a.key, i);
        (if i % F::BYTES as u32 == 0 { a.scale + (random & 1) } else { random }) as u8
    });
}

macro_rules! kernels {
    ($($stored:ident: $NAME:ident = $entry:ident, $word:literal, $body:expr;)*) => {
        $(kernel! {
            /// See the module; the name tells the stored type.
            pub $NAME = $entry(Draw), lanes: 256, geometry: geometry::<$word>, body: $body
        })*

        /// The kernel for weights stored so.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn of(stored: Stored) -> &'static cuda_std::Kernel<Draw> {
            match stored {
                $(Stored::$stored => &$NAME,)*
            }
        }

        /// Bytes that a lane writes at once: what is drawn begins and ends between words.
        #[cfg(not(target_arch = "nvptx64"))]
        pub fn word(stored: Stored) -> usize {
            match stored {
                $(Stored::$stored => $word,)*
            }
        }
    };
}

kernels! {
    F32: F32_WEIGHTS = draw__f32, 4, single;
    F16: F16_WEIGHTS = draw__f16, 4, pair::<_, F16>;
    BF16: BF16_WEIGHTS = draw__bf16, 4, pair::<_, Bf16>;
    Q8_0: Q8_0_WEIGHTS = draw__q8_0, 2, blocks::<_, Q8_0, 0, NONE>;
    Q4_0: Q4_0_WEIGHTS = draw__q4_0, 2, blocks::<_, Q4_0, 0, NONE>;
    Q4_1: Q4_1_WEIGHTS = draw__q4_1, 2, blocks::<_, Q4_1, 0, 1>;
    Q5_0: Q5_0_WEIGHTS = draw__q5_0, 2, blocks::<_, Q5_0, 0, NONE>;
    Q5_1: Q5_1_WEIGHTS = draw__q5_1, 2, blocks::<_, Q5_1, 0, 1>;
    Q2_K: Q2_K_WEIGHTS = draw__q2_k, 2, q2_k;
    Q3_K: Q3_K_WEIGHTS = draw__q3_k, 2, blocks::<_, Q3_K, 54, NONE>;
    Q4_K: Q4_K_WEIGHTS = draw__q4_k, 2, q4_k::<_, Q4_K>;
    Q5_K: Q5_K_WEIGHTS = draw__q5_k, 2, q4_k::<_, Q5_K>;
    Q6_K: Q6_K_WEIGHTS = draw__q6_k, 2, blocks::<_, Q6_K, 104, NONE>;
    IQ4_NL: IQ4_NL_WEIGHTS = draw__iq4_nl, 2, blocks::<_, IQ4_NL, 0, NONE>;
    IQ4_XS: IQ4_XS_WEIGHTS = draw__iq4_xs, 2, blocks::<_, IQ4_XS, 0, NONE>;
    MXFP4: MXFP4_WEIGHTS = draw__mxfp4, 1, with_exponents::<_, MXFP4>;
}
