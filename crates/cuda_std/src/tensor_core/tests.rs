//! Both forms of the model against measured steps and against each other.

use std::array::from_fn;
use std::path::PathBuf;

use proptest::prelude::*;

use super::simd::{A, B, C};
use super::*;
use crate::{Bf16, F16};

type Rows = [[u16; 16]; 16];
type Columns = [[u16; 16]; 8];
type Sums = [[f32; 8]; 16];

/// `c + a b` in the form that kernels use.
fn by_simd<I: MmaInput>(a: &Rows, b: &Columns, c: &Sums) -> Sums {
    let mut columns = C(from_fn(|column| from_fn(|row| c[row][column])));
    simd::step::<I>(&A(*a), &B::of_columns(b), &mut columns);
    from_fn(|row| from_fn(|column| columns.0[column][row]))
}

fn same_bits(a: &Sums, b: &Sums) -> bool {
    a.as_flattened().iter().map(|x| x.to_bits()).eq(b.as_flattened().iter().map(|x| x.to_bits()))
}

/// Steps of an H100, as `[a, b, c, d]` arrays one after the other: u16 [w, 16, 16], u16 [w, 8, 16], f32 [w, 16, 8]
/// twice.
fn equals_the_measured_steps<I: MmaInput>(file: &str) {
    let folder = std::env::var_os("WORKER_ORCD_TEST_DATA")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden").into(), PathBuf::from);
    let raw = std::fs::read(folder.join(file)).expect("golden file");
    let steps = raw.len() / 1792;
    assert!(steps >= 64, "{file} is too short");
    let u16_at = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
    let f32_at = |at: usize| f32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    let mut wrong = 0;
    for w in 0..steps {
        let (at_a, at_b) = (w * 512, steps * 512 + w * 256);
        let (at_c, at_d) = (steps * 768 + w * 512, steps * 1280 + w * 512);
        let a = from_fn(|i| from_fn(|k| u16_at(at_a + 2 * (16 * i + k))));
        let b = from_fn(|i| from_fn(|k| u16_at(at_b + 2 * (16 * i + k))));
        let mut c = from_fn(|i| from_fn(|j| f32_at(at_c + 4 * (8 * i + j))));
        let simd = by_simd::<I>(&a, &b, &c);
        step::<I>(&a, &b, &mut c);
        assert!(same_bits(&c, &simd), "{file}: step {w} differs between the two forms");
        for (n, got) in c.as_flattened().iter().enumerate() {
            wrong += (got.to_bits() != f32_at(at_d + 4 * n).to_bits()) as usize;
        }
    }
    assert_eq!(wrong, 0, "{file}: values that differ, of {}", steps * 128);
}

#[test]
fn bf16_steps_equal_the_measured_ones() {
    (0..3).for_each(|i| equals_the_measured_steps::<Bf16>(&format!("mma_sm90_bf16_{i}.bin")));
}

#[test]
fn f16_steps_equal_the_measured_ones() {
    (0..3).for_each(|i| equals_the_measured_steps::<F16>(&format!("mma_sm90_f16_{i}.bin")));
}

#[test]
fn a_subnormal_pushes_bits_out_as_the_least_normal_number_would() {
    // Measured on an H100: the product of 2^-24 and -359.5 is far from the greatest, its exponents' sum is not.
    let (mut a, mut b) = ([[0; 16]; 16], [[0; 16]; 8]);
    a[0][..8].copy_from_slice(&[0x9e50, 0x1e51, 0x0000, 0x8001, 0x9005, 0x1004, 0xa985, 0x2984]);
    b[0][..8].copy_from_slice(&[0x8efb, 0x8efb, 0x6bf3, 0xdd9e, 0x26a5, 0x26a5, 0x1565, 0x9a11]);
    let mut c = [[0.0; 8]; 16];
    step::<F16>(&a, &b, &mut c);
    assert_eq!(c[0][0].to_bits(), 0xb92a_ef80);
}

