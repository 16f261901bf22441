//! Super-blocks of 256 values, which share an f16 scale `d`, for some an f16 factor of minima `d'` too. Parts of 16 or 32
//! values have scales `s` and minima `m` of a few bits.
//!
//! Where two, four or eight blocks share bytes, block `b`'s bits are the lower ones, the lower its number. Where a value is
//! a product less a minimum, the product is exact, so that one rounding is all there is.

use cuda_std::math::{UNIT, integer_of, integers, mul_add, power_of_two, whole};
use cuda_std::{F16, F16x2, Integers, MmaInput, Team};

use super::{BLOCK, Bytes, Few, Format, Place, SUPER_BLOCK, each};

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
    /// `d`, `d'`, and two parts' `s` and `m`.
    type Shared = (F16, F16, Few<2>);
    type Raw<const N: usize> = Halves<Few<N>>;
    const READ_TOGETHER: usize = 4;

    #[inline(always)]
    fn shared(w: &impl Bytes, Place { at, block }: Place) -> Self::Shared {
        (w.get_as(at + 80), w.get_as(at + 82), w.few(at + 2 * block))
    }

    #[inline(always)]
    fn scale<T: Team>((d, d_min, parts): Self::Shared, _: Place) -> Self::Scale {
        let (d, d_min, parts) = (T::widen(d), T::widen(d_min), parts.bytes());
        let (s, m) = (integers(each(parts, |byte| byte & 15), 0), integers(each(parts, |byte| byte >> 4), 0));
        each([0, 1], |half| (d * s[half], d_min * m[half]))
    }

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, place: Place, i: usize) -> Halves<Few<N>> {
        two_bits(w, place.at + 16, place, i)
    }

    #[inline(always)]
    fn values<const N: usize>(
        raw: Halves<Few<N>>,
        place: Place,
        scales: Self::Scale,
        _: usize,
    ) -> [[f32; N]; 2] {
        each([0, 1], |half| {
            let q = integers(two_of(raw[half], place).bytes(), 0);
            each(q, |q| mul_add(scales[half].0, q, -scales[half].1))
        })
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(
        raw: Halves<Few<2>>,
        place: Place,
        (d, d_min, parts): Self::Shared,
        _: usize,
    ) -> [[u16; 2]; 2] {
        const { assert!(!I::BF16) };
        let (parts, shift) = (Integers::bytes(parts.word(), 0), place.block % 4 * 2);
        let d = parts.bits(0x0f).less(0, 0).times(F16x2::both::<T>(d)).rounded();
        let m = parts.bits(0xf0).less(0, 4).times(F16x2::both::<T>(d_min).negated()).rounded();
        each([0, 1], |half| {
            let q = Integers::bytes(raw[half].word(), 0).bits(3 << shift).less(0, shift);
            q.fused(d.one(half), m.one(half)).bits()
        })
    }
}

/// `d (s - 32) (q - 4)`, 16 values a part: 32 bytes whose bit `b` is the third of block `b`'s values, 64 bytes of 2 bits a
/// value as in [`Q2_K`], 12 bytes of 6 bits a scale, `d`.
pub struct Q3_K;

impl Format for Q3_K {
    const BYTES: usize = SUPER_BLOCK / 8 + SUPER_BLOCK / 4 + 12 + 2;
    const VALUES: usize = SUPER_BLOCK;
    type Scale = Halves<f32>;
    /// `d`, and two parts' lower and upper bits of `s`.
    type Shared = (F16, Few<2>, Few<2>);
    const READ_TOGETHER: usize = 4;
    /// Two bits of values, and the third.
    type Raw<const N: usize> = (Halves<Few<N>>, Halves<Few<N>>);

    #[inline(always)]
    fn shared(w: &impl Bytes, Place { at, block }: Place) -> Self::Shared {
        // Part `p` has four bits in byte `p mod 8`, above those of part `p - 8`, and two in byte `8 + p mod 4`.
        (w.get_as(at + 108), w.few(at + 96 + 2 * block % 8), w.few(at + 104 + 2 * block % 4))
    }

