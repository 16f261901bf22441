//! What four warps do together on the host: each the same by itself.

use super::{HostTeam, Memory};
use crate::tensor_core::simd::{A, C};
use crate::{Meanwhile, MmaInput, Scratch, Warp, WarpGroup};

impl<M: Memory> WarpGroup for HostTeam<32, M> {
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
        sums: &mut [[C; TILES]; EIGHTS],
    ) {
        if PADDED {
            // The sums of zeros stay zeros.
            let sums = sums.first_chunk_mut::<1>().expect("the first eight rows");
            return self.multiply_rows::<I, TOKENS, 1, WRITTEN, TILES, S, R, X>(
                blocks, together, shared, read, values, x, at, meanwhile, sums,
            );
        }
        self.multiply_rows::<I, TOKENS, EIGHTS, WRITTEN, TILES, S, R, X>(
            blocks, together, shared, read, values, x, at, meanwhile, sums,
        );
    }

    #[inline(always)]
    fn show(&self) {}

    #[inline(always)]
    fn mma_group<I: MmaInput, const STEPS: usize, const OCTETS: usize, S: Scratch<u16>>(
        &self,
        a: &[A; STEPS],
        b: &S,
        at: impl Fn(usize, usize) -> usize,
        c: &mut [C; OCTETS],
    ) {
        for (octet, c) in c.iter_mut().enumerate() {
            for (step, a) in a.iter().enumerate() {
                let b = self.load_b(b, |column, half| at(octet * 8 + column, 2 * step + half));
                M::step::<I>(a, &b, c);
            }
        }
    }

    #[inline(always)]
    fn multiply_shared<I: MmaInput, const OCTETS: usize, S: Scratch<u16>>(
        &self,
        (a, row): (&S, impl Fn(usize, usize) -> usize),
        (b, column): (&S, impl Fn(usize, usize) -> usize),
        c: &mut [C; OCTETS],
    ) {
        let first = self.first / 32 % 4 * 16;
        for step in 0..4 {
            let rows = self.load_a(a, |at, half| row(first + at, 2 * step + half));
            let column = |at, half| column(at, 2 * step + half);
            self.mma_group::<I, 1, OCTETS, S>(&[rows], b, column, c);
        }
    }

    #[inline(always)]
    fn wait_group<const OCTETS: usize>(&self, _: &mut [C; OCTETS]) {}
}
