//! Types whose values stand alone.

use cuda_std::{Bf16, F16, MmaInput, Team};

use super::{BLOCK, Bytes, Format, Place, each, numbers};

/// 32-bit floats.
pub struct F32;

impl Format for F32 {
    const BYTES: usize = 4 * BLOCK;
    const PARTIAL: bool = true;
    type Shared = ();
    type Scale = ();
    type Raw<const N: usize> = [[f32; N]; 2];

    #[inline(always)]
    fn shared(_: &impl Bytes, _: Place) {}

    #[inline(always)]
    fn scale<T: Team>(_: (), _: Place) {}

    #[inline(always)]
    fn read<const N: usize>(w: &impl Bytes, Place { at, .. }: Place, i: usize) -> [[f32; N]; 2] {
        each([0, 16], |half| each(numbers(), |j| w.get_as(at + 4 * (half + i + j))))
    }

    #[inline(always)]
    fn values<const N: usize>(raw: [[f32; N]; 2], _: Place, _: (), _: usize) -> [[f32; N]; 2] {
        raw
    }

    #[inline(always)]
    fn rounded<I: MmaInput, T: Team>(raw: [[f32; 2]; 2], _: Place, _: (), _: usize) -> [[u16; 2]; 2] {
        each(raw, I::both)
    }

    #[inline(always)]
    fn value<T: Team>(w: &impl Bytes, Place { at, .. }: Place, i: usize) -> f32 {
        w.get_as(at + 4 * i)
    }
}

macro_rules! halves {
    ($(#[$doc:meta])* $name:ident, $half:ident) => {
        $(#[$doc])*
        pub struct $name;

        impl Format for $name {
            const BYTES: usize = 2 * BLOCK;
            const PARTIAL: bool = true;
            type Shared = ();
            type Scale = ();
            /// One value each, or two side by side.
            type Raw<const N: usize> = [u32; 2];

            #[inline(always)]
            fn shared(_: &impl Bytes, _: Place) {}

            #[inline(always)]
            fn scale<T: Team>(_: (), _: Place) {}

            #[inline(always)]
            fn read<const N: usize>(w: &impl Bytes, Place { at, .. }: Place, i: usize) -> [u32; 2] {
                each([0, 16], |half| {
                    let at = at + 2 * (half + i);
                    if N == 1 { w.get_as::<u16>(at) as u32 } else { w.get_as(at) }
                })
            }

            #[inline(always)]
            fn values<const N: usize>(raw: [u32; 2], _: Place, _: (), _: usize) -> [[f32; N]; 2] {
                each(raw, |pair| each(numbers(), |j| $half((pair >> (16 * j)) as u16).to_f32()))
            }

            /// As they are: `I` is this type.
            #[inline(always)]
            fn rounded<I: MmaInput, T: Team>(raw: [u32; 2], _: Place, _: (), _: usize) -> [[u16; 2]; 2] {
                each(raw, |pair| [pair as u16, (pair >> 16) as u16])
            }

            #[inline(always)]
            fn value<T: Team>(w: &impl Bytes, Place { at, .. }: Place, i: usize) -> f32 {
                $half(w.get_as(at + 2 * i)).to_f32()
            }
        }
    };
}

halves! {
    /// IEEE 16-bit floats.
    Half, F16
}
halves! {
    /// bfloat16.
    Brain, Bf16
}
