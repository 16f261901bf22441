//! What an output must hold.

use cuda_std::Value;

/// The right content of one output.
pub(crate) enum Expect {
    /// These bytes.
    Bits(Vec<u8>),
    /// f32 values, each at most so far from the true one.
    Near {
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

    /// Each value with its tolerance.
    pub(crate) fn near(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let (values, tolerance) = pairs.into_iter().unzip();
        Expect::Near { values, tolerance }
    }

    /// What is wrong with `got`.
    pub(crate) fn check(&self, got: &[u8]) -> Result<(), String> {
        match self {
            Expect::Bits(want) => same_bits(got, want),
            Expect::Near { values, tolerance } => {
                if got.len() != 4 * values.len() {
                    return Err(format!("{} values expected, {} bytes came", values.len(), got.len()));
                }
                let got = || got.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes) as f64);
                let far = |&(_, ((got, want), tolerance)): &(usize, ((f64, &f64), &f64))| {
                    let near = (got - want).abs() <= *tolerance;
                    !near // as a NaN is from everything
                };
                let wrong = || got().zip(values).zip(tolerance).enumerate().filter(far);
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
