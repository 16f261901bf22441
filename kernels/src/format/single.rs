//! Types whose blocks are stored by themselves: a scale `d`, for some a minimum `m`, and 4, 5 or 8 bits a value.

use cuda_std::{In, Team};

use super::{BLOCK, Format, Place};

/// `d * q`: an f16 scale, 32 signed bytes.
pub struct Q8_0;

impl Format for Q8_0 {
    const BYTES: usize = 2 + BLOCK;
    type Scale = f32;

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, Place { at, .. }: Place) -> f32 {
        T::widen(w.get_as(at))
    }

    #[inline(always)]
    fn pair(w: &In<u8>, Place { at, .. }: Place, d: f32, i: usize) -> [f32; 2] {
        let value = |i: usize| w.get(at + 2 + i) as i8 as i32 as f32 * d;
        [value(i), value(i + 16)]
    }
}

/// `d * (q - 8)`: an f16 scale, 16 bytes whose low halves are values 0 to 15 and whose high halves are 16 to 31.
pub struct Q4_0;

impl Format for Q4_0 {
    const BYTES: usize = 2 + BLOCK / 2;
    type Scale = f32;

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, Place { at, .. }: Place) -> f32 {
        T::widen(w.get_as(at))
    }

    #[inline(always)]
    fn pair(w: &In<u8>, Place { at, .. }: Place, d: f32, i: usize) -> [f32; 2] {
        let q = w.get(at + 2 + i) as i32;
        [((q & 15) - 8) as f32 * d, ((q >> 4) - 8) as f32 * d]
    }
}

/// `d * q + m`: an f16 scale, an f16 minimum, halves of bytes as in [`Q4_0`].
pub struct Q4_1;

impl Format for Q4_1 {
    const BYTES: usize = 4 + BLOCK / 2;
    type Scale = (f32, f32);

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, Place { at, .. }: Place) -> (f32, f32) {
        (T::widen(w.get_as(at)), T::widen(w.get_as(at + 2)))
    }

    #[inline(always)]
    fn pair(w: &In<u8>, Place { at, .. }: Place, (d, m): (f32, f32), i: usize) -> [f32; 2] {
        let q = w.get(at + 4 + i) as i32;
        [(q & 15) as f32 * d + m, (q >> 4) as f32 * d + m]
    }
}

/// `d * (q - 16)`: an f16 scale, 32 bits of which bit `i` is the fifth of value `i`, halves of bytes as in [`Q4_0`].
pub struct Q5_0;

impl Format for Q5_0 {
    const BYTES: usize = 6 + BLOCK / 2;
    /// With the fifth bits.
    type Scale = (f32, u32);

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, Place { at, .. }: Place) -> (f32, u32) {
        (T::widen(w.get_as(at)), fifth_bits(w, at + 2))
    }

    #[inline(always)]
    fn pair(w: &In<u8>, Place { at, .. }: Place, (d, fifth): (f32, u32), i: usize) -> [f32; 2] {
        five_bits(w.get(at + 6 + i), fifth, i).map(|q| (q - 16) as f32 * d)
    }
}

/// `d * q + m`: an f16 scale, an f16 minimum, then the bits of [`Q5_0`].
pub struct Q5_1;

impl Format for Q5_1 {
    const BYTES: usize = 8 + BLOCK / 2;
    /// With the fifth bits.
    type Scale = (f32, f32, u32);

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, Place { at, .. }: Place) -> (f32, f32, u32) {
        (T::widen(w.get_as(at)), T::widen(w.get_as(at + 2)), fifth_bits(w, at + 4))
    }

    #[inline(always)]
    fn pair(w: &In<u8>, Place { at, .. }: Place, (d, m, fifth): (f32, f32, u32), i: usize) -> [f32; 2] {
        five_bits(w.get(at + 8 + i), fifth, i).map(|q| q as f32 * d + m)
    }
}

/// Four bytes at an even place.
#[inline(always)]
fn fifth_bits(w: &In<u8>, at: usize) -> u32 {
    w.get_as::<u16>(at) as u32 | (w.get_as::<u16>(at + 2) as u32) << 16
}

/// Quants `i` and `i + 16`.
#[inline(always)]
fn five_bits(q: u8, fifth: u32, i: usize) -> [i32; 2] {
    let (q, fifth) = (q as u32, fifth >> i);
    [((q & 15) | (fifth & 1) << 4) as i32, (q >> 4 | (fifth >> 16 & 1) << 4) as i32]
}
