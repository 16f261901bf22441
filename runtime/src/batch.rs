//! What one forward pass computes: ranges of tokens of several sequences, with the pages they live in.

use kernels::kv::PAGE;

use crate::device::{Buffer, Device, DeviceError, Purpose};

/// A range of one sequence's tokens.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// The tokens to compute; at least one.
    pub tokens: &'a [u32],
    /// The position of the first.
    pub start: usize,
    /// The sequence's pages in order; they cover `start + tokens.len()` positions.
    pub pages: &'a [u32],
    /// Whether the logits after the last token are wanted.
    pub wants_logits: bool,
}

/// A batch on the host.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Batch {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    sequences: Vec<u32>,
    slots: Vec<u32>,
    outputs: Vec<u32>,
    pages: Vec<Vec<u32>>,
}

impl Batch {
    /// Adds a chunk; its logits, if wanted, are the next row of the output.
    ///
    /// # Panics
    /// If it has no tokens, or pages for fewer positions than it has.
    pub fn push(&mut self, chunk: Chunk<'_>) {
        let end = chunk.start + chunk.tokens.len();
        assert!(
            !chunk.tokens.is_empty() && chunk.pages.len() * PAGE >= end,
            "a chunk has tokens and pages for them"
        );
        let sequence = self.pages.len() as u32;
        for (i, &token) in chunk.tokens.iter().enumerate() {
            let position = chunk.start + i;
            self.tokens.push(token);
            self.positions.push(position as u32);
            self.sequences.push(sequence);
            self.slots.push(chunk.pages[position / PAGE] * PAGE as u32 + (position % PAGE) as u32);
        }
        self.pages.push(chunk.pages.to_vec());
        if chunk.wants_logits {
            self.outputs.push(self.tokens.len() as u32 - 1);
        }
    }

    /// Tokens to compute.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// The first token outside of a vocabulary: its position in its sequence, and its id.
    pub fn out_of_range(&self, vocab: usize) -> Option<(u32, u32)> {
        let i = self.tokens.iter().position(|&id| id as usize >= vocab)?;
        Some((self.positions[i], self.tokens[i]))
    }

    /// Rows of logits that come out.
    pub fn outputs(&self) -> usize {
        self.outputs.len()
    }
}

/// The greatest batch that a model's buffers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Tokens computed at once.
    pub tokens: usize,
    /// Sequences, each with at most one row of logits.
    pub sequences: usize,
    /// Positions of a sequence.
    pub context: usize,
}

/// A batch on the device; overwritten by the next.
pub struct BatchBuffers {
    limits: BatchLimits,
    /// `[tokens]`.
    pub ids: Buffer<u32>,
    /// `[tokens]`.
    pub positions: Buffer<u32>,
    /// `[tokens]`.
    pub sequences: Buffer<u32>,
    /// `[tokens]`: where keys and values go.
    pub slots: Buffer<u32>,
    /// `[sequences, table_width]`.
    pub page_table: Buffer<u32>,
    /// `[outputs]`: which tokens' logits are wanted.
    pub outputs: Buffer<u32>,
    loaded: usize,
}

impl BatchBuffers {
    /// Memory for batches up to `limits`.
    ///
    /// # Errors
    /// Out of memory, or a failing driver.
    pub fn new(device: &Device, limits: BatchLimits) -> Result<Self, DeviceError> {
        let ids = |len| device.alloc::<u32>(Purpose::Inputs, len);
        Ok(Self {
            limits,
            ids: ids(limits.tokens)?,
            positions: ids(limits.tokens)?,
            sequences: ids(limits.tokens)?,
            slots: ids(limits.tokens)?,
            page_table: ids(limits.sequences * limits.context.div_ceil(PAGE))?,
            outputs: ids(limits.sequences)?,
            loaded: 0,
        })
    }

    /// Uploads a batch.
    ///
    /// # Errors
    /// A failing driver.
    ///
    /// # Panics
    /// If the batch is over the limits, or a sequence over the context.
    pub fn load(&mut self, device: &Device, batch: &Batch) -> Result<(), DeviceError> {
        assert!(batch.tokens.len() <= self.limits.tokens && batch.pages.len() <= self.limits.sequences);
        let last = batch.positions.iter().max().map_or(0, |&position| position as usize);
        assert!(last < self.limits.context, "position {last} is outside of the context");
        device.upload(&mut self.ids, 0, &batch.tokens)?;
        device.upload(&mut self.positions, 0, &batch.positions)?;
        device.upload(&mut self.sequences, 0, &batch.sequences)?;
        device.upload(&mut self.slots, 0, &batch.slots)?;
        device.upload(&mut self.outputs, 0, &batch.outputs)?;
        let width = self.table_width();
        for (i, pages) in batch.pages.iter().enumerate() {
            device.upload(&mut self.page_table, i * width, &pages[..pages.len().min(width)])?;
        }
        self.loaded = batch.tokens.len();
        Ok(())
    }

    /// Tokens of the batch that is loaded.
    pub fn tokens(&self) -> usize {
        self.loaded
    }

    /// Pages in a row of the page table.
    pub fn table_width(&self) -> usize {
        self.limits.context.div_ceil(PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_become_rows_with_positions_and_slots() {
        let mut batch = Batch::default();
        batch.push(Chunk { tokens: &[7, 8, 9], start: 31, pages: &[4, 2], wants_logits: false });
        batch.push(Chunk { tokens: &[5], start: 0, pages: &[1], wants_logits: true });
        assert_eq!(batch.positions, [31, 32, 33, 0]);
        assert_eq!(batch.slots, [4 * 32 + 31, 2 * 32, 2 * 32 + 1, 32]);
        assert_eq!(batch.sequences, [0, 0, 0, 1]);
        assert_eq!(batch.outputs, [3]);
    }

    #[test]
    #[should_panic(expected = "pages for them")]
    fn a_chunk_without_pages_is_refused() {
        Batch::default().push(Chunk { tokens: &[1], start: 32, pages: &[0], wants_logits: true });
    }
}