    #[inline(always)]
    fn scale<T: Team>((d, low, high): Self::Shared, Place { block, .. }: Place) -> Self::Scale {
        let d = T::widen(d);
        each(integers(six_bits(low, high, block).bytes(), 32), |s| d * s)
    }

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, place: Place, i: usize) -> Self::Raw<N> {
        (two_bits(w, place.at + 32, place, i), each([0, 16], |half| w.few(place.at + half + i)))
    }

    #[inline(always)]
    fn values<const N: usize>(
        (two, third): Self::Raw<N>,
        place: Place,
        scales: Self::Scale,
        _: usize,
    ) -> [[f32; N]; 2] {
        each([0, 1], |half| {
            let q = two_of(two[half], place).with(third[half], place.block, 1, 2);
            each(integers(q.bytes(), 4), |q| scales[half] * q)
        })
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(
        (two, third): Self::Raw<2>,
        place: Place,
        (d, low, high): Self::Shared,
        _: usize,
    ) -> [[u16; 2]; 2] {
        const { assert!(!I::BF16) };
        let s = Integers::bytes(six_bits(low, high, place.block).word(), 0).less(32, 0);
        let s = s.times(F16x2::both::<T>(d)).rounded();
        each([0, 1], |half| {
            let q = two_of(two[half], place).with(third[half], place.block, 1, 2);
            Integers::bytes(q.word(), 0).less(4, 0).times(s.one(half)).bits()
        })
    }
}

/// `d s q - d' m`, 32 values a part: `d`, `d'`, 12 bytes of 6 bits a scale and a minimum, 128 bytes of which each 32 are
/// two blocks' values of 4 bits.
pub struct Q4_K;

impl Format for Q4_K {
    const BYTES: usize = 16 + SUPER_BLOCK / 2;
    const SHORT: bool = true;
    const VALUES: usize = SUPER_BLOCK;
    /// Scale, in units of [`whole`] and of where four bits begin, and minimum.
    type Scale = (f32, f32);
    const TOGETHER: usize = 8;
    const READ_TOGETHER: usize = 2;
    type Shared = ScalesAndMinima;
    type Raw<const N: usize> = Halves<Few<N>>;

    #[inline(always)]
    fn shared(w: &impl Bytes, place: Place) -> ScalesAndMinima {
        scales_and_minima(w, place)
    }

    #[inline(always)]
    fn scale<T: Team>(shared: ScalesAndMinima, place: Place) -> (f32, f32) {
        shared.values::<T>(place, power_of_two(-(upper(place) as i32)) / UNIT)
    }

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, place: Place, i: usize) -> Halves<Few<N>> {
        four_bits(w, place.at + 16, place, i)
    }

    #[inline(always)]
    fn values<const N: usize>(
        raw: Halves<Few<N>>,
        place: Place,
        (d, m): (f32, f32),
        _: usize,
    ) -> [[f32; N]; 2] {
        each(raw, |half| each(whole(half.bits(0, 15 << upper(place)).bytes()), |q| mul_add(d, q, -m)))
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(
        raw: Halves<Few<2>>,
        place: Place,
        shared: ScalesAndMinima,
        _: usize,
    ) -> [[u16; 2]; 2] {
        const { assert!(!I::BF16) };
        let (d, m) = shared.halves::<T>(place);
        let shift = upper(place);
        each(raw, |half| {
            let q = Integers::bytes(half.word(), 0).bits(15 << shift).less(0, shift);
            q.fused(d, m).bits()
        })
    }
}

/// `d s q - d' m`, 32 values a part: as [`Q4_K`], with 32 bytes before the last 128 whose bit `b` is the fifth of block `b`'s
/// values.
pub struct Q5_K;

