//! Types whose blocks are stored by themselves: a scale `d`, for some a minimum `m`, and 4, 5 or 8 bits a value.

use cuda_std::Team;
use cuda_std::math::{integers, mul_add};

use super::{BLOCK, Bytes, Format, Place, each, numbers};

/// `d * q`: an f16 scale, 32 signed bytes.
pub struct Q8_0;

impl Format for Q8_0 {
    const BYTES: usize = 2 + BLOCK;
    type Scale = f32;

    #[inline(always)]
    fn scale<T: Team>(w: &impl Bytes, Place { at, .. }: Place) -> f32 {
        T::widen(w.get_as(at))
    }

    #[inline(always)]
    fn values<const N: usize>(w: &impl Bytes, Place { at, .. }: Place, d: f32, i: usize) -> [[f32; N]; 2] {
        each([0, 16], |half| {
            each(integers(each(w.some(at + 2 + half + i), |q: u8| q ^ 0x80), 128), |q| q * d)
        })
    }
}

/// `d * (q - 8)`: an f16 scale, 16 bytes whose low halves are values 0 to 15 and whose high halves are 16 to 31.
pub struct Q4_0;

impl Format for Q4_0 {
    const BYTES: usize = 2 + BLOCK / 2;
    type Scale = f32;

    #[inline(always)]
    fn scale<T: Team>(w: &impl Bytes, Place { at, .. }: Place) -> f32 {
        T::widen(w.get_as(at))
    }

    #[inline(always)]
    fn values<const N: usize>(w: &impl Bytes, Place { at, .. }: Place, d: f32, i: usize) -> [[f32; N]; 2] {
        each(halves(w.some(at + 2 + i)), |half| each(integers(half, 8), |q| q * d))
    }
}

/// `d * q + m`: an f16 scale, an f16 minimum, halves of bytes as in [`Q4_0`].
pub struct Q4_1;

impl Format for Q4_1 {
    const BYTES: usize = 4 + BLOCK / 2;
    type Scale = (f32, f32);

    #[inline(always)]
    fn scale<T: Team>(w: &impl Bytes, Place { at, .. }: Place) -> (f32, f32) {
        (T::widen(w.get_as(at)), T::widen(w.get_as(at + 2)))
    }

    #[inline(always)]
    fn values<const N: usize>(
        w: &impl Bytes,
        Place { at, .. }: Place,
        (d, m): (f32, f32),
        i: usize,
    ) -> [[f32; N]; 2] {
        each(halves(w.some(at + 4 + i)), |half| each(integers(half, 0), |q| mul_add(q, d, m)))
    }
}

/// `d * (q - 16)`: an f16 scale, 32 bits of which bit `i` is the fifth of value `i`, halves of bytes as in [`Q4_0`].
pub struct Q5_0;

impl Format for Q5_0 {
    const BYTES: usize = 6 + BLOCK / 2;
    /// With the fifth bits.
    type Scale = (f32, u32);

    #[inline(always)]
    fn scale<T: Team>(w: &impl Bytes, Place { at, .. }: Place) -> (f32, u32) {
        (T::widen(w.get_as(at)), fifth_bits(w, at + 2))
    }

    #[inline(always)]
    fn values<const N: usize>(
        w: &impl Bytes,
        Place { at, .. }: Place,
        (d, fifth): (f32, u32),
        i: usize,
    ) -> [[f32; N]; 2] {
        each(five_bits(w.some(at + 6 + i), fifth, i), |half| each(integers(half, 16), |q| q * d))
    }
}

/// `d * q + m`: an f16 scale, an f16 minimum, then the bits of [`Q5_0`].
pub struct Q5_1;

impl Format for Q5_1 {
    const BYTES: usize = 8 + BLOCK / 2;
    /// With the fifth bits.
    type Scale = (f32, f32, u32);

    #[inline(always)]
    fn scale<T: Team>(w: &impl Bytes, Place { at, .. }: Place) -> (f32, f32, u32) {
        (T::widen(w.get_as(at)), T::widen(w.get_as(at + 2)), fifth_bits(w, at + 4))
    }

    #[inline(always)]
    fn values<const N: usize>(
        w: &impl Bytes,
        Place { at, .. }: Place,
        (d, m, fifth): (f32, f32, u32),
        i: usize,
    ) -> [[f32; N]; 2] {
        each(five_bits(w.some(at + 8 + i), fifth, i), |half| each(integers(half, 0), |q| mul_add(q, d, m)))
    }
}

/// Four bytes at an even place.
#[inline(always)]
fn fifth_bits(w: &impl Bytes, at: usize) -> u32 {
    w.get_as::<u16>(at) as u32 | (w.get_as::<u16>(at + 2) as u32) << 16
}

/// The low halves of bytes, and the high ones.
#[inline(always)]
fn halves<const N: usize>(bytes: [u8; N]) -> [[u8; N]; 2] {
    [each(bytes, |byte| byte & 15), each(bytes, |byte| byte >> 4)]
}

/// Quants from `i` and from `i + 16` on.
#[inline(always)]
fn five_bits<const N: usize>(bytes: [u8; N], fifth: u32, i: usize) -> [[u8; N]; 2] {
    let four = halves(bytes);
    each([0, 1], |half| each(numbers(), |j| four[half][j] | ((fifth >> (16 * half + i + j) & 1) << 4) as u8))
}
