//! The instructions of four warps.

use super::DeviceGroup;
use super::intrinsics::{
    shared_offset, warpgroup_bf16_32, warpgroup_bf16_64, warpgroup_bf16_64_steps_8, warpgroup_bf16_128,
    warpgroup_bf16_128_shared, warpgroup_bf16_128_steps_4, warpgroup_bf16_128_steps_8,
    warpgroup_bf16_256_shared, warpgroup_f16_32, warpgroup_f16_64, warpgroup_f16_64_steps_8,
    warpgroup_f16_128, warpgroup_f16_128_shared, warpgroup_f16_128_steps_4, warpgroup_f16_128_steps_8,
    warpgroup_f16_256_shared, warpgroup_show, warpgroup_sums_64, warpgroup_sums_128, warpgroup_sums_256,
    warpgroup_wait_0, warpgroup_wait_1,
};
use super::warp::{packed, place};
use crate::{Meanwhile, MmaInput, Scratch, WarpGroup, unrolled};

impl WarpGroup for DeviceGroup<32> {
    // The fragment of A is that of `mma`, and so are the sums.
    #[inline(always)]
    fn multiply_group<
        I: MmaInput,
        const TOKENS: usize,
        const EIGHTS: usize,
        const WRITTEN: usize,
        const TILES: usize,
        const PADDED: bool,
        S: Copy,
        R: Copy,
        X: Scratch<u16>,
    >(
        &self,
        blocks: usize,
        together: [usize; 2],
        shared: impl Fn(usize, usize) -> S,
        read: impl Fn(usize, usize, usize) -> R,
        values: impl Fn(usize, S, R, usize) -> [[u16; 2]; 2],
        x: &X,
        at: impl Fn(usize, usize, usize) -> usize,
        meanwhile: &impl Meanwhile,
        sums: &mut [[[[f32; 2]; 2]; TILES]; EIGHTS],
    ) {
        let (row, column) = place();
        // What describes the tokens of a step: where they lie, and how far the next eight are, in units of 16 bytes, and that octets are
        // swizzled over 128 bytes (PTX, "matrix descriptor").
        let eight = (at(0, 8, 0) - at(0, 0, 0)) / 8;
        let strides = 1 << 62 | (eight as u64) << 32;
        // SAFETY: `x` is in shared memory.
        let first = unsafe { shared_offset(x.address(at(0, 0, 0)).cast()) };
        let tokens = #[inline(always)]
        |block: usize, step: usize| {
            let cells = at(block, 0, 2 * step) - at(0, 0, 0);
            strides | ((first + 2 * cells as u32) >> 4) as u64
        };
        let of_rows = #[inline(always)]
        |block: usize| [shared(block, row), shared(block, 8 + row)];
        let raw = #[inline(always)]
        |block: usize| {
            let both = #[inline(always)]
            |row: usize| [read(block, row, column), read(block, row, column + 8)];
            [both(row), both(8 + row)]
        };
        let multiply = #[inline(always)]
        |block,
                        shared: [S; 2],
                        raw: [[R; 2]; 2],
                        sums: &mut [[[[f32; 2]; 2]; TILES]; EIGHTS]| {
            let mut a = [[0; 4]; 2];
            unrolled::<2>(
                #[inline(always)]
                |lower| {
                    let [left, right] = raw[lower];
                    let left = values(block, shared[lower], left, column);
                    let right = values(block, shared[lower], right, column + 8);
                    unrolled::<2>(
                        #[inline(always)]
                        |step| {
                            a[step][lower] = packed(left[step]);
                            a[step][2 + lower] = packed(right[step]);
                        },
                    );
                },
            );
            if PADDED {
                // What was read in their place is not used, so that the compiler leaves it out.
                [a[0][1], a[0][3], a[1][1], a[1][3]] = [0; 4];
            }
            let [one, two] = a;
            let (first, second) = (tokens(block, 0), tokens(block, 1));
            let sums = sums.as_mut_ptr().cast::<f32>();
            macro_rules! begin {
                ($f16:ident $bf16:ident) => {{
                    // SAFETY: all lanes of the four warps run this together; there are as many sums as it takes; what is described lies in
                    // shared memory.
                    unsafe {
                        if I::BF16 {
                            $bf16(sums, one[0], one[1], one[2], one[3], first, two[0], two[1], two[2], two[3], second)
                        } else {
                            $f16(sums, one[0], one[1], one[2], one[3], first, two[0], two[1], two[2], two[3], second)
                        }
                    }
                }};
            }
            match TOKENS {
                32 => begin!(warpgroup_f16_32 warpgroup_bf16_32),
                64 => begin!(warpgroup_f16_64 warpgroup_bf16_64),
                _ => begin!(warpgroup_f16_128 warpgroup_bf16_128),
            }
            // SAFETY: no requirement.
            unsafe { warpgroup_wait_1() };
        };
        let [share, raws] = together;
        let (mut now, mut next) = (of_rows(0), raw(0));
        let mut first = 0;
        while first + WRITTEN <= blocks {
            unrolled::<WRITTEN>(
                #[inline(always)]
                |i| {
                    let (shared_now, this) = (now, next);
                    let following = first + i + 1;
                    if i + 1 < WRITTEN || following < blocks {
                        if (i + 1) % share == 0 || i + 1 == WRITTEN {
                            now = of_rows(following);
                        }
                        if (i + 1) % raws == 0 || i + 1 == WRITTEN {
                            next = raw(following);
                        }
                    }
                    meanwhile.run(first, i);
                    multiply(first + i, shared_now, this, sums);
                },
            );
            first += WRITTEN;
        }
        while WRITTEN > 1 && first < blocks {
            let (shared_now, this) = (now, next);
            if first + 1 < blocks {
                (now, next) = (of_rows(first + 1), raw(first + 1));
            }
            multiply(first, shared_now, this, sums);
            // The next block is made in the same registers.
            // SAFETY: no requirement.
            unsafe { warpgroup_wait_0() };
            first += 1;
        }
        // SAFETY: no requirement.
        unsafe { warpgroup_wait_0() };
    }

