//! Types whose blocks are stored by themselves: a scale `d`, for some a minimum `m`, and 4, 5 or 8 bits a value.

use cuda_std::math::{UNIT, integers, mul_add, whole};
use cuda_std::{F16, F16x2, Integers, MmaInput, Team};

use super::{BLOCK, Bytes, Few, Format, Place, each, numbers, word};

/// `d * q`: an f16 scale, 32 signed bytes.
pub struct Q8_0;

impl Format for Q8_0 {
    const BYTES: usize = 2 + BLOCK;
    const SHORT: bool = true;
    type Shared = F16;
    type Scale = f32;
    type Raw<const N: usize> = [Few<N>; 2];

    #[inline(always)]
    fn shared(w: &impl Bytes, Place { at, .. }: Place) -> F16 {
        w.get_as(at)
    }

    #[inline(always)]
    fn scale<T: Team>(d: F16, _: Place) -> f32 {
        T::widen(d)
    }

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, Place { at, .. }: Place, i: usize) -> [Few<N>; 2] {
        each([0, 16], |half| w.few(at + 2 + half + i))
    }

    #[inline(always)]
    fn values<const N: usize>(raw: [Few<N>; 2], _: Place, d: f32, _: usize) -> [[f32; N]; 2] {
        each(raw, |half| each(integers(each(half.bytes(), |q| q ^ 0x80), 128), |q| q * d))
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(raw: [Few<2>; 2], _: Place, d: F16, _: usize) -> [[u16; 2]; 2] {
        const { assert!(!I::BF16) };
        let d = F16x2::both::<T>(d);
        each(raw, |half| Integers::signed_bytes(half.word(), 0).less(128, 0).times(d).bits())
    }
}

/// `d * (q - 8)`: an f16 scale, 16 bytes whose low halves are values 0 to 15 and whose high halves are 16 to 31.
pub struct Q4_0;

impl Format for Q4_0 {
    const BYTES: usize = 2 + BLOCK / 2;
    const SHORT: bool = true;
    type Shared = F16;
    type Scale = f32;
    type Raw<const N: usize> = Few<N>;

    #[inline(always)]
    fn shared(w: &impl Bytes, Place { at, .. }: Place) -> F16 {
        w.get_as(at)
    }

    #[inline(always)]
    fn scale<T: Team>(d: F16, _: Place) -> f32 {
        T::widen(d)
    }

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, Place { at, .. }: Place, i: usize) -> Few<N> {
        w.few(at + 2 + i)
    }

    #[inline(always)]
    fn values<const N: usize>(raw: Few<N>, _: Place, d: f32, _: usize) -> [[f32; N]; 2] {
        each(halves(raw.bytes()), |half| each(integers(half, 8), |q| q * d))
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(raw: Few<2>, _: Place, d: F16, _: usize) -> [[u16; 2]; 2] {
        const { assert!(!I::BF16) };
        let (d, q) = (F16x2::both::<T>(d), Integers::bytes(raw.word(), 0));
        each([q.bits(0x0f).less(8, 0), q.bits(0xf0).less(8, 4)], |q| q.times(d).bits())
    }
}

/// `d * q + m`: an f16 scale, an f16 minimum, halves of bytes as in [`Q4_0`].
pub struct Q4_1;

impl Format for Q4_1 {
    const BYTES: usize = 4 + BLOCK / 2;
    const SHORT: bool = true;
    type Shared = (F16, F16);
    type Scale = (f32, f32);
    type Raw<const N: usize> = Few<N>;

    #[inline(always)]
    fn shared(w: &impl Bytes, Place { at, .. }: Place) -> (F16, F16) {
        (w.get_as(at), w.get_as(at + 2))
    }

    #[inline(always)]
    fn scale<T: Team>((d, m): (F16, F16), _: Place) -> (f32, f32) {
        (T::widen(d), T::widen(m))
    }

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, Place { at, .. }: Place, i: usize) -> Few<N> {
        w.few(at + 4 + i)
    }

    #[inline(always)]
    fn values<const N: usize>(raw: Few<N>, _: Place, (d, m): (f32, f32), _: usize) -> [[f32; N]; 2] {
        // The high halves are sixteen times as much where they stand.
        let d = d * (1.0 / UNIT);
        let halves = [(raw.bits(0, 0x0f), d), (raw.bits(0, 0xf0), d * (1.0 / 16.0))];
        each(halves, |(half, d)| each(whole(half.bytes()), |q| mul_add(q, d, m)))
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(raw: Few<2>, _: Place, (d, m): (F16, F16), _: usize) -> [[u16; 2]; 2] {
        const { assert!(!I::BF16) };
        let (d, m, q) = (F16x2::both::<T>(d), F16x2::both::<T>(m), Integers::bytes(raw.word(), 0));
        each([q.bits(0x0f).less(0, 0), q.bits(0xf0).less(0, 4)], |q| q.fused(d, m).bits())
    }
}

