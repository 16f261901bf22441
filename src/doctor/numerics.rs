//! `doctor --numerics`: which known model of a tensor core a device computes as.
//!
//! Random products go through the kernels of [`kernels::matmul`]: single tensor-core steps, where `k` is 16, and chains of
//! four. The values are compared, bit by bit, with what each of [`tensor_core::CHIPS`] makes of the same inputs. Of
//! these only Hopper's was measured by this project, on an H100; the CPU device computes as Hopper does.

use cuda_std::tensor_core::{CHIPS, Chip, HOPPER};
use cuda_std::{Bf16, F16, MmaInput};
use kernels::matmul::{BF16, F16_, MatMul};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use runtime::device::{Device, DeviceError, Purpose};

use crate::images::IMAGES;

/// Rows of the weights, columns, and rows of the inputs: 1024 single steps, and 256 chains of four.
const SHAPES: [(usize, usize, usize); 2] = [(512, 16, 256), (256, 64, 128)];

/// What the CPU and the first GPU compute as, by the device's name.
pub(super) fn examine() -> Vec<(String, Result<String, String>)> {
    let cases: Vec<Examined> = Case::all().into_iter().map(Examined::new).collect();
    let verdict = |device: Result<Device, DeviceError>| {
        let device = device.map_err(|error| error.to_string())?;
        let counts = count(&cases, |case| case.run(&device)).map_err(|error| error.to_string())?;
        counts.verdict()
    };
    vec![
        ("numerics cpu".to_owned(), verdict(Ok(Device::cpu(0)))),
        ("numerics cuda:0".to_owned(), verdict(Device::cuda(0, IMAGES))),
    ]
}

/// Exponents of random numbers, as ranges of the exponent's field.
struct Fields {
    weights: (u64, u64),
    inputs: (u64, u64),
}

/// One product, `y = x w` as [`MatMul`] has it.
struct Case {
    bf16: bool,
    n: usize,
    k: usize,
    m: usize,
    w: Vec<u16>,
    x: Vec<u16>,
}

impl Case {
    fn all() -> Vec<Case> {
        let mut random = Pcg64Mcg::seed_from_u64(16);
        let mut cases = Vec::new();
        for bf16 in [true, false] {
            let bias = if bf16 { 127 } else { 15 };
            // No product leaves the range of f32: what a chip answers then is not part of any model.
            let (narrow, wide) = ((bias - 2, bias + 2), if bf16 { (bias - 20, bias + 20) } else { (0, 30) });
            let large = if bf16 { (bias + 60, bias + 64) } else { (bias + 8, bias + 12) };
            for fields in [
                Fields { weights: narrow, inputs: narrow },
                Fields { weights: wide, inputs: wide },
                Fields { weights: (0, 2), inputs: large },
            ] {
                for (n, k, m) in SHAPES {
                    let w = numbers(&mut random, bf16, fields.weights, n * k);
                    let x = numbers(&mut random, bf16, fields.inputs, m * k);
                    cases.push(Case { bf16, n, k, m, w, x });
                }
            }
        }
        cases
    }

    /// `y` as the device computes it.
    fn run(&self, device: &Device) -> Result<Vec<f32>, DeviceError> {
        let mut w = device.alloc(Purpose::Inputs, self.w.len())?;
        let mut x = device.alloc(Purpose::Inputs, self.x.len())?;
        let y = device.alloc::<f32>(Purpose::Activations, self.m * self.n)?;
        device.upload(&mut w, 0, &self.w)?;
        device.upload(&mut x, 0, &self.x)?;
        // SAFETY: the views have the shapes that the kernel documents, of buffers that live until the download is done
        // and are nobody else's.
        unsafe {
            let args = MatMul {
                w: w.view(0, w.len()),
                x: x.view(0, x.len()),
                y: y.view_mut(0, y.len()),
                k: self.k as u32,
                n: self.n as u32,
                m: self.m as u32,
            };
            device.launch(if self.bf16 { &BF16 } else { &F16_ }, &args)?;
        }
        device.download(&y, 0, y.len())
    }

    /// `y` by a chain of the chip's steps.
    fn model(&self, chip: &Chip) -> Vec<f32> {
        if self.bf16 { self.chain::<Bf16>(chip) } else { self.chain::<F16>(chip) }
    }

