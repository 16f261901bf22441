//! Super-blocks of 256 values, which share an f16 scale `d`, for some an f16 factor of minima `d'` too. Parts of 16 or 32
//! values have scales `s` and minima `m` of a few bits.
//!
//! Where two, four or eight blocks share bytes, block `b`'s bits are the lower ones, the lower its number.

use cuda_std::{In, Team};

use super::{BLOCK, Format, Place, SUPER_BLOCK};

/// What the first and the last 16 values of a block share.
type Halves<V> = [V; 2];

/// `d s q - d' m`, 16 values a part: 16 bytes with `s` in the low half and `m` in the high one, 64 bytes of which each 32
/// are four blocks' values of 2 bits, `d`, `d'`.
pub struct Q2_K;

impl Format for Q2_K {
    const BYTES: usize = 16 + SUPER_BLOCK / 4 + 4;
    const VALUES: usize = SUPER_BLOCK;
    /// Scale and minimum.
    type Scale = Halves<(f32, f32)>;

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, Place { at, block }: Place) -> Self::Scale {
        let (d, d_min) = (T::widen(w.get_as(at + 80)), T::widen(w.get_as(at + 82)));
        w.pair(at + 2 * block).map(|byte| (d * (byte & 15) as f32, d_min * (byte >> 4) as f32))
    }

    #[inline(always)]
    fn pair(w: &In<u8>, place: Place, scales: Self::Scale, i: usize) -> [f32; 2] {
        let q = two_bits(w, Place { at: place.at + 16, ..place }, i);
        let value = |half: usize| scales[half].0 * q[half] as f32 - scales[half].1;
        [value(0), value(1)]
    }
}

/// `d (s - 32) (q - 4)`, 16 values a part: 32 bytes whose bit `b` is the third of block `b`'s values, 64 bytes of 2 bits a
/// value as in [`Q2_K`], 12 bytes of 6 bits a scale, `d`.
pub struct Q3_K;

impl Format for Q3_K {
    const BYTES: usize = SUPER_BLOCK / 8 + SUPER_BLOCK / 4 + 12 + 2;
    const VALUES: usize = SUPER_BLOCK;
    type Scale = Halves<f32>;

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, Place { at, block }: Place) -> Self::Scale {
        let d = T::widen(w.get_as(at + 108));
        // Part `p` has four bits in byte `p mod 8`, above those of part `p - 8`, and two in byte `8 + p mod 4`.
        let low = w.pair(at + 96 + 2 * block % 8).map(|byte| byte as u32 >> (block / 4 * 4) & 15);
        let high = w.pair(at + 104 + 2 * block % 4).map(|byte| byte as u32 >> (block / 2 * 2) & 3);
        let scale = |half: usize| d * ((low[half] | high[half] << 4) as i32 - 32) as f32;
        [scale(0), scale(1)]
    }

    #[inline(always)]
    fn pair(w: &In<u8>, place: Place, scales: Self::Scale, i: usize) -> [f32; 2] {
        let q = two_bits(w, Place { at: place.at + 32, ..place }, i);
        let third = |half: usize| (w.get(place.at + 16 * half + i) as u32 >> place.block & 1) << 2;
        let value = |half: usize| scales[half] * ((q[half] | third(half)) as i32 - 4) as f32;
        [value(0), value(1)]
    }
}

/// `d s q - d' m`, 32 values a part: `d`, `d'`, 12 bytes of 6 bits a scale and a minimum, 128 bytes of which each 32 are
/// two blocks' values of 4 bits.
pub struct Q4_K;

impl Format for Q4_K {
    const BYTES: usize = 16 + SUPER_BLOCK / 2;
    const VALUES: usize = SUPER_BLOCK;
    /// Scale and minimum.
    type Scale = (f32, f32);

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, place: Place) -> (f32, f32) {
        scale_and_minimum::<T>(w, place)
    }

    #[inline(always)]
    fn pair(w: &In<u8>, place: Place, (d, m): (f32, f32), i: usize) -> [f32; 2] {
        four_bits(w, Place { at: place.at + 16, ..place }, i).map(|q| d * q as f32 - m)
    }
}

