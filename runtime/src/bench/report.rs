//! What a bench finds.

use crate::device::Spent;

/// What was measured, where, and what loading took.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// The processor's features or the GPU's name.
    pub description: String,
    /// The newest CUDA version that the driver understands; `None` on the CPU.
    pub driver: Option<String>,
    /// `general.architecture`.
    pub architecture: String,
    /// The type most weights are stored in.
    pub quant: String,
    /// The arithmetic of matrix products.
    pub numerics: &'static str,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// Bytes of the pages for keys and values.
    pub kv_bytes: u64,
    /// Bytes of all else on the device.
    pub other_bytes: u64,
    /// From the first tensor until the model could run.
    pub load_seconds: f64,
    /// Bytes a second that a plain copy reads and writes.
    pub copy: f64,
    /// Tokens of a prompt computed at once.
    pub step: usize,
    /// Measured repetitions of each row.
    pub repetitions: usize,
}

/// What a row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Computes the keys and values of a prompt, and the logits after it.
    Prompt,
    /// Generates tokens one by one.
    Generate,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it does.
    pub kind: Kind,
    /// Tokens of each stream.
    pub tokens: usize,
    /// Streams.
    pub batch: usize,
    /// Tokens that each stream had before.
    pub depth: usize,
    /// Of each repetition.
    pub seconds: Vec<f64>,
    /// Steps of a repetition.
    pub steps: usize,
    /// Bytes that the steps of a repetition read: weights once a step, keys and values of each stream.
    pub bytes: u64,
    /// What the launches of a repetition took, or of its first steps, one after the other and without a graph; empty
    /// unless asked for.
    pub profile: Vec<Spent>,
}

impl Row {
    /// Such as `pp512`, `tg128 x8 @ d4096`.
    pub fn name(&self) -> String {
        let kind = if self.kind == Kind::Prompt { "pp" } else { "tg" };
        let batch = if self.batch == 1 { String::new() } else { format!(" x{}", self.batch) };
        let depth = if self.depth == 0 { String::new() } else { format!(" @ d{}", self.depth) };
        format!("{kind}{}{batch}{depth}", self.tokens)
    }

    /// Tokens a second over all streams: the mean over the repetitions, and the standard deviation, 0 of a single one.
    pub fn tokens_per_second(&self) -> (f64, f64) {
        let rates: Vec<f64> =
            self.seconds.iter().map(|seconds| (self.tokens * self.batch) as f64 / seconds).collect();
        let mean = mean(&rates);
        let squares: f64 = rates.iter().map(|rate| (rate - mean) * (rate - mean)).sum();
        (mean, (squares / (rates.len().max(2) - 1) as f64).sqrt())
    }

    /// The mean time of a step.
    pub fn seconds_per_step(&self) -> f64 {
        mean(&self.seconds) / self.steps as f64
    }

    /// Bytes that a step reads.
    pub fn bytes_per_step(&self) -> f64 {
        self.bytes as f64 / self.steps as f64
    }

    /// Bytes read a second.
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / mean(&self.seconds)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_means_over_the_repetitions() {
        let row = Row {
            kind: Kind::Generate,
            tokens: 100,
            batch: 4,
            depth: 512,
            seconds: vec![1.0, 2.0, 4.0],
            steps: 100,
            bytes: 7_000,
            profile: Vec::new(),
        };
        assert_eq!(row.name(), "tg100 x4 @ d512");
        let (mean, deviation) = row.tokens_per_second();
        assert!((mean - 700.0 / 3.0).abs() < 1e-9);
        // Of 400, 200 and 100 about 233.3, over two degrees of freedom.
        assert!((deviation - 152.7525).abs() < 1e-3, "{deviation}");
        assert!((row.seconds_per_step() - 7.0 / 300.0).abs() < 1e-12);
        assert_eq!((row.bytes_per_step(), row.bytes_per_second()), (70.0, 3000.0));
        let single = Row { kind: Kind::Prompt, batch: 1, depth: 0, seconds: vec![1.0], ..row };
        assert_eq!((single.name(), single.tokens_per_second()), ("pp100".to_owned(), (100.0, 0.0)));
    }
}
