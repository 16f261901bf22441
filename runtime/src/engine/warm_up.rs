//! Steps that nobody asked for, so that no request waits for a kernel to be compiled or loaded.

use std::ops::Range;
use std::time::Instant;

use kernels::flash::CHUNK;
use kernels::kv::PAGE;

use super::adjust::Adjustments;
use super::{Compute, OnDevice, Row};
use crate::batch::{Batch, Chunk};
use crate::model::ModelError;
use crate::request::Sampling;

/// More tokens at once are computed by the kernels that compute so many.
const MOST_TOKENS: usize = 512;

impl OnDevice {
    /// Uses every kernel that requests will use, on a device that loads a kernel when it is first used. What it leaves in the
    /// cache's `pages` belongs to nobody.
    ///
    /// # Errors
    /// A failing device.
    pub(crate) fn warm_up(&mut self, pages: usize) -> Result<(), ModelError> {
        if self.device.as_cuda().is_none() {
            return Ok(());
        }
        let start = Instant::now();
        let limits = self.model.limits();
        for sequences in sizes(limits.sequences.min(pages)) {
            self.compute(sequences, 0..1)?;
        }
        let end = limits.context.min(pages * PAGE);
        if end > CHUNK {
            self.compute(1, end - 1..end)?;
        }
        // One token is a step as above.
        for tokens in sizes(MOST_TOKENS.min(limits.tokens).min(end)).skip(1) {
            self.compute(1, 0..tokens)?;
        }
        let milliseconds = start.elapsed().as_millis() as u64;
        tracing::info!(event = "warm_up", milliseconds, "all kernels are loaded");
        Ok(())
    }

    /// A step of so many sequences, each with tokens at these positions, with all that can be asked about each.
    fn compute(&mut self, sequences: usize, positions: Range<usize>) -> Result<(), ModelError> {
        let (tokens, mut batch) = (vec![0; positions.len()], Batch::default());
        let pages = positions.end.div_ceil(PAGE) as u32;
        for sequence in 0..sequences as u32 {
            let pages: Vec<u32> = (0..pages).map(|page| sequence + page).collect();
            batch.push(Chunk { tokens: &tokens, start: positions.start, pages: &pages, wants_logits: true });
        }
        let biased = Sampling { logit_bias: vec![(0, 1.0)], ..Sampling::GREEDY };
        let adjustments = Adjustments::new(&biased, &[], &[]);
        let row = || Row { adjustments: Some(&adjustments), logprobs: Some(1), ..Row::GREEDY };
        let rows: Vec<Row<'_>> = (0..sequences).map(|_| row()).collect();
        self.step(&batch, &rows, &mut || ()).map(drop)
    }
}

/// Powers of two below `most`, and `most`: kernels change at such numbers.
fn sizes(most: usize) -> impl Iterator<Item = usize> {
    (0..usize::BITS).map(|bit| 1 << bit).take_while(move |&size| size < most).chain([most])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_end_with_the_most() {
        let sizes = |most| sizes(most).collect::<Vec<_>>();
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(100), [1, 2, 4, 8, 16, 32, 64, 100]);
        assert_eq!(sizes(128), [1, 2, 4, 8, 16, 32, 64, 128]);
    }
}