/// `d s q - d' m`, 32 values a part: as [`Q4_K`], with 32 bytes before the last 128 whose bit `b` is the fifth of block `b`'s
/// values.
pub struct Q5_K;

impl Format for Q5_K {
    const BYTES: usize = 16 + SUPER_BLOCK / 8 + SUPER_BLOCK / 2;
    const VALUES: usize = SUPER_BLOCK;
    /// Scale and minimum.
    type Scale = (f32, f32);

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, place: Place) -> (f32, f32) {
        scale_and_minimum::<T>(w, place)
    }

    #[inline(always)]
    fn pair(w: &In<u8>, place: Place, (d, m): (f32, f32), i: usize) -> [f32; 2] {
        let q = four_bits(w, Place { at: place.at + 48, ..place }, i);
        let fifth = |half: usize| (w.get(place.at + 16 + 16 * half + i) as u32 >> place.block & 1) << 4;
        let value = |half: usize| d * (q[half] | fifth(half)) as f32 - m;
        [value(0), value(1)]
    }
}

/// `d s (q - 32)`, 16 values a part: two times 64 bytes of 4 bits a value, two times 32 bytes of 2 bits a value above them,
/// each for four blocks, 16 signed bytes `s`, `d`.
pub struct Q6_K;

impl Format for Q6_K {
    const BYTES: usize = SUPER_BLOCK / 2 + SUPER_BLOCK / 4 + 16 + 2;
    const VALUES: usize = SUPER_BLOCK;
    type Scale = Halves<f32>;

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, Place { at, block }: Place) -> Self::Scale {
        let d = T::widen(w.get_as(at + 208));
        w.pair(at + 192 + 2 * block).map(|s| d * (s as i8) as f32)
    }

    #[inline(always)]
    fn pair(w: &In<u8>, place: Place, scales: Self::Scale, i: usize) -> [f32; 2] {
        let Place { at, block } = place;
        // Of four blocks the first two have the low halves of 64 bytes, the others the high ones.
        let (low, shift) = (at + block / 4 * 64 + block % 2 * BLOCK + i, block / 2 % 2 * 4);
        let high = two_bits(w, Place { at: at + 128, block }, i);
        let value = |half: usize| {
            let q = w.get(low + 16 * half) as u32 >> shift & 15 | high[half] << 4;
            scales[half] * (q as i32 - 32) as f32
        };
        [value(0), value(1)]
    }
}

/// Bits `i` and `i + 16` of two, four blocks sharing 32 bytes.
#[inline(always)]
fn two_bits(w: &In<u8>, Place { at, block }: Place, i: usize) -> [u32; 2] {
    let (first, shift) = (at + block / 4 * BLOCK + i, block % 4 * 2);
    [w.get(first) as u32 >> shift & 3, w.get(first + 16) as u32 >> shift & 3]
}

/// Quants `i` and `i + 16` of four bits, two blocks sharing 32 bytes.
#[inline(always)]
fn four_bits(w: &In<u8>, Place { at, block }: Place, i: usize) -> [u32; 2] {
    let (first, shift) = (at + block / 2 * BLOCK + i, block % 2 * 4);
    [w.get(first) as u32 >> shift & 15, w.get(first + 16) as u32 >> shift & 15]
}

/// `d s` and `d' m` of Q4_K and Q5_K.
#[inline(always)]
fn scale_and_minimum<T: Team>(w: &In<u8>, Place { at, block }: Place) -> (f32, f32) {
    let (d, d_min) = (T::widen(w.get_as(at)), T::widen(w.get_as(at + 2)));
    // The first four parts have their scales in the low six bits of bytes 0 to 3, their minima in those of 4 to 7. The last
    // four have four bits of each in bytes 8 to 11, and the two bits that the others left free.
    let byte = |third: usize| w.get(at + 4 + 4 * third + block % 4) as u32;
    let (scales, minima, rest) = (byte(0), byte(1), byte(2));
    let (s, m) = if block < 4 {
        (scales & 63, minima & 63)
    } else {
        (rest & 15 | scales >> 6 << 4, rest >> 4 | minima >> 6 << 4)
    };
    (d * s as f32, d_min * m as f32)
}
