//! Types whose values stand alone.

use cuda_std::{Bf16, F16, In, Team};

use super::{BLOCK, Format, Place};

macro_rules! plain {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $bits:ty, $value:expr) => {
        $(#[$doc])*
        pub struct $name;

        impl Format for $name {
            const BYTES: usize = $bytes * BLOCK;
            const PARTIAL: bool = true;
            type Scale = ();

            #[inline(always)]
            fn scale<T: Team>(_: &In<u8>, _: Place) {}

            #[inline(always)]
            fn pair(w: &In<u8>, Place { at, .. }: Place, _: (), i: usize) -> [f32; 2] {
                let value = $value;
                [value(w.get_as::<$bits>(at + $bytes * i)), value(w.get_as::<$bits>(at + $bytes * (i + 16)))]
            }

            #[inline(always)]
            fn value<T: Team>(w: &In<u8>, Place { at, .. }: Place, i: usize) -> f32 {
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
