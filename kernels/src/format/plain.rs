//! Types whose values stand alone.

use cuda_std::{Bf16, F16, Team};

use super::{BLOCK, Bytes, Format, Place, each, numbers};

macro_rules! plain {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $bits:ty, $value:expr) => {
        $(#[$doc])*
        pub struct $name;

        impl Format for $name {
            const BYTES: usize = $bytes * BLOCK;
            const PARTIAL: bool = true;
            type Shared = ();
            type Scale = ();
            type Raw<const N: usize> = [[$bits; N]; 2];

            #[inline(always)]
            fn shared(_: &impl Bytes, _: Place) {}

            #[inline(always)]
            fn scale<T: Team>(_: (), _: Place) {}

            #[inline(always)]
            fn read<const N: usize>(w: &impl Bytes, Place { at, .. }: Place, i: usize) -> [[$bits; N]; 2] {
                each([0, 16], |half| each(numbers(), |j| w.get_as(at + $bytes * (half + i + j))))
            }

            #[inline(always)]
            fn values<const N: usize>(raw: [[$bits; N]; 2], _: Place, _: (), _: usize) -> [[f32; N]; 2] {
                each(raw, |half| each(half, $value))
            }

            #[inline(always)]
            fn value<T: Team>(w: &impl Bytes, Place { at, .. }: Place, i: usize) -> f32 {
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