    #[inline(always)]
    fn show(&self) {
        // SAFETY: no requirement.
        unsafe { warpgroup_show() };
    }

    #[inline(always)]
    fn mma_group<I: MmaInput, const STEPS: usize, const OCTETS: usize, S: Scratch<u16>>(
        &self,
        a: &[[u32; 4]; STEPS],
        b: &S,
        at: impl Fn(usize, usize) -> usize,
        c: &mut [[f32; 4]; OCTETS],
    ) {
        const { assert!(OCTETS == 16 && (STEPS == 4 || STEPS == 8) || OCTETS == 8 && STEPS == 8) };
        // B is described as tokens are above.
        // SAFETY: all lanes of the four warps run this together; there are as many values as it takes; `b` is in shared memory.
        unsafe {
            let first = shared_offset(b.address(at(0, 0)).cast()) >> 4;
            let first = 1 << 62 | ((at(8, 0) - at(0, 0)) as u64 / 8) << 32 | first as u64;
            let (c, a) = (c.as_mut_ptr(), a.as_ptr());
            match (OCTETS, STEPS, I::BF16) {
                (16, 8, false) => warpgroup_f16_128_steps_8(c, a, first),
                (16, 8, true) => warpgroup_bf16_128_steps_8(c, a, first),
                (16, _, false) => warpgroup_f16_128_steps_4(c, a, first),
                (16, _, true) => warpgroup_bf16_128_steps_4(c, a, first),
                (_, _, false) => warpgroup_f16_64_steps_8(c, a, first),
                (_, _, true) => warpgroup_bf16_64_steps_8(c, a, first),
            }
        }
    }

    #[inline(always)]
    fn multiply_shared<I: MmaInput, const OCTETS: usize, S: Scratch<u16>>(
        &self,
        (a, row): (&S, impl Fn(usize, usize) -> usize),
        (b, column): (&S, impl Fn(usize, usize) -> usize),
        c: &mut [[f32; 4]; OCTETS],
    ) {
        const { assert!(OCTETS == 16 || OCTETS == 32) };
        let described = |offset: u32, eight: usize| 1 << 62 | (eight as u64 / 8) << 32 | (offset >> 4) as u64;
        // SAFETY: all lanes of the four warps run this together; there are as many sums as it takes; `a` and `b` are in shared memory.
        unsafe {
            let rows = described(shared_offset(a.address(row(0, 0)).cast()), row(8, 0) - row(0, 0));
            let columns =
                described(shared_offset(b.address(column(0, 0)).cast()), column(8, 0) - column(0, 0));
            let c = c.as_mut_ptr();
            match (OCTETS, I::BF16) {
                (16, false) => warpgroup_f16_128_shared(c, rows, columns),
                (16, true) => warpgroup_bf16_128_shared(c, rows, columns),
                (_, false) => warpgroup_f16_256_shared(c, rows, columns),
                (_, true) => warpgroup_bf16_256_shared(c, rows, columns),
            }
        }
    }

    #[inline(always)]
    fn wait_group<const OCTETS: usize>(&self, c: &mut [[f32; 4]; OCTETS]) {
        const { assert!(OCTETS == 8 || OCTETS == 16 || OCTETS == 32) };
        // SAFETY: there are as many values as it takes.
        unsafe {
            match OCTETS {
                8 => warpgroup_sums_64(c.as_mut_ptr()),
                16 => warpgroup_sums_128(c.as_mut_ptr()),
                _ => warpgroup_sums_256(c.as_mut_ptr()),
            }
        }
    }
}