#[test]
fn rounding_reaches_subnormals_and_keeps_the_sign() {
    assert_eq!(round_towards_zero(3, -150).to_bits(), 1);
    assert_eq!(round_towards_zero(-3, -150), -f32::from_bits(1));
    assert_eq!(round_towards_zero(1, -150).to_bits(), 0);
    assert_eq!(round_towards_zero(0x1ff_ffff, 0), 33_554_430.0);
}

/// A stream of random bits: SplitMix64.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// An input: sign and fraction at random, the exponent's field uniform in `fields`; a zero one time in `zeros`.
    fn input<I: MmaInput>(&mut self, (low, high): (u64, u64), zeros: u64) -> u16 {
        let fraction = format::<I>().0;
        let field = low + self.below(high - low + 1);
        let sign = (self.below(2) as u16) << 15;
        if self.below(zeros) == 0 {
            return sign;
        }
        sign | (field as u16) << fraction | (self.bits() as u16 & ((1 << fraction) - 1))
    }
}

/// Ranges of an exponent's field in inputs, and in accumulators.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Like-sized.
    Narrow,
    /// All that an f16 product, or a like part of the range of bf16, reaches.
    Wide,
    /// Mostly subnormal.
    Subnormal,
    /// Results beyond the greatest f32, in bf16.
    Huge,
    /// Results below the least normal f32, in bf16.
    Tiny,
    /// All bits.
    Any,
}

const KINDS: [Kind; 6] = [Kind::Narrow, Kind::Wide, Kind::Subnormal, Kind::Huge, Kind::Tiny, Kind::Any];

/// A random step. With `cancelling`, neighbouring products are equal but for sign and last bit.
fn random_step<I: MmaInput>(kind: Kind, sums: Kind, cancelling: bool, seed: u64) -> (Rows, Columns, Sums) {
    let mut random = Random(seed);
    let (bias, special) = (format::<I>().1 as u64, 2 * format::<I>().1 as u64 + 1);
    let fields = match kind {
        Kind::Narrow => (bias - 2, bias + 2),
        Kind::Wide if I::BF16 => (bias - 20, bias + 20),
        Kind::Wide => (0, special - 1),
        Kind::Subnormal => (0, 1),
        Kind::Huge => (special - 1 - special / 4, special - 1),
        Kind::Tiny => (special / 4 - special / 16, special / 4 + special / 16),
        Kind::Any => (0, special),
    };
    let zeros = if seed & 1 == 0 { 4 } else { 64 };
    let mut a: Rows = from_fn(|_| from_fn(|_| random.input::<I>(fields, zeros)));
    let mut b: Columns = from_fn(|_| from_fn(|_| random.input::<I>(fields, zeros)));
    if cancelling {
        let pairs = |line: &mut [u16; 16], flip| {
            line.as_chunks_mut::<2>().0.iter_mut().for_each(|[x, y]| *y = *x ^ flip)
        };
        a.iter_mut().for_each(|row| pairs(row, 0x8001));
        b.iter_mut().for_each(|column| pairs(column, 0));
    }
    let live = 1 + random.below(8) as usize;
    b[live..].iter_mut().for_each(|column| column.fill((random.below(2) as u16) << 15));
    let live = if seed & 2 == 0 { 16 } else { 1 + random.below(8) as usize };
    a[live..].iter_mut().for_each(|row| row.fill((random.below(2) as u16) << 15));
    let (low, high) = match sums {
        Kind::Narrow => (124, 132),
        Kind::Wide => (87, 167),
        Kind::Subnormal => (0, 1),
        Kind::Huge => (240, 254),
        Kind::Tiny => (0, 12),
        Kind::Any => (0, 255),
    };
    let c = from_fn(|_| {
        from_fn(|_| {
            let field = (low + random.below(high - low + 1)) as u32;
            let bits = random.bits() as u32;
            let zero = random.below(8) == 0;
            f32::from_bits((bits & 0x8000_0000) | if zero { 0 } else { field << 23 | (bits & 0x007f_ffff) })
        })
    });
    (a, b, c)
}