/// `d * (q - 16)`: an f16 scale, 32 bits of which bit `i` is the fifth of value `i`, halves of bytes as in [`Q4_0`].
pub struct Q5_0;

impl Format for Q5_0 {
    const BYTES: usize = 6 + BLOCK / 2;
    type Shared = (F16, FifthBits);
    /// With the fifth bits.
    type Scale = (f32, u32);
    type Raw<const N: usize> = Few<N>;

    #[inline(always)]
    fn shared(w: &impl Bytes, Place { at, .. }: Place) -> (F16, FifthBits) {
        (w.get_as(at), fifth_bits(w, at + 2))
    }

    #[inline(always)]
    fn scale<T: Team>((d, [low, high]): (F16, FifthBits), _: Place) -> (f32, u32) {
        (T::widen(d), low as u32 | (high as u32) << 16)
    }

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, Place { at, .. }: Place, i: usize) -> Few<N> {
        w.few(at + 6 + i)
    }

    #[inline(always)]
    fn values<const N: usize>(raw: Few<N>, _: Place, (d, fifth): (f32, u32), i: usize) -> [[f32; N]; 2] {
        each(five_bits(raw.bytes(), fifth, i), |half| each(integers(half, 16), |q| q * d))
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(
        raw: Few<2>,
        place: Place,
        shared: Self::Shared,
        i: usize,
    ) -> [[u16; 2]; 2] {
        const { assert!(!I::BF16) };
        let (_, fifth) = Self::scale::<T>(shared, place);
        let d = F16x2::both::<T>(shared.0);
        each(five_bits(raw.bytes(), fifth, i), |half| {
            Integers::bytes(word(half), 0).less(16, 0).times(d).bits()
        })
    }
}

/// `d * q + m`: an f16 scale, an f16 minimum, then the bits of [`Q5_0`].
pub struct Q5_1;

impl Format for Q5_1 {
    const BYTES: usize = 8 + BLOCK / 2;
    type Shared = (F16, F16, FifthBits);
    /// With the fifth bits.
    type Scale = (f32, f32, u32);
    type Raw<const N: usize> = Few<N>;

    #[inline(always)]
    fn shared(w: &impl Bytes, Place { at, .. }: Place) -> (F16, F16, FifthBits) {
        (w.get_as(at), w.get_as(at + 2), fifth_bits(w, at + 4))
    }

    #[inline(always)]
    fn scale<T: Team>((d, m, [low, high]): (F16, F16, FifthBits), _: Place) -> (f32, f32, u32) {
        (T::widen(d), T::widen(m), low as u32 | (high as u32) << 16)
    }

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, Place { at, .. }: Place, i: usize) -> Few<N> {
        w.few(at + 8 + i)
    }

    #[inline(always)]
    fn values<const N: usize>(
        raw: Few<N>,
        _: Place,
        (d, m, fifth): (f32, f32, u32),
        i: usize,
    ) -> [[f32; N]; 2] {
        each(five_bits(raw.bytes(), fifth, i), |half| each(whole(half), |q| mul_add(q, d * (1.0 / UNIT), m)))
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(
        raw: Few<2>,
        place: Place,
        shared: Self::Shared,
        i: usize,
    ) -> [[u16; 2]; 2] {
        const { assert!(!I::BF16) };
        let (.., fifth) = Self::scale::<T>(shared, place);
        let (d, m) = (F16x2::both::<T>(shared.0), F16x2::both::<T>(shared.1));
        each(five_bits(raw.bytes(), fifth, i), |half| {
            Integers::bytes(word(half), 0).less(0, 0).fused(d, m).bits()
        })
    }
}

/// 32 bits at an even place, the low ones first.
type FifthBits = [u16; 2];

#[inline(always)]
fn fifth_bits(w: &impl Bytes, at: usize) -> FifthBits {
    [w.get_as(at), w.get_as(at + 2)]
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
