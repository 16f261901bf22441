//! Arithmetic with the same bits on both devices.
//!
//! `+`, `-`, `*`, `/` and [`sqrt`] are correctly rounded on both. What is not is written here, out of those and
//! [`mul_add`].

/// `a * b + c`, rounded once. The only fused multiply-add there is: a plain `a * b + c` rounds twice on both devices.
#[inline(always)]
pub fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    #[cfg(target_arch = "nvptx64")]
    {
        core::intrinsics::fmaf32(a, b, c)
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        a.mul_add(b, c)
    }
}

/// Square root, correctly rounded.
#[inline(always)]
pub fn sqrt(x: f32) -> f32 {
    #[cfg(target_arch = "nvptx64")]
    {
        core::intrinsics::sqrtf32(x)
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        x.sqrt()
    }
}

/// The greater of two; a NaN loses to every number, and of two zeros the positive one wins, so that the order of
/// the arguments never matters but for two NaN: one of them comes back, or the GPU's own. Nobody here asks which zero it was.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    // One instruction there, which is defined so (PTX ISA, `max`).
    #[cfg(target_arch = "nvptx64")]
    {
        a.max(b)
    }
    #[cfg(not(target_arch = "nvptx64"))]
    if a == b {
        f32::from_bits(a.to_bits() & b.to_bits())
    } else if b > a || a.is_nan() {
        b
    } else {
        a
    }
}

/// `e^x`, within 1.5 units in the last place; 0 below -103.97, infinity above 88.72.
///
/// Method: `x = n ln 2 + r` with `|r| <= ln 2 / 2` (Cody and Waite's two-part ln 2), the Taylor polynomial of degree 7
/// for `e^r`, and `2^n` in two factors, so that a subnormal result is rounded once.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exp_within(x.clamp(LEAST, 89.0))
}

/// [`exp`] of an `x` that is not above zero, a little sooner.
#[inline(always)]
pub fn exp_negative(x: f32) -> f32 {
    debug_assert!(x <= 0.0 || x.is_nan(), "{x}");
    exp_within(if x < LEAST { LEAST } else { x })
}

/// From here on `e^x` is a normal number.
pub const ORDINARY: f32 = -87.0;

/// [`exp_negative`] of an `x` from [`ORDINARY`] on, sooner still.
#[inline(always)]
pub fn exp_ordinary(x: f32) -> f32 {
    let (p, n) = exp_parts(x);
    // The low bits of `n` are added to an exponent.
    f32::from_bits(p.to_bits().wrapping_add(n.to_bits() << 23))
}

/// Its exponential is less than half of the least number.
const LEAST: f32 = -104.0;

#[inline(always)]
fn exp_within(clamped: f32) -> f32 {
    let (p, n) = exp_parts(clamped);
    let n = n.to_bits() as i32 - ROUND.to_bits() as i32;
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n - half)
}

/// Adding it leaves no room for a fraction: the sum's low bits are the nearest integer.
const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23

