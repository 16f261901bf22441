//! Division without a call.

#[cfg(any(test, target_arch = "nvptx64"))]
use crate::math::reciprocal;

/// A divisor from 1 to 2^100, or NaN, of several quotients that are correctly rounded. A GPU calls a function to divide, and where it does,
/// four warps that multiply together wait for each step.
#[derive(Clone, Copy)]
pub struct Divisor {
    divisor: f32,
    #[cfg(any(test, target_arch = "nvptx64"))]
    reciprocal: f64,
}

impl Divisor {
    /// 1.
    pub const ONE: Self = Self {
        divisor: 1.0,
        #[cfg(any(test, target_arch = "nvptx64"))]
        reciprocal: 1.0,
    };

    /// Method: Newton's iteration in f64, from a reciprocal in f32.
    #[inline(always)]
    pub fn new(divisor: f32) -> Self {
        Self {
            divisor,
            #[cfg(any(test, target_arch = "nvptx64"))]
            reciprocal: {
                let (d, r) = (divisor as f64, reciprocal(divisor) as f64);
                let r = fused(r, fused(-d, r, 1.0), r);
                fused(r, fused(-d, r, 1.0), r)
            },
        }
    }

    /// `x` by it.
    #[inline(always)]
    pub fn divides(self, x: f32) -> f32 {
        #[cfg(target_arch = "nvptx64")]
        {
            self.quotient(x)
        }
        #[cfg(not(target_arch = "nvptx64"))]
        {
            x / self.divisor
        }
    }

    /// Method: a quotient in f64, and a correction by what remains (Markstein 1990). Rounded again to f32 it is the quotient rounded once:
    /// that is a tie of f32, of which there are only below the normal numbers and which f64 has, or further from one than f64 errs.
    #[cfg(any(test, target_arch = "nvptx64"))]
    #[inline(always)]
    fn quotient(self, x: f32) -> f32 {
        let (x, d) = (x as f64, self.divisor as f64);
        let q = x * self.reciprocal;
        // What remains has its sign turned, so that a zero keeps its own.
        fused(-self.reciprocal, fused(d, q, -x), q) as f32
    }
}

/// `a * b + c` in f64, rounded once.
#[cfg(any(test, target_arch = "nvptx64"))]
#[inline(always)]
fn fused(a: f64, b: f64, c: f64) -> f64 {
    #[cfg(target_arch = "nvptx64")]
    {
        core::intrinsics::fmaf64(a, b, c)
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        a.mul_add(b, c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_rounded_once() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        for i in 0..2_000_000 {
            // Divisors of all lengths; the quotients of every third are ties of subnormal numbers, or next to one.
            let divisor = f32::from_bits(
                (127 + random() % 100) << 23 | (random() & 0x7f_ffff) << (random() % 23) & 0x7f_ffff,
            );
            let x = match i % 3 {
                0 => f32::from_bits(random()),
                1 => divisor * f32::from_bits(random() & 0x80ff_ffff),
                _ => (divisor as f64 * ((random() & 0xff_ffff) as f64 + 0.5) * 2f64.powi(-149)) as f32,
            };
            let (got, want) = (Divisor::new(divisor).quotient(x), x / divisor);
            assert!(
                got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                "{x:e} / {divisor:e}: {got:e}, not {want:e}"
            );
        }
    }
}
