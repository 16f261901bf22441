//! Types whose 4 bits a value are an index into sixteen numbers: 16 bytes a block whose low halves are values 0 to 15 and
//! whose high halves are 16 to 31.

use cuda_std::{F16, F16x2, Integers, MmaInput, Team};

use super::{BLOCK, Bytes, Few, Format, Place, SUPER_BLOCK, each, numbers, word};

/// `d * number`, of [`uneven`] numbers: an f16 scale, then the block.
pub struct IQ4_NL;

impl Format for IQ4_NL {
    const BYTES: usize = 2 + BLOCK / 2;
    const LONG: bool = true;
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
        each(halves(raw.bytes()), |half| each(half, |q| d * uneven(q) as f32))
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(raw: Few<2>, _: Place, d: F16, _: usize) -> [[u16; 2]; 2] {
        const { assert!(!I::BF16) };
        uneven_times(raw, F16x2::both::<T>(d))
    }
}

/// `d (s - 32) * number`, of [`uneven`] numbers: an f16 scale, the two upper bits of eight `s` in 16 bits, their four lower
/// bits in 4 bytes, then eight blocks.
pub struct IQ4_XS;

impl Format for IQ4_XS {
    const BYTES: usize = 2 + 2 + 4 + SUPER_BLOCK / 2;
    const VALUES: usize = SUPER_BLOCK;
    const LONG: bool = true;
    /// `d`, the upper bits of all, a byte of lower ones.
    type Shared = (F16, u16, u8);
    type Scale = f32;
    type Raw<const N: usize> = Few<N>;

    #[inline(always)]
    fn shared(w: &impl Bytes, Place { at, block }: Place) -> (F16, u16, u8) {
        (w.get_as(at), w.get_as(at + 2), w.get(at + 4 + block / 2))
    }

    #[inline(always)]
    fn scale<T: Team>(shared: Self::Shared, place: Place) -> f32 {
        T::widen(shared.0) * (six_bits(shared, place) as i32 - 32) as f32
    }

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, Place { at, block }: Place, i: usize) -> Few<N> {
        w.few(at + 8 + block * (BLOCK / 2) + i)
    }

    #[inline(always)]
    fn values<const N: usize>(raw: Few<N>, _: Place, d: f32, _: usize) -> [[f32; N]; 2] {
        each(halves(raw.bytes()), |half| each(half, |q| d * uneven(q) as f32))
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(
        raw: Few<2>,
        place: Place,
        shared: Self::Shared,
        _: usize,
    ) -> [[u16; 2]; 2] {
        const { assert!(!I::BF16) };
        let s = Integers::bytes(six_bits(shared, place), 0).less(32, 0).one(0);
        uneven_times(raw, s.times(F16x2::both::<T>(shared.0)).rounded())
    }
}

/// `2^(e - 128) * number`, of [`doubled_e2m1`] numbers: a byte `e`, then the block. OCP's Microscaling Formats (2023) with
/// every number doubled and the scale halved; their scale that is not a number is 2^127 here.
pub struct MXFP4;

impl Format for MXFP4 {
    const BYTES: usize = 1 + BLOCK / 2;
    const SHORT: bool = true;
    type Shared = u8;
    type Scale = f32;
    /// Blocks begin anywhere.
    type Raw<const N: usize> = [u8; N];

    #[inline(always)]
    fn shared(w: &impl Bytes, Place { at, .. }: Place) -> u8 {
        w.get(at)
    }

    #[inline(always)]
    fn scale<T: Team>(e: u8, _: Place) -> f32 {
        let e = e as u32;
        // The two least are subnormal.
        f32::from_bits(if e < 2 { 1 << (21 + e) } else { (e - 1) << 23 })
    }

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, Place { at, .. }: Place, i: usize) -> [u8; N] {
        each(numbers(), |j| w.get(at + 1 + i + j))
    }

    #[inline(always)]
    fn values<const N: usize>(raw: [u8; N], _: Place, d: f32, _: usize) -> [[f32; N]; 2] {
        each(halves(raw), |half| each(half, |q| d * doubled_e2m1(q) as f32))
    }

    /// In bf16, which has such a scale's range.
    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(raw: [u8; 2], place: Place, e: u8, i: usize) -> [[u16; 2]; 2] {
        let d = Self::scale::<T>(e, place);
        #[cfg(target_arch = "nvptx64")]
        if I::BF16 {
            // A power of two: its lower half is zeros.
            return cuda_std::Bf16::of_e2m1(raw, cuda_std::Bf16((d.to_bits() >> 16) as u16));
        }
        each(Self::values(raw, place, d, i), I::both)
    }
}

/// A block's scale, plus 32.
#[inline(always)]
fn six_bits((_, high, low): (F16, u16, u8), Place { block, .. }: Place) -> u32 {
    let high = high as u32 >> (2 * block) & 3;
    let low = low as u32 >> (block % 2 * 4) & 15;
    low | high << 4
}

/// Numbers of [`uneven`] times a scale.
#[inline(always)]
fn uneven_times(raw: Few<2>, scale: F16x2) -> [[u16; 2]; 2] {
    each(halves(raw.bytes()), |half| {
        let numbers = each(half, |q| uneven(q) as u8);
        Integers::signed_bytes(word(numbers), 0).less(128, 0).times(scale).bits()
    })
}

#[inline(always)]
fn halves<const N: usize>(bytes: [u8; N]) -> [[u32; N]; 2] {
    [each(bytes, |byte| byte as u32 & 15), each(bytes, |byte| byte as u32 >> 4)]
}

/// -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113: denser near zero, as weights are.
///
/// Looked up in registers: memory would be asked once for each value.
#[inline(always)]
fn uneven(q: u32) -> i32 {
    const fn four(numbers: [i8; 4]) -> u32 {
        let [a, b, c, d] = numbers;
        u32::from_le_bytes([a as u8, b as u8, c as u8, d as u8])
    }
    const NUMBERS: [u32; 4] = [
        four([-127, -104, -83, -65]),
        four([-49, -35, -22, -10]),
        four([1, 13, 25, 38]),
        four([53, 69, 89, 113]),
    ];
    let [low, high] = [q & 4 == 0, q & 8 == 0];
    let negative = if low { NUMBERS[0] } else { NUMBERS[1] };
    let positive = if low { NUMBERS[2] } else { NUMBERS[3] };
    let four = if high { negative } else { positive };
    (four >> (q % 4 * 8)) as i8 as i32
}

/// 0, 1, 2, 3, 4, 6, 8, 12, and with the upper bit their negatives: twice a float with two bits of exponent and one of
/// fraction. Looked up as [`uneven`].
#[inline(always)]
fn doubled_e2m1(q: u32) -> i32 {
    let magnitude = (0xc864_3210u32 >> (q % 8 * 4) & 15) as i32;
    if q < 8 { magnitude } else { -magnitude }
}