/// `e^r`, and `n` plus [`ROUND`].
#[inline(always)]
fn exp_parts(x: f32) -> (f32, f32) {
    let rounded = mul_add(x, core::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = mul_add(n, -0.693_359_4, x);
    let r = mul_add(n, 2.121_944_4e-4, r);
    let mut p = mul_add(r, 1.0 / 5040.0, 1.0 / 720.0);
    p = mul_add(p, r, 1.0 / 120.0);
    p = mul_add(p, r, 1.0 / 24.0);
    p = mul_add(p, r, 1.0 / 6.0);
    p = mul_add(p, r, 0.5);
    p = mul_add(p, r, 1.0);
    p = mul_add(p, r, 1.0);
    (p, rounded)
}

/// `floor(log2 |x|)` of a finite `x` other than zero, subnormals included; -150 of a zero, 128 of infinity and NaN.
#[inline(always)]
pub fn exponent(x: f32) -> i32 {
    let magnitude = x.to_bits() & 0x7fff_ffff;
    if magnitude < 0x0080_0000 {
        31 - magnitude.leading_zeros() as i32 - 149
    } else {
        (magnitude >> 23) as i32 - 127
    }
}

/// `2^n` for `-126 <= n <= 127`.
#[inline(always)]
pub fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// `x / (1 + e^y)` of each, what activations are made of. Neither is 2^20 times the other, unless both are as good as zero, and of a `y`
/// from 32 on `x` is at least a sixteenth.
#[inline(always)]
pub fn over_one_plus_exp<const N: usize>(x: [f32; N], y: [f32; N]) -> [f32; N] {
    #[cfg(target_arch = "nvptx64")]
    {
        crate::made(|i| over_one_plus_exp_at_once(x[i], y[i]))
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        crate::made(|i| x[i] / (1.0 + exp(y[i])))
    }
}

/// From here on nothing is left of 1 beside its exponential.
#[cfg(any(test, target_arch = "nvptx64"))]
const GREAT: f32 = 32.0;

/// The same bits without a branch or a call, with which a GPU divides, in case an exponent is extreme: one value after the other.
///
/// Method: a reciprocal that is correctly rounded, a quotient by it, and a correction by what remains, which is exact (Markstein
/// 1990). Great exponentials are divided by 2^64 before, and the quotient after. Where `x` is so little that something underflows, the
/// divisor is 2 and the first quotient right.
#[cfg(any(test, target_arch = "nvptx64"))]
#[inline(always)]
fn over_one_plus_exp_at_once(x: f32, y: f32) -> f32 {
    const PART: f32 = 1.0 / 18_446_744_073_709_551_616.0; // 2^-64
    let great = y > GREAT;
    // What is less than the least of these is nothing beside 1.
    let (p, n) = exp_parts(y.clamp(-GREAT, 89.0));
    let one = if great { 0.0 } else { 1.0 };
    let bits = if great { PART.to_bits() } else { 1.0f32.to_bits() };
    // The low bits of `n` are added to an exponent.
    let d = mul_add(p, f32::from_bits((n.to_bits() << 23).wrapping_add(bits)), one);
    let r = reciprocal(d);
    let q = x * r;
    // What remains has its sign turned, so that a zero keeps its own. Of an infinite `x` there is none.
    let corrected = mul_add(-r, mul_add(d, q, -x), q);
    let q = if corrected.is_nan() { q } else { corrected };
    // An infinite exponential.
    let q = if d < 1.0 / PART { q } else { x * 0.0 };
    q * if great { PART } else { 1.0 }
}

/// `1 / d` of a positive `d` whose exponent is moderate, correctly rounded: the tests go through all fractions.
///
/// Method: a linear guess at the bits, and iterations that square, cube and square its error. The first is let overshoot, without
/// which the greatest fraction would be off by one unit.
#[cfg(any(test, target_arch = "nvptx64"))]
#[inline(always)]
pub(crate) fn reciprocal(d: f32) -> f32 {
    let r = f32::from_bits(0x7ef3_11c7u32.wrapping_sub(d.to_bits()));
    let r = r * mul_add(-d, r, 2.004);
    let e = mul_add(-d, r, 1.0);
    let r = mul_add(r, mul_add(e, e, e), r);
    mul_add(r, mul_add(-d, r, 1.0), r)
}

/// `x / (1 + e^-x)` of each, the activation called SiLU or swish.
#[inline(always)]
pub fn silu<const N: usize>(x: [f32; N]) -> [f32; N] {
    over_one_plus_exp(x, crate::mapped(x, |x| -x))
}

/// `x / 2 (1 + tanh(u))` of each with `u = sqrt(2 / pi) (x + 0.044715 x^3)`, the activation called GELU in its tanh form.
///
/// Method: `(1 + tanh(u)) / 2 = 1 / (1 + e^-2u)`, which keeps its digits where the tangent is near -1.
#[inline(always)]
pub fn gelu<const N: usize>(x: [f32; N]) -> [f32; N] {
    // -2 sqrt(2 / pi), and that times 0.044715.
    const LINEAR: f32 = -1.595_769_2;
    const CUBIC: f32 = -0.071_354_815;
    over_one_plus_exp(x, crate::mapped(x, |x| x * mul_add(CUBIC * x, x, LINEAR)))
}

/// Bits of a float in an order of unsigned integers that is the order of the floats: negative zero just below zero,
/// NaN beyond the infinities.
#[inline(always)]
pub fn ordered_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 }
}

/// The float of such bits.
#[inline(always)]
pub fn from_ordered_bits(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 1 { bits & 0x7fff_ffff } else { !bits })
}

