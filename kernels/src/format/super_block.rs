//! Super-blocks of 256 values, which share an f16 scale `d`, for some an f16 factor of minima `d'` too. Parts of 16 or 32
//! values have scales `s` and minima `m` of a few bits.
//!
//! Where two, four or eight blocks share bytes, block `b`'s bits are the lower ones, the lower its number. Where a value is
//! a product less a minimum, the product is exact, so that one rounding is all there is.

use cuda_std::Team;
use cuda_std::math::{integers, mul_add};

use super::{BLOCK, Bytes, Format, Place, SUPER_BLOCK, each, numbers};

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
    fn scale<T: Team>(w: &impl Bytes, Place { at, block }: Place) -> Self::Scale {
        let (d, d_min) = (T::widen(w.get_as(at + 80)), T::widen(w.get_as(at + 82)));
        let parts = w.some::<2>(at + 2 * block);
        let (s, m) = (integers(each(parts, |byte| byte & 15), 0), integers(each(parts, |byte| byte >> 4), 0));
        each([0, 1], |half| (d * s[half], d_min * m[half]))
    }

    #[inline(always)]
    fn values<const N: usize>(w: &impl Bytes, place: Place, scales: Self::Scale, i: usize) -> [[f32; N]; 2] {
        let q = two_bits(w, Place { at: place.at + 16, ..place }, i);
        each([0, 1], |half| each(integers(q[half], 0), |q| mul_add(scales[half].0, q, -scales[half].1)))
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
    fn scale<T: Team>(w: &impl Bytes, Place { at, block }: Place) -> Self::Scale {
        let d = T::widen(w.get_as(at + 108));
        // Part `p` has four bits in byte `p mod 8`, above those of part `p - 8`, and two in byte `8 + p mod 4`.
        let low = each(w.some::<2>(at + 96 + 2 * block % 8), |byte| byte >> (block / 4 * 4) & 15);
        let high = each(w.some::<2>(at + 104 + 2 * block % 4), |byte| byte >> (block / 2 * 2) & 3);
        each(integers(each([0, 1], |half| low[half] | high[half] << 4), 32), |s| d * s)
    }

    #[inline(always)]
    fn values<const N: usize>(w: &impl Bytes, place: Place, scales: Self::Scale, i: usize) -> [[f32; N]; 2] {
        let q: [[_; N]; 2] = two_bits(w, Place { at: place.at + 32, ..place }, i);
        each([0, 1], |half| {
            let third = each(w.some::<N>(place.at + 16 * half + i), |byte| (byte >> place.block & 1) << 2);
            each(integers(each(numbers::<N>(), |j| q[half][j] | third[j]), 4), |q| scales[half] * q)
        })
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
    fn scale<T: Team>(w: &impl Bytes, place: Place) -> (f32, f32) {
        scale_and_minimum::<T>(w, place)
    }

    #[inline(always)]
    fn values<const N: usize>(w: &impl Bytes, place: Place, (d, m): (f32, f32), i: usize) -> [[f32; N]; 2] {
        let q = four_bits(w, Place { at: place.at + 16, ..place }, i);
        each(q, |half| each(integers(half, 0), |q| mul_add(d, q, -m)))
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
    fn scale<T: Team>(w: &impl Bytes, place: Place) -> (f32, f32) {
        scale_and_minimum::<T>(w, place)
    }

    #[inline(always)]
    fn values<const N: usize>(w: &impl Bytes, place: Place, (d, m): (f32, f32), i: usize) -> [[f32; N]; 2] {
        let q: [[_; N]; 2] = four_bits(w, Place { at: place.at + 48, ..place }, i);
        each([0, 1], |half| {
            let fifth =
                each(w.some::<N>(place.at + 16 + 16 * half + i), |byte| (byte >> place.block & 1) << 4);
            each(integers(each(numbers::<N>(), |j| q[half][j] | fifth[j]), 0), |q| mul_add(d, q, -m))
        })
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
    fn scale<T: Team>(w: &impl Bytes, Place { at, block }: Place) -> Self::Scale {
        let d = T::widen(w.get_as(at + 208));
        each(integers(each(w.some::<2>(at + 192 + 2 * block), |s| s ^ 0x80), 128), |s| d * s)
    }

    #[inline(always)]
    fn values<const N: usize>(w: &impl Bytes, place: Place, scales: Self::Scale, i: usize) -> [[f32; N]; 2] {
        let Place { at, block } = place;
        // Of four blocks the first two have the low halves of 64 bytes, the others the high ones.
        let (low, shift) = (at + block / 4 * 64 + block % 2 * BLOCK + i, block / 2 % 2 * 4);
        let high: [[_; N]; 2] = two_bits(w, Place { at: at + 128, block }, i);
        each([0, 1], |half| {
            let low = each(w.some::<N>(low + 16 * half), |byte| byte >> shift & 15);
            each(integers(each(numbers::<N>(), |j| low[j] | high[half][j] << 4), 32), |q| scales[half] * q)
        })
    }
}

/// Bits from `i` and from `i + 16` on, two a value, four blocks sharing 32 bytes.
#[inline(always)]
fn two_bits<const N: usize>(w: &impl Bytes, Place { at, block }: Place, i: usize) -> [[u8; N]; 2] {
    let (first, shift) = (at + block / 4 * BLOCK + i, block % 4 * 2);
    each([0, 16], |half| each(w.some(first + half), |byte: u8| byte >> shift & 3))
}

/// Quants from `i` and from `i + 16` on, four bits each, two blocks sharing 32 bytes.
#[inline(always)]
fn four_bits<const N: usize>(w: &impl Bytes, Place { at, block }: Place, i: usize) -> [[u8; N]; 2] {
    let (first, shift) = (at + block / 2 * BLOCK + i, block % 2 * 4);
    each([0, 16], |half| each(w.some(first + half), |byte: u8| byte >> shift & 15))
}

/// `d s` and `d' m` of Q4_K and Q5_K.
#[inline(always)]
fn scale_and_minimum<T: Team>(w: &impl Bytes, Place { at, block }: Place) -> (f32, f32) {
    let (d, d_min) = (T::widen(w.get_as(at)), T::widen(w.get_as(at + 2)));
    // The first four parts have their scales in the low six bits of bytes 0 to 3, their minima in those of 4 to 7. The last
    // four have four bits of each in bytes 8 to 11, and the two bits that the others left free.
    let byte = |third: usize| w.get(at + 4 + 4 * third + block % 4);
    let (scales, minima, rest) = (byte(0), byte(1), byte(2));
    let both = if block < 4 {
        [scales & 63, minima & 63]
    } else {
        [rest & 15 | scales >> 6 << 4, rest >> 4 | minima >> 6 << 4]
    };
    let [s, m] = integers(both, 0);
    (d * s, d_min * m)
}
