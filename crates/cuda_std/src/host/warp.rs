//! The tensor core and asynchronous copies on the host.

#![allow(clippy::needless_range_loop, reason = "several arrays are walked at once")]

use super::{HostTeam, Lanes, Memory, Relayed, WHOLE_WARP};
use crate::math::max;
use crate::tensor_core::simd::{A, B, C};
use crate::{Meanwhile, MmaInput, Scratch, Warp};

/// Nothing to do meanwhile.
struct Nothing;

impl Meanwhile for Nothing {
    #[inline(always)]
    fn run(&self, _: usize, _: usize) {}
}

impl<M: Memory> HostTeam<32, M> {
    /// Sixteen values out of two octets.
    #[inline(always)]
    fn line<S: Scratch<u16>>(&self, scratch: &S, at: impl Fn(usize) -> usize) -> [u16; 16] {
        let mut line = [0; 16];
        for octet in 0..2 {
            let from = at(octet);
            for i in 0..8 {
                line[octet * 8 + i] = scratch.get(WHOLE_WARP | self.first, from + i);
            }
        }
        line
    }
}

impl<M: Memory> Warp for HostTeam<32, M> {
    type A = A;
    type B = B;
    type C = C;
    type Sums = C;
    type Relayed = Relayed;
    type Rows<V: Copy> = Lanes<V, 16>;

    #[inline(always)]
    fn zero(&self) -> C {
        C([[0.0; 16]; 8])
    }

    #[inline(always)]
    fn rows<V: Copy>(&self, value: V) -> Lanes<V, 16> {
        Lanes([value; 16])
    }

    #[inline(always)]
    fn each_row(&self, mut f: impl FnMut(usize, usize)) {
        for row in 0..16 {
            f(row % 8 * 4, row);
        }
    }

    #[inline(always)]
    fn load_a<S: Scratch<u16>>(&self, scratch: &S, at: impl Fn(usize, usize) -> usize) -> A {
        let mut rows = [[0; 16]; 16];
        for (row, values) in rows.iter_mut().enumerate() {
            *values = self.line(scratch, |octet| at(row, octet));
        }
        A(rows)
    }

    #[inline(always)]
    fn load_b<S: Scratch<u16>>(&self, scratch: &S, at: impl Fn(usize, usize) -> usize) -> B {
        let mut b = [[0; 16]; 8];
        for (column, values) in b.iter_mut().enumerate() {
            *values = self.line(scratch, |octet| at(column, octet));
        }
        B::of_columns(&b)
    }

    #[inline(always)]
    fn fill_b(&self, mut f: impl FnMut(usize, usize) -> [u16; 2]) -> B {
        let mut b = [[0; 16]; 8];
        for (column, values) in b.iter_mut().enumerate() {
            for row in (0..16).step_by(2) {
                [values[row], values[row + 1]] = f(column, row);
            }
        }
        B::of_columns(&b)
    }

    #[inline(always)]
    fn keep_rows<const N: usize>(&self, b: &[B; N], first: usize, end: usize) -> [B; N] {
        let mut kept = *b;
        for b in &mut kept {
            *b = b.keep_rows(first, end);
        }
        kept
    }

    #[inline(always)]
    fn no_sums(&self) -> C {
        self.zero()
    }