/// `q - minus` of each byte `q`, exact: the bits of `2^23 + q`, less the rest. A GPU converts integers at a fraction of the
/// rate at which it adds.
#[inline(always)]
pub fn integers<const N: usize>(bytes: [u8; N], minus: u32) -> [f32; N] {
    const POWER: u32 = 1 << 23;
    const BITS: u32 = (POWER as f32).to_bits();
    #[cfg(target_arch = "nvptx64")]
    if N == 2 {
        let both = bytes[0] as u32 | (bytes[N - 1] as u32) << 8;
        let mut floats = [0.0; N];
        // SAFETY: no requirement. A byte, two of zeros and that of the exponent.
        unsafe {
            floats[0] = f32::from_bits(crate::device::permute_bytes(both, BITS, 0x7440));
            floats[N - 1] = f32::from_bits(crate::device::permute_bytes(both, BITS, 0x7441));
        }
        floats[0] -= (POWER + minus) as f32;
        floats[N - 1] -= (POWER + minus) as f32;
        return floats;
    }
    let mut floats = [0.0; N];
    for (float, &q) in floats.iter_mut().zip(&bytes) {
        *float = f32::from_bits(BITS | q as u32) - (POWER + minus) as f32;
    }
    floats
}

/// Byte `i` of four, exact; as [`integers`].
#[inline(always)]
pub fn integer_of(bytes: u32, i: usize) -> f32 {
    const POWER: f32 = (1 << 23) as f32;
    // SAFETY: no requirement.
    #[cfg(target_arch = "nvptx64")]
    let bits = unsafe { crate::device::permute_bytes(bytes, POWER.to_bits(), 0x7440 | i as u32 % 4) };
    #[cfg(not(target_arch = "nvptx64"))]
    let bits = POWER.to_bits() | bytes >> (i % 4 * 8) & 0xff;
    f32::from_bits(bits) - POWER
}

/// What [`whole`] counts in.
#[cfg(target_arch = "nvptx64")]
pub const UNIT: f32 = 1.0 / (1 << 24) as f32;
/// What [`whole`] counts in.
#[cfg(not(target_arch = "nvptx64"))]
pub const UNIT: f32 = 1.0;

/// `q * UNIT` of each byte `q`, exact. On a GPU a byte is the bits of an f16 below the normal ones: two are widened in an
/// instruction each, which is fewer than [`integers`] has.
#[inline(always)]
pub fn whole<const N: usize>(bytes: [u8; N]) -> [f32; N] {
    #[cfg(target_arch = "nvptx64")]
    {
        let mut floats = [0.0; N];
        let mut both = [0.0; 2];
        let pair = bytes[0] as u32 | (bytes[N - 1] as u32) << 8;
        // SAFETY: no requirement. Each byte below one of zeros.
        unsafe { crate::device::widen_f16_pair(&mut both, crate::device::permute_bytes(pair, 0, 0x4140)) };
        floats[0] = both[0];
        floats[N - 1] = both[N - 1];
        floats
    }
    #[cfg(not(target_arch = "nvptx64"))]
    integers(bytes, 0)
}