impl Format for Q5_K {
    const BYTES: usize = 16 + SUPER_BLOCK / 8 + SUPER_BLOCK / 2;
    const VALUES: usize = SUPER_BLOCK;
    /// Scale, in units of [`whole`], and minimum.
    type Scale = (f32, f32);
    const TOGETHER: usize = 8;
    const READ_TOGETHER: usize = 2;
    type Shared = ScalesAndMinima;
    /// Four bits of values, and the fifth.
    type Raw<const N: usize> = (Halves<Few<N>>, Halves<Few<N>>);

    #[inline(always)]
    fn shared(w: &impl Bytes, place: Place) -> ScalesAndMinima {
        scales_and_minima(w, place)
    }

    #[inline(always)]
    fn scale<T: Team>(shared: ScalesAndMinima, place: Place) -> (f32, f32) {
        shared.values::<T>(place, 1.0 / UNIT)
    }

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, place: Place, i: usize) -> Self::Raw<N> {
        (four_bits(w, place.at + 48, place, i), each([0, 16], |half| w.few(place.at + 16 + half + i)))
    }

    #[inline(always)]
    fn values<const N: usize>(
        (four, fifth): Self::Raw<N>,
        place: Place,
        (d, m): (f32, f32),
        _: usize,
    ) -> [[f32; N]; 2] {
        each([0, 1], |half| {
            let q = four[half].bits(upper(place), 15).with(fifth[half], place.block, 1, 4);
            each(whole(q.bytes()), |q| mul_add(d, q, -m))
        })
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(
        (four, fifth): Self::Raw<2>,
        place: Place,
        shared: ScalesAndMinima,
        _: usize,
    ) -> [[u16; 2]; 2] {
        const { assert!(!I::BF16) };
        let (d, m) = shared.halves::<T>(place);
        each([0, 1], |half| {
            let q = four[half].bits(upper(place), 15).with(fifth[half], place.block, 1, 4);
            Integers::bytes(q.word(), 0).less(0, 0).fused(d, m).bits()
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
    /// `d`, and two parts' `s`.
    type Shared = (F16, Few<2>);
    /// Four bits of values, and the two above them.
    type Raw<const N: usize> = (Halves<Few<N>>, Halves<Few<N>>);

    #[inline(always)]
    fn shared(w: &impl Bytes, Place { at, block }: Place) -> Self::Shared {
        (w.get_as(at + 208), w.few(at + 192 + 2 * block))
    }

    #[inline(always)]
    fn scale<T: Team>((d, parts): Self::Shared, _: Place) -> Self::Scale {
        let d = T::widen(d);
        each(integers(each(parts.bytes(), |s| s ^ 0x80), 128), |s| d * s)
    }

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, place: Place, i: usize) -> Self::Raw<N> {
        let Place { at, block } = place;
        let low = at + block / 4 * 64 + block % 2 * BLOCK + i;
        (each([0, 16], |half| w.few(low + half)), two_bits(w, at + 128, place, i))
    }

    #[inline(always)]
    fn values<const N: usize>(
        (low, high): Self::Raw<N>,
        place: Place,
        scales: Self::Scale,
        _: usize,
    ) -> [[f32; N]; 2] {
        // Of four blocks the first two have the low halves of 64 bytes, the others the high ones.
        let shift = place.block / 2 % 2 * 4;
        each([0, 1], |half| {
            let q = low[half].bits(shift, 15).with(high[half], place.block % 4 * 2, 3, 4);
            each(integers(q.bytes(), 32), |q| scales[half] * q)
        })
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(
        (low, high): Self::Raw<2>,
        place: Place,
        (d, parts): Self::Shared,
        _: usize,
    ) -> [[u16; 2]; 2] {
        const { assert!(!I::BF16) };
        let shift = place.block / 2 % 2 * 4;
        let s = Integers::signed_bytes(parts.word(), 0).less(128, 0).times(F16x2::both::<T>(d)).rounded();
        each([0, 1], |half| {
            let q = low[half].bits(shift, 15).with(high[half], place.block % 4 * 2, 3, 4);
            Integers::bytes(q.word(), 0).less(32, 0).times(s.one(half)).bits()
        })
    }
}

/// Reads from `i` and from `i + 16` on, two bits a value, four blocks sharing 32 bytes, the first of them at `at`.
#[inline(always)]
fn two_bits<const N: usize>(
    w: &impl Bytes,
    at: usize,
    Place { block, .. }: Place,
    i: usize,
) -> Halves<Few<N>> {
    each([0, 16], |half| w.few(at + block / 4 * BLOCK + i + half))
}

/// Two scales of six bits, of which four and two are read.
#[inline(always)]
fn six_bits(low: Few<2>, high: Few<2>, block: usize) -> Few<2> {
    low.bits(block / 4 * 4, 15).with(high, block / 2 * 2, 3, 4)
}

/// A block's bits of these.
#[inline(always)]
fn two_of<const N: usize>(raw: Few<N>, Place { block, .. }: Place) -> Few<N> {
    raw.bits(block % 4 * 2, 3)
}

/// Reads from `i` and from `i + 16` on, four bits a value, two blocks sharing 32 bytes, the first of them at `at`.
#[inline(always)]
fn four_bits<const N: usize>(
    w: &impl Bytes,
    at: usize,
    Place { block, .. }: Place,
    i: usize,
) -> Halves<Few<N>> {
    each([0, 16], |half| w.few(at + block / 2 * BLOCK + i + half))
}

/// Which bit of a byte a block's four begin at.
#[inline(always)]
fn upper(Place { block, .. }: Place) -> usize {
    block % 2 * 4
}

/// What is read of `d s` and `d' m` of Q4_K and Q5_K: `d`, `d'`, and the twelve bytes.
#[derive(Clone, Copy, Default)]
pub struct ScalesAndMinima {
    d: F16,
    d_min: F16,
    thirds: [u32; 3],
}

#[inline(always)]
fn scales_and_minima(w: &impl Bytes, Place { at, .. }: Place) -> ScalesAndMinima {
    let third = |third: usize| w.get_as(at + 4 + 4 * third);
    ScalesAndMinima { d: w.get_as(at), d_min: w.get_as(at + 2), thirds: [third(0), third(1), third(2)] }
}

impl ScalesAndMinima {
    /// Of the sixteen bytes that a super-block begins with.
    #[inline(always)]
    pub(super) fn of([both, thirds @ ..]: [u32; 4]) -> Self {
        Self { d: F16(both as u16), d_min: F16((both >> 16) as u16), thirds }
    }

    /// `d s` times a power of two, and `d' m`.
    #[inline(always)]
    fn values<T: Team>(self, Place { block, .. }: Place, unit: f32) -> (f32, f32) {
        let [s, m] = each(self.four(block), |four| integer_of(four, block % 4));
        (T::widen(self.d) * unit * s, T::widen(self.d_min) * m)
    }

    /// `d s` and `-d' m`, each twice.
    #[inline(always)]
    pub(super) fn halves<T: Team>(self, Place { block, .. }: Place) -> (F16x2, F16x2) {
        // Two blocks' at once.
        let (pair, [s, m]) = (block % 4 / 2 * 2, self.four(block));
        let d = Integers::bytes(s, pair).less(0, 0).times(F16x2::both::<T>(self.d)).rounded();
        let m = Integers::bytes(m, pair).less(0, 0).times(F16x2::both::<T>(self.d_min).negated()).rounded();
        (d.one(block % 2), m.one(block % 2))
    }

    /// `s` and `m` of the four parts that `block` is among.
    #[inline(always)]
    fn four(self, block: usize) -> [u32; 2] {
        // The first four have their scales in the low six bits of bytes 0 to 3, their minima in those of 4 to 7. The last four have
        // four bits of each in bytes 8 to 11, and the two bits that the others left free.
        let [scales, minima, rest] = self.thirds;
        if block < 4 {
            [scales & 0x3f3f_3f3f, minima & 0x3f3f_3f3f]
        } else {
            let [low, high] = [rest & 0x0f0f_0f0f, rest >> 4 & 0x0f0f_0f0f];
            [low | scales >> 2 & 0x3030_3030, high | minima >> 2 & 0x3030_3030]
        }
    }
}
