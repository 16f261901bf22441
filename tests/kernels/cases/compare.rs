//! Random floats, and counts of differing values. Both exact; the oracle of the floats works with 128-bit integers.

use kernels::compare::{COUNT, Count, DRAW, Draw, OPPOSITES, SPAN, TWINS};

use super::random::Random;
use super::{Case, Expect, Launch, Scale, Stage};

/// A matrix of random floats.
struct Floats {
    rows: usize,
    columns: usize,
    /// Bits of the fraction, the least exponent, and how many there are.
    format: [u32; 3],
    zero_row: usize,
    pairs: u32,
    seed: u32,
}

const BF16: [u32; 3] = [7, 97, 61];
const F16: [u32; 3] = [10, 3, 25];

pub(crate) fn draw_cases(scale: Scale) -> Vec<Box<dyn Case>> {
    let mut shapes = vec![(1, 1), (2, 7), (7, 40)];
    if scale == Scale::Full {
        shapes.extend([(6, 4096), (4, 4097), (300, 576)]);
    }
    let cases = shapes.into_iter().enumerate().flat_map(|(i, (rows, columns))| {
        [(BF16, TWINS), (BF16, OPPOSITES), (F16, TWINS), (F16, OPPOSITES)].map(|(format, pairs)| {
            Box::new(Floats { rows, columns, format, zero_row: 5, pairs, seed: i as u32 * 1000 }) as _
        })
    });
    cases.collect()
}

impl Floats {
    /// The three rounds of SplitMix64's finaliser.
    fn random(&self, row: usize, column: usize) -> u64 {
        let shifted = |z: u128, shift: u32| z ^ (z >> shift);
        let times = |z: u128, factor: u128| z * factor % (1 << 64);
        let z = (u128::from(self.seed) << 40) + (row * self.columns + column) as u128;
        let z = times(shifted(z, 30), 0xbf58_476d_1ce4_e5b9);
        let z = times(shifted(z, 27), 0x94d0_49bb_1331_11eb);
        shifted(z, 31) as u64
    }

    fn bits(&self, row: usize, column: usize) -> u16 {
        let [fraction_bits, low, span] = self.format;
        let partner = match (self.pairs, column % 4) {
            (TWINS, 1) => true,
            (OPPOSITES, 1 | 3) => row.is_multiple_of(3),
            _ => false,
        };
        let random = self.random(row, column - usize::from(partner));
        let [zero, sign, fraction, exponent] =
            [random % 65536, random / 65536 % 2, random / 131_072, random / (1 << 32)];
        if zero.is_multiple_of(10) || row == self.zero_row {
            return 0;
        }
        let middle = u64::from(low + (span - 3) / 2);
        let exponent = if row.is_multiple_of(2) {
            middle + exponent % 3
        } else {
            u64::from(low) + exponent % u64::from(span)
        };
        let magnitude = (exponent * (1 << fraction_bits) + fraction % (1 << fraction_bits)) as u16;
        let opposite = u16::from(partner && self.pairs == OPPOSITES);
        (magnitude ^ opposite) + 0x8000 * (sign as u16 ^ opposite)
    }
}

impl Case for Floats {
    fn label(&self) -> String {
        let Self { rows, columns, format, pairs, .. } = self;
        format!("rows={rows} columns={columns} fraction={} pairs={pairs}", format[0])
    }

    fn bytes(&self) -> u64 {
        (2 * self.rows * self.columns) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let [fraction, low, span] = self.format;
        let args = Draw {
            // A float may have the bits of the stage's poison: not as an output. These are NaNs.
            out: stage.in_out(&vec![u16::MAX; self.rows * self.columns]),
            rows: self.rows as u32,
            columns: self.columns as u32,
            fraction,
            low,
            span,
            zero_row: self.zero_row as u32,
            pairs: self.pairs,
            seed: self.seed,
        };
        Launch::new(&DRAW, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let at = |i| self.bits(i / self.columns, i % self.columns);
        vec![Expect::bits(&(0..self.rows * self.columns).map(at).collect::<Vec<u16>>())]
    }
}

/// Two arrays that differ in some places.
struct Pair {
    want: Vec<f32>,
    got: Vec<f32>,
}

pub(crate) fn count_cases() -> Vec<Box<dyn Case>> {
    [(1, 2), (1, 1), (SPAN - 1, 3), (SPAN, 1), (SPAN + 1, 50), (3 * SPAN + 77, 5000)]
        .map(|(len, every)| {
            let mut random = Random::new((len + every) as u64);
            let want = random.floats(len);
            let differ = |value: f32, random: &mut Random| {
                let bit = random.below(32) as u32;
                if random.below(every) == 0 { f32::from_bits(value.to_bits() ^ 1 << bit) } else { value }
            };
            let mut pair = Pair { got: want.iter().map(|&x| differ(x, &mut random)).collect(), want };
            // Equal values of other bits differ, a NaN is itself and no other NaN.
            let special = [(0.0, -0.0), (f32::NAN, f32::NAN), (f32::NAN, f32::from_bits(0x7fc0_0001))];
            for (i, (want, got)) in special.into_iter().enumerate().filter(|(i, _)| i + 1 < len) {
                (pair.want[len - 1 - i], pair.got[len - 1 - i]) = (want, got);
            }
            Box::new(pair) as _
        })
        .into()
}

impl Case for Pair {
    fn label(&self) -> String {
        format!("len={}", self.want.len())
    }

    fn bytes(&self) -> u64 {
        8 * self.want.len() as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = Count {
            want: stage.input(&self.want),
            got: stage.input(&self.got),
            counts: stage.output(self.want.len().div_ceil(SPAN)),
            len: self.want.len() as u64,
        };
        Launch::new(&COUNT, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let blocks = self.want.chunks(SPAN).zip(self.got.chunks(SPAN));
        let counts = blocks.map(|(want, got)| {
            want.iter().zip(got).filter(|(want, got)| want.to_ne_bytes() != got.to_ne_bytes()).count() as u64
        });
        vec![Expect::bits(&counts.collect::<Vec<u64>>())]
    }
}