/// `a / b` and `a % b` of numbers below 2^32, `b` not zero. A GPU divides 32 bits by a few instructions, and 64 by a hundred.
#[inline(always)]
pub fn divide(a: usize, b: usize) -> (usize, usize) {
    debug_assert!(u32::try_from(a).is_ok() && u32::try_from(b).is_ok());
    let (a, b) = (a as u32, b as u32);
    ((a / b) as usize, (a % b) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::F16;

    #[test]
    fn exp_is_within_one_and_a_half_units_everywhere() {
        let mut worst = 0.0f64;
        let mut bits = 0u32;
        while bits < 0x42d2_0000 {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let (got, want) = (exp(x), (x as f64).exp());
                if want > f32::MAX as f64 {
                    continue;
                }
                let unit = ((want as f32).next_up() as f64 - want as f32 as f64).max(1.5e-45);
                worst = worst.max((got as f64 - want).abs() / unit);
            }
            bits += 1021;
        }
        assert!(worst <= 1.5, "worst error {worst} units in the last place");
    }

    #[test]
    fn exp_at_its_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-104.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn gelu_is_close_everywhere() {
        let mut bits = 0u32;
        while bits < f32::INFINITY.to_bits() {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let wide = x as f64;
                let u = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044715 * wide.powi(3));
                let want = wide / (1.0 + (-2.0 * u).exp());
                // The exponent is off by three roundings, and its error is the answer's; far below zero both vanish.
                let tolerance = want.abs() * (4.0 + (2.0 * u).abs().min(90.0) * 3.0) * 2f64.powi(-24) + 1e-36;
                let got = gelu([x])[0] as f64;
                assert!((got - want).abs() <= tolerance, "gelu({x:e}): {got:e} for {want:e}");
            }
            bits += 1021;
        }
        // The definition, with a tangent.
        let tangent =
            |x: f64| 0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044715 * x * x * x)).tanh());
        for x in [-3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 3.0f32] {
            assert!((gelu([x])[0] as f64 - tangent(x as f64)).abs() < 3e-7, "{x}");
        }
    }

    #[test]
    fn gelu_at_its_ends() {
        assert_eq!(gelu([f32::MAX, f32::INFINITY]), [f32::MAX, f32::INFINITY]);
        assert_eq!(gelu([f32::MIN, -20.0]), [0.0, 0.0]);
        assert!(gelu([f32::NAN])[0].is_nan());
    }

    #[test]
    fn reciprocals_are_correctly_rounded() {
        for fraction in 0..1 << 23 {
            let d = f32::from_bits(1.0f32.to_bits() | fraction);
            assert_eq!(reciprocal(d).to_bits(), (1.0 / d).to_bits(), "{d:e}");
        }
    }

    #[test]
    fn quotients_at_once_have_the_bits_of_divisions() {
        let same = |x: f32, y: f32| {
            let (got, want) = (over_one_plus_exp_at_once(x, y), x / (1.0 + exp(y)));
            assert!(
                got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()),
                "{x:e} {y:e}: {got:e}, not {want:e}"
            );
        };
        // As those who ask do: SiLU, GELU and gpt-oss's; every value of both 16-bit types among them.
        let all = |x: f32| {
            for y in [-x, 1.702 * -x, x * mul_add(-0.071_354_815 * x, x, -1.595_769_2)] {
                same(x, y);
            }
            for y in [-2.0f32.powi(20) * x, -2.0f32.powi(-20) * x] {
                if y < GREAT {
                    same(x, y);
                }
            }
        };
        (0..=u32::MAX >> 12).map(|i| f32::from_bits(i << 12)).for_each(all);
        (0..=u16::MAX).map(|bits| F16(bits).to_f32()).for_each(all);
        let mut random = 1u64;
        for _ in 0..1 << 20 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Between 2^-32 and 2^7, of both signs.
            let bits = (random >> 32) as u32;
            all(f32::from_bits((bits & 0x807f_ffff) | (95 + (random >> 8) as u32 % 39) << 23));
        }
        same(f32::NAN, f32::NAN);
    }

    #[test]
    fn exponents_are_those_of_the_powers_of_two_below() {
        for n in -149..=127 {
            let power = 2f64.powi(n) as f32;
            let largest = (2.0 * power.next_down() as f64).min(f32::MAX as f64) as f32;
            for x in [power, -power, largest.max(power)] {
                assert_eq!(exponent(x), n, "{x:e}");
            }
            assert!(n < -126 || power_of_two(n) == power);
        }
        assert_eq!([exponent(0.0), exponent(-0.0), exponent(f32::INFINITY)], [-150, -150, 128]);
    }

    #[test]
    fn exp_negative_and_exp_ordinary_have_the_bits_of_exp() {
        let few = (0..=u32::MAX >> 9).map(|i| -f32::from_bits(i << 8));
        for x in few.filter(|x| !x.is_nan()).chain([0.0, -103.97, -103.98, -104.0, f32::NEG_INFINITY]) {
            assert_eq!(exp_negative(x).to_bits(), exp(x).to_bits(), "{x:e}");
            if x >= ORDINARY {
                assert_eq!(exp_ordinary(x).to_bits(), exp(x).to_bits(), "{x:e}");
            }
        }
        assert!(exp_negative(f32::NAN).is_nan());
    }

    #[test]
    fn max_prefers_numbers_to_nan() {
        assert_eq!(max(f32::NAN, 1.0), 1.0);
        assert_eq!(max(1.0, f32::NAN), 1.0);
        assert_eq!(max(-1.0, 2.0), 2.0);
        assert_eq!([max(0.0, -0.0).to_bits(), max(-0.0, 0.0).to_bits()], [0, 0]);
    }

    #[test]
    fn ordered_bits_keep_the_order() {
        let ascending = [f32::NEG_INFINITY, -2.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, f32::INFINITY];
        assert!(ascending.windows(2).all(|w| ordered_bits(w[0]) < ordered_bits(w[1])));
        assert!(ascending.iter().all(|x| from_ordered_bits(ordered_bits(*x)).to_bits() == x.to_bits()));
    }
}