    // Tokens are the rows of A and weights the columns of B here: rows of zeros, of tokens that there are not, cost nothing.
    #[inline(always)]
    fn multiply_rows<
        I: MmaInput,
        const TOKENS: usize,
        const EIGHTS: usize,
        const WRITTEN: usize,
        const TILES: usize,
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
        debug_assert!(together.iter().all(|together| together.is_power_of_two()));
        for block in 0..blocks {
            meanwhile.run(block - block % WRITTEN, block % WRITTEN);
        }
        for block in 0..blocks {
            let mut tokens = [[A([[0; 16]; 16]); 2]; TILES];
            for token in 0..TOKENS {
                for step in 0..2 {
                    tokens[token / 16][step].0[token % 16] =
                        self.line(x, |octet| at(block, token, 2 * step + octet));
                }
            }
            for (half, sums) in sums.iter_mut().enumerate() {
                let mut weights = [[[0; 16]; 8]; 2];
                for row in 0..8 {
                    let shared = shared(block, half * 8 + row);
                    for column in (0..16).step_by(2) {
                        let raw = read(block, half * 8 + row, column);
                        let both = values(block, shared, raw, column);
                        for step in 0..2 {
                            [weights[step][row][column], weights[step][row][column + 1]] = both[step];
                        }
                    }
                }
                let weights = [B::of_columns(&weights[0]), B::of_columns(&weights[1])];
                for tile in 0..TOKENS.div_ceil(16) {
                    for step in 0..2 {
                        M::step::<I>(&tokens[tile][step], &weights[step], &mut sums[tile]);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn relay_rows<I: MmaInput, S: Copy, R: Copy, X: Scratch<u16>>(
        &self,
        blocks: usize,
        together: [usize; 2],
        shared: impl Fn(usize, usize) -> S,
        read: impl Fn(usize, usize, usize) -> R,
        values: impl Fn(usize, S, R, usize) -> [[u16; 2]; 2],
        x: &X,
        at: impl Fn(usize, usize, usize) -> usize,
        meanwhile: &impl Meanwhile,
        sums: &mut Relayed,
    ) {
        debug_assert!(blocks <= 8);
        meanwhile.run(0, 0);
        let sums = &mut sums.0;
        self.multiply_rows::<I, 8, 2, 1, 1, S, R, X>(
            blocks, together, shared, read, values, x, at, &Nothing, sums,
        );
    }

    #[inline(always)]
    fn each_relayed(&self, sums: &Relayed, f: impl FnMut(usize, usize, f32)) {
        self.each_sum::<8, 2, 1>(&sums.0, f);
    }

    #[inline(always)]
    fn each_sum<const TOKENS: usize, const EIGHTS: usize, const TILES: usize>(
        &self,
        sums: &[[C; TILES]; EIGHTS],
        mut f: impl FnMut(usize, usize, f32),
    ) {
        for (half, sums) in sums.iter().enumerate() {
            for (tile, sums) in sums.iter().enumerate().take(TOKENS.div_ceil(16)) {
                for (row, values) in sums.0.iter().enumerate() {
                    for (token, &sum) in values.iter().enumerate() {
                        if tile * 16 + token < TOKENS.next_multiple_of(8) {
                            f(tile * 16 + token, half * 8 + row, sum);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn each_two<const TOKENS: usize, const EIGHTS: usize, const TILES: usize>(
        &self,
        sums: &[[C; TILES]; EIGHTS],
        mut f: impl FnMut(usize, usize, [f32; 2], [f32; 2]),
    ) {
        for token in (0..TOKENS.next_multiple_of(8)).step_by(2) {
            for row in 0..8 {
                let [first, second] = [0, EIGHTS - 1].map(|half| {
                    let values = &sums[half][token / 16].0[row];
                    [values[token % 16], values[token % 16 + 1]]
                });
                f(token, row, first, second);
            }
        }
    }

    #[inline(always)]
    fn mma<I: MmaInput>(&self, a: &A, b: &B, c: &mut C) {
        M::step::<I>(a, b, c);
    }

    #[inline(always)]
    fn each_c(&self, c: &C, mut f: impl FnMut(usize, usize, usize, f32)) {
        for (column, values) in c.0.iter().enumerate() {
            for (row, &value) in values.iter().enumerate() {
                f(row % 8 * 4 + column / 2, row, column, value);
            }
        }
    }

    #[inline(always)]
    fn each_pair(&self, c: &C, mut f: impl FnMut(usize, usize, [f32; 2])) {
        for (pair, [left, right]) in c.0.as_chunks::<2>().0.iter().enumerate() {
            for row in 0..16 {
                f(row, 2 * pair, [left[row], right[row]]);
            }
        }
    }

    #[inline(always)]
    fn each_two_pairs(&self, c: &C, other: &C, mut f: impl FnMut(usize, usize, [f32; 2], [f32; 2])) {
        let pairs = c.0.as_chunks::<2>().0.iter().zip(other.0.as_chunks::<2>().0);
        for (pair, ([left, right], [other_left, other_right])) in pairs.enumerate() {
            for row in 0..16 {
                f(row, 2 * pair, [left[row], right[row]], [other_left[row], other_right[row]]);
            }
        }
    }

    #[inline(always)]
    fn zip_c(&self, c: &mut C, other: &C, mut f: impl FnMut(usize, usize, f32, f32) -> f32) {
        for (column, (values, others)) in c.0.iter_mut().zip(&other.0).enumerate() {
            for (row, (value, &other)) in values.iter_mut().zip(others).enumerate() {
                *value = f(row, column, *value, other);
            }
        }
    }

    #[inline(always)]
    fn round_to_a<I: MmaInput>(&self, left: &C, right: &C) -> A {
        let mut rows = [[0; 16]; 16];
        for (row, values) in rows.iter_mut().enumerate() {
            for column in 0..8 {
                values[column] = I::bits(left.0[column][row]);
                values[column + 8] = I::bits(right.0[column][row]);
            }
        }
        A(rows)
    }

    #[inline(always)]
    fn max_rows<const N: usize>(&self, c: &[C; N]) -> Lanes<f32, 16> {
        let mut greatest = [f32::NEG_INFINITY; 16];
        for column in c.iter().flat_map(|c| &c.0) {
            for row in 0..16 {
                greatest[row] = max(greatest[row], column[row]);
            }
        }
        Lanes(greatest)
    }

    #[inline(always)]
    fn sum_rows<const N: usize>(&self, c: &[C; N]) -> Lanes<f32, 16> {
        const { assert!(N.is_multiple_of(4)) };
        let mut sums = [[0.0f32; 16]; 32];
        for (i, column) in c.iter().flat_map(|c| &c.0).enumerate() {
            for row in 0..16 {
                sums[i % 32][row] += column[row];
            }
        }
        for step in [16, 8, 4, 2, 1] {
            for i in 0..step {
                for row in 0..16 {
                    sums[i][row] += sums[i + step][row];
                }
            }
        }
        Lanes(sums[0])
    }

    #[inline(always)]
    fn copies_commit(&self) {
        self.memory.copies_commit(self.first);
    }

    #[inline(always)]
    fn copies_wait<const PENDING: usize>(&self) {
        self.memory.copies_wait(self.first, PENDING);
    }
}

#[cfg(test)]
mod tests {
    use crate::{Baseline, Bf16, Block, HostBlock, Scratch, Warp};

    /// Runs `f` on the one warp of a block.
    fn with_warp(f: impl FnOnce(&HostBlock<32, Baseline>, &<HostBlock<32, Baseline> as Block>::Warp)) {
        let mut scratch = [0u128; 32];
        let block = HostBlock::<32, Baseline>::new(0, 0, &mut scratch);
        let mut f = Some(f);
        block.warps(|_, warp| f.take().expect("one warp")(&block, warp));
    }

    /// A value that tells where in the fragment it stands, as bits of a small bf16 integer.
    fn value(row: usize, column: usize) -> u16 {
        Bf16::from_f32((row * 7 + column * 3 % 11) as f32).0
    }

    #[test]
    fn a_filled_fragment_is_the_loaded_one() {
        with_warp(|block, warp| {
            let cells = block.scratch::<u16>(256);
            for i in 0..256 {
                cells.set(0, i, value(i / 16, i % 16));
            }
            let at = |line: usize, octet: usize| line * 16 + octet * 8;
            let both = |line: usize, k: usize| [value(line, k), value(line, k + 1)];

            let loaded = warp.load_a(&cells, at);
            let filled = warp.fill_b(both);
            assert!(filled == warp.load_b(&cells, at));
            assert!(filled != warp.fill_b(|column, row| [value(row, column), value(row + 1, column)]));

            let [kept] = warp.keep_rows(&[filled], 3, 12);
            let within = |k: usize, value: u16| if (3..12).contains(&k) { value } else { 0 };
            assert!(
                kept == warp
                    .fill_b(|column, k| [within(k, both(column, k)[0]), within(k + 1, both(column, k)[1])])
            );

            // And rows are rows, columns columns: c[row][column] = sum over k of value(row, k) value(column, k).
            let mut c = warp.zero();
            warp.mma::<Bf16>(&loaded, &filled, &mut c);
            let mut seen = 0;
            warp.each_c(&c, |_, row, column, got| {
                let product = |k| Bf16(value(row, k)).to_f32() * Bf16(value(column, k)).to_f32();
                assert_eq!(got, (0..16).map(product).sum::<f32>(), "row {row} column {column}");
                seen += 1;
            });
            assert_eq!(seen, 128);
        });
    }

    #[test]
    fn lanes_hold_the_rows_and_columns_that_the_instruction_gives_them() {
        with_warp(|_, warp| {
            let mut c = warp.zero();
            warp.zip_c(&mut c, &warp.zero(), |row, column, one, two| one + two + (row * 8 + column) as f32);
            let mut held = [[false; 128]; 32];
            warp.each_c(&c, |lane, row, column, value| {
                assert_eq!(value, (row * 8 + column) as f32);
                held[lane][row * 8 + column] = true;
            });
            for (lane, held) in held.iter().enumerate() {
                let first = lane / 4 * 8 + lane % 4 * 2;
                let want = [first, first + 1, first + 64, first + 65];
                let got: Vec<usize> = (0..128).filter(|&i| held[i]).collect();
                assert_eq!(got, want, "lane {lane}");
            }
        });
    }

    #[test]
    fn each_row_has_a_value_of_its_own() {
        with_warp(|_, warp| {
            let mut rows = warp.rows(1);
            let mut seen = Vec::new();
            warp.each_row(|lane, row| {
                assert_eq!(lane, row % 8 * 4);
                rows[row] += row;
                seen.push(row);
            });
            assert_eq!(seen, (0..16).collect::<Vec<_>>());
            assert!((0..16).all(|row| rows[row] == row + 1));
        });
    }
}
