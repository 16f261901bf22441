//! How weights are stored, and what values the stored bytes stand for.
//!
//! Rows lie one after the other. In a quantised row, 32 neighbouring values form a block with scales of its own; the
//! layouts are those of GGUF. Other types are cut into 32s too, so that one kernel serves all.

use cuda_std::{Bf16, F16, In, Team};

/// Values in a block.
pub const BLOCK: usize = 32;

/// A stored type of weights.
pub trait Format {
    /// Bytes of a block of 32 values.
    const BYTES: usize;
    /// Whether a row may end within a block.
    const PARTIAL: bool;
    /// What the 32 values of a block share.
    type Scale: Copy;

    /// Reads what the values of the block at byte `at` share.
    fn scale<T: Team>(w: &In<u8>, at: usize) -> Self::Scale;

    /// Values `i` and `i + 16` of the block at byte `at`, for `i` below 16.
    fn pair(w: &In<u8>, at: usize, scale: Self::Scale, i: usize) -> [f32; 2];

    /// Values `i` and `i + 1`, and `i + 16` and `i + 17`, of the block at byte `at`, for an even `i` below 16.
    #[inline(always)]
    fn square(w: &In<u8>, at: usize, scale: Self::Scale, i: usize) -> [[f32; 2]; 2] {
        let ([a, c], [b, d]) = (Self::pair(w, at, scale, i), Self::pair(w, at, scale, i + 1));
        [[a, b], [c, d]]
    }

    /// Value `i` of the block at byte `at`.
    #[inline(always)]
    fn value<T: Team>(w: &In<u8>, at: usize, i: usize) -> f32 {
        Self::pair(w, at, Self::scale::<T>(w, at), i % 16)[i / 16]
    }

    /// Bytes of a row of `k` values.
    #[inline(always)]
    fn row_bytes(k: usize) -> usize {
        if Self::PARTIAL { k * (Self::BYTES / BLOCK) } else { k / BLOCK * Self::BYTES }
    }
}

/// Types whose values stand alone.
macro_rules! plain {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $bits:ty, $value:expr) => {
        $(#[$doc])*
        pub struct $name;

        impl Format for $name {
            const BYTES: usize = $bytes * BLOCK;
            const PARTIAL: bool = true;
            type Scale = ();

            #[inline(always)]
            fn scale<T: Team>(_: &In<u8>, _: usize) {}

            #[inline(always)]
            fn pair(w: &In<u8>, at: usize, _: (), i: usize) -> [f32; 2] {
                let value = $value;
                [value(w.get_as::<$bits>(at + $bytes * i)), value(w.get_as::<$bits>(at + $bytes * (i + 16)))]
            }

            #[inline(always)]
            fn value<T: Team>(w: &In<u8>, at: usize, i: usize) -> f32 {
                let value = $value;
                value(w.get_as::<$bits>(at + $bytes * i))
            }
        }
    };
}

plain! {
    /// 32-bit floats.
    F32, 4, f32, |x: f32| x
}
plain! {
    /// IEEE 16-bit floats.
    Half, 2, F16, F16::to_f32
}
plain! {
    /// bfloat16.
    Brain, 2, Bf16, Bf16::to_f32
}

/// `d * q`: an f16 scale, 32 signed bytes.
pub struct Q8_0;

impl Format for Q8_0 {
    const BYTES: usize = 34;
    const PARTIAL: bool = false;
    type Scale = f32;

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, at: usize) -> f32 {
        T::widen(w.get_as(at))
    }

    #[inline(always)]
    fn pair(w: &In<u8>, at: usize, d: f32, i: usize) -> [f32; 2] {
        let value = |i: usize| w.get(at + 2 + i) as i8 as i32 as f32 * d;
        [value(i), value(i + 16)]
    }

    #[inline(always)]
    fn square(w: &In<u8>, at: usize, d: f32, i: usize) -> [[f32; 2]; 2] {
        let ([a, b], [c, e]) = (w.pair(at + 2 + i), w.pair(at + 18 + i));
        let value = |q: u8| q as i8 as i32 as f32 * d;
        [[value(a), value(b)], [value(c), value(e)]]
    }
}

/// `d * (q - 8)`: an f16 scale, 16 bytes whose low halves are values 0 to 15 and whose high halves are 16 to 31.
pub struct Q4_0;

impl Format for Q4_0 {
    const BYTES: usize = 18;
    const PARTIAL: bool = false;
    type Scale = f32;

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, at: usize) -> f32 {
        T::widen(w.get_as(at))
    }

    #[inline(always)]
    fn pair(w: &In<u8>, at: usize, d: f32, i: usize) -> [f32; 2] {
        let q = w.get(at + 2 + i) as i32;
        [((q & 15) - 8) as f32 * d, ((q >> 4) - 8) as f32 * d]
    }

    #[inline(always)]
    fn square(w: &In<u8>, at: usize, d: f32, i: usize) -> [[f32; 2]; 2] {
        let [a, b] = w.pair(at + 2 + i);
        let value = |q: u8| (q as i32 - 8) as f32 * d;
        [[value(a & 15), value(b & 15)], [value(a >> 4), value(b >> 4)]]
    }
}

/// `d * q + m`: an f16 scale, an f16 minimum, halves of bytes as in [`Q4_0`].
pub struct Q4_1;

impl Format for Q4_1 {
    const BYTES: usize = 20;
    const PARTIAL: bool = false;
    type Scale = (f32, f32);

    #[inline(always)]
    fn scale<T: Team>(w: &In<u8>, at: usize) -> (f32, f32) {
        (T::widen(w.get_as(at)), T::widen(w.get_as(at + 2)))
    }

    #[inline(always)]
    fn pair(w: &In<u8>, at: usize, (d, m): (f32, f32), i: usize) -> [f32; 2] {
        let q = w.get(at + 4 + i) as i32;
        [(q & 15) as f32 * d + m, (q >> 4) as f32 * d + m]
    }

    #[inline(always)]
    fn square(w: &In<u8>, at: usize, (d, m): (f32, f32), i: usize) -> [[f32; 2]; 2] {
        let [a, b] = w.pair(at + 4 + i);
        let value = |q: u8| q as i32 as f32 * d + m;
        [[value(a & 15), value(b & 15)], [value(a >> 4), value(b >> 4)]]
    }
}