fn both_forms_agree<I: MmaInput>(kind: Kind, sums: Kind, cancelling: bool, seed: u64) {
    let (a, b, mut c) = random_step::<I>(kind, sums, cancelling, seed);
    let got = by_simd::<I>(&a, &b, &c);
    let before = c;
    step::<I>(&a, &b, &mut c);
    for (row, column) in (0..16).flat_map(|row| (0..8).map(move |column| (row, column))) {
        let (got, want) = (got[row][column], c[row][column]);
        let (a, b, c) = (a[row], b[column], before[row][column]);
        assert_eq!(got.to_bits(), want.to_bits(), "{got:e}, not {want:e}: {c:e} + {a:04x?} {b:04x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]
    #[test]
    fn the_simd_form_has_the_bits_of_the_plain_one(
        kind in proptest::sample::select(&KINDS[..]),
        sums in proptest::sample::select(&KINDS[..]),
        cancelling: bool,
        seed: u64,
    ) {
        both_forms_agree::<Bf16>(kind, sums, cancelling, seed);
        both_forms_agree::<F16>(kind, sums, cancelling, seed);
    }
}

#[test]
fn a_column_of_zeros_leaves_finite_sums_and_drops_the_sign_of_zero() {
    // Infinity times zero included: see `step`.
    let (a, b) = ([[0x7f80; 16]; 16], [[0x8000; 16]; 8]);
    let c = [[0.0, -0.0, 1.5, -f32::from_bits(1), f32::MAX, f32::INFINITY, f32::NAN, -2.0]; 16];
    let mut want = c;
    step::<Bf16>(&a, &b, &mut want);
    assert!(same_bits(&want, &[[0.0, 0.0, 1.5, -f32::from_bits(1), f32::MAX, f32::NAN, f32::NAN, -2.0]; 16]));
    assert!(same_bits(&want, &by_simd::<Bf16>(&a, &b, &c)));
}

#[test]
fn a_row_of_zeros_does_so_too() {
    let (mut a, b) = ([[0x8000; 16]; 16], [[0x7f80; 16]; 8]);
    a[3][5] = Bf16::from_f32(1.0).0;
    let c = [[0.0, -0.0, 1.5, -f32::from_bits(1), f32::MAX, f32::INFINITY, f32::NAN, -2.0]; 16];
    let mut want = c;
    step::<Bf16>(&a, &b, &mut want);
    assert!(
        want[3].iter().all(|sum| sum.is_nan())
            && want[4][..5] == [0.0, 0.0, 1.5, -f32::from_bits(1), f32::MAX]
    );
    assert!(same_bits(&want, &by_simd::<Bf16>(&a, &b, &c)));
}

#[test]
fn ordinary_numbers_take_the_fast_path() {
    for (seed, kind) in (0..64).zip([Kind::Narrow, Kind::Wide, Kind::Subnormal].into_iter().cycle()) {
        let (a, b, c) = random_step::<F16>(kind, Kind::Narrow, seed % 2 == 0, seed);
        assert!(
            simd::covers::<F16>(&A(a), &B::of_columns(&b), &C(from_fn(|j| from_fn(|i| c[i][j])))),
            "{kind:?}"
        );
    }
}

#[test]
fn chips_differ_where_their_groups_and_bits_do() {
    let one = Bf16::from_f32(1.0).0;
    let small = |n| Bf16::from_f32(2f32.powi(n)).0;
    let (mut a, b) = ([[0; 16]; 16], [[one; 16]; 8]);
    // One and eight small numbers, of which a group may drop each; and four smaller ones in a group before the one.
    a[0][..9].copy_from_slice(&[one].into_iter().chain([small(-24); 8]).collect::<Vec<_>>());
    a[1][..9].copy_from_slice(&[one].into_iter().chain([small(-25); 8]).collect::<Vec<_>>());
    a[2][..5].copy_from_slice(&[small(-25), small(-25), small(-25), small(-25), one]);
    let units = CHIPS.map(|chip| {
        let mut c = [[0.0; 8]; 16];
        chip.step::<Bf16>(&a, &b, &mut c);
        [c[0][0], c[1][0], c[2][0]].map(|sum| (sum - 1.0) * 2f32.powi(23))
    });
    assert_eq!(units, [[4.0, 2.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
}