    fn chain<I: MmaInput>(&self, chip: &Chip) -> Vec<f32> {
        let mut y = vec![0.0; self.m * self.n];
        for row in (0..self.n).step_by(16) {
            for token in (0..self.m).step_by(8) {
                let mut sums = [[0.0; 8]; 16];
                for step in (0..self.k).step_by(16) {
                    let part = |of: &[u16], row: usize| -> [u16; 16] {
                        std::array::from_fn(|k| of[row * self.k + step + k])
                    };
                    let w = std::array::from_fn(|i| part(&self.w, row + i));
                    let x = std::array::from_fn(|j| part(&self.x, token + j));
                    chip.step::<I>(&w, &x, &mut sums);
                }
                for (i, sums) in sums.iter().enumerate() {
                    for (j, &sum) in sums.iter().enumerate() {
                        y[(token + j) * self.n + row + i] = sum;
                    }
                }
            }
        }
        y
    }
}

/// Random numbers as bits, one in sixteen of them zero.
fn numbers(random: &mut Pcg64Mcg, bf16: bool, (low, high): (u64, u64), n: usize) -> Vec<u16> {
    let fraction = if bf16 { 7 } else { 10 };
    let number = |bits: u64| {
        let field = low + (bits >> 32) % (high - low + 1);
        let magnitude = (field as u16) << fraction | (bits as u16 & ((1 << fraction) - 1));
        (bits >> 16) as u16 & 0x8000 | if bits >> 60 == 0 { 0 } else { magnitude }
    };
    (0..n).map(|_| number(random.next_u64())).collect()
}

/// A case, and what each of [`CHIPS`] makes of it.
struct Examined {
    case: Case,
    models: [Vec<f32>; CHIPS.len()],
}

impl Examined {
    fn new(case: Case) -> Self {
        let models = CHIPS.map(|chip| case.model(&chip));
        Self { case, models }
    }
}

/// How many values there were, and how many of them each of [`CHIPS`] has.
struct Counts {
    values: usize,
    equal: [usize; CHIPS.len()],
}

fn count<E>(cases: &[Examined], run: impl Fn(&Case) -> Result<Vec<f32>, E>) -> Result<Counts, E> {
    let mut counts = Counts { values: 0, equal: [0; CHIPS.len()] };
    for Examined { case, models } in cases {
        let got = run(case)?;
        counts.values += got.len();
        for (equal, model) in counts.equal.iter_mut().zip(models) {
            *equal += got.iter().zip(model).filter(|(got, want)| got.to_bits() == want.to_bits()).count();
        }
    }
    Ok(counts)
}

impl Counts {
    /// The model that has every value; otherwise that there is none.
    fn verdict(&self) -> Result<String, String> {
        let shares: Vec<String> = CHIPS
            .iter()
            .zip(self.equal)
            .map(|(chip, equal)| format!("{}: {equal} of {} values", chip.name, self.values))
            .collect();
        let Some(found) = self.equal.iter().position(|&equal| equal == self.values) else {
            return Err(format!("matches no known model; {}", shares.join(", ")));
        };
        let others: Vec<&str> =
            shares.iter().enumerate().filter(|(i, _)| *i != found).map(|(_, share)| &**share).collect();
        let apart = if CHIPS[found] == HOPPER { "" } else { ", not what the CPU computes" };
        Ok(format!("matches {}{apart} ({})", shares[found], others.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// What is said of a device that computes so.
    fn verdict(run: impl Fn(&Case) -> Vec<f32>) -> Result<String, String> {
        let cases: Vec<Examined> =
            Case::all().into_iter().filter(|case| case.n == 256).map(Examined::new).collect();
        let Ok(counts) = count(&cases, |case| Ok::<_, Infallible>(run(case)));
        counts.verdict()
    }

    #[test]
    fn each_known_chip_is_told_from_the_others() {
        for chip in CHIPS {
            let found = verdict(|case| case.model(&chip));
            let want = format!("matches {}: 196608 of 196608 values", chip.name);
            assert!(found.as_ref().is_ok_and(|found| found.starts_with(&want)), "{found:?}");
            assert_eq!(found.as_ref().is_ok_and(|found| found.contains("not what the CPU")), chip != HOPPER);
        }
    }

    #[test]
    fn one_other_bit_is_no_match() {
        let found = verdict(|case| {
            let mut y = case.model(&HOPPER);
            y[77] = y[77].next_up();
            y
        });
        let want = "matches no known model; hopper: 196602 of 196608 values, ampere: ";
        assert!(found.as_ref().is_err_and(|found| found.starts_with(want)), "{found:?}");
    }
}
