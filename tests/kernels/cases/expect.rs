//! What an output must hold.

use cuda_std::Value;

use super::float::Float;

/// The right content of one output.
pub(crate) enum Expect {
    /// These bytes.
    Bits(Vec<u8>),
    /// Floats, each at most so far from the true one. Where that is infinite or no number, so must be what came.
    Near {
        /// Of this type.
        float: Float,
        /// By the oracle.
        values: Vec<f64>,
        /// The method's error bound for each value.
        tolerance: Vec<f64>,
    },
    /// All of these.
    All(Vec<Expect>),
}

impl Expect {
    /// Exactly `values`.
    pub(crate) fn bits<V: Value>(values: &[V]) -> Self {
        Expect::Bits(bytes_of(values))
    }

    /// Each value, as f32, with its tolerance.
    pub(crate) fn near(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self::near_as(Float::F32, pairs)
    }

    /// Each value, as this type, with its tolerance.
    pub(crate) fn near_as(float: Float, pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let (values, tolerance) = pairs.into_iter().unzip();
        Expect::Near { float, values, tolerance }
    }

    /// What is wrong with `got`.
    pub(crate) fn check(&self, got: &[u8]) -> Result<(), String> {
        match self {
            Expect::Bits(want) => same_bits(got, want),
            Expect::Near { float, values, tolerance } => {
                let got: Vec<f64> = match float {
                    Float::F32 => {
                        got.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes) as f64).collect()
                    }
                    _ => got
                        .as_chunks()
                        .0
                        .iter()
                        .map(|&bytes| float.value(u16::from_le_bytes(bytes)))
                        .collect(),
                };
                if got.len() != values.len() {
                    return Err(format!("{} values expected, {} came", values.len(), got.len()));
                }
                let far = |&(_, ((got, want), tolerance)): &(usize, ((&f64, &f64), &f64))| {
                    let same = got == want || got.is_nan() && want.is_nan();
                    let near = (got - want).abs() <= *tolerance;
                    !(same || near) // as a NaN is from every number
                };
                let wrong = || got.iter().zip(values).zip(tolerance).enumerate().filter(far);
                match wrong().next() {
                    None => Ok(()),
                    Some((i, ((got, want), tolerance))) => Err(format!(
                        "{} of {} values are too far off, first [{i}]: {got:e} for {want:e} +- {tolerance:e}",
                        wrong().count(),
                        values.len()
                    )),
                }
            }
            Expect::All(all) => all.iter().try_for_each(|expect| expect.check(got)),
        }
    }
}

/// How two outputs differ.
pub(crate) fn same_bits(got: &[u8], want: &[u8]) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} bytes for {}", got.len(), want.len()));
    }
    let words = |bytes: &[u8], i: usize| {
        bytes[i..bytes.len().min(i + 4)].iter().rev().fold(0, |word, &b| word << 8 | b as u32)
    };
    let differing = || (0..got.len()).step_by(4).filter(|&i| words(got, i) != words(want, i));
    match differing().next() {
        None => Ok(()),
        Some(i) => Err(format!(
            "{} of {} words differ, first [{}]: {:#010x} for {:#010x} ({:e} for {:e} as f32)",
            differing().count(),
            got.len().div_ceil(4),
            i / 4,
            words(got, i),
            words(want, i),
            f32::from_bits(words(got, i)),
            f32::from_bits(words(want, i)),
        )),
    }
}

/// The bytes of values.
pub(crate) fn bytes_of<V: Value>(values: &[V]) -> Vec<u8> {
    // SAFETY: a `Value` has no padding, so all its bytes are initialised.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }.to_vec()
}
