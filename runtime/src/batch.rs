//! What one forward pass computes: ranges of tokens of several sequences, with the pages they live in.

use cuda_std::In;
use kernels::flash::CHUNK;
use kernels::kv::PAGE;
use kernels::{flash, prompt};

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
    /// Of all sequences, one after the other.
    pages: Vec<u32>,
    /// Where each sequence's pages end.
    page_ends: Vec<usize>,
}

impl Batch {
    /// Nothing to compute; keeps its memory for the next.
    pub fn clear(&mut self) {
        let Self { tokens, positions, sequences, slots, outputs, pages, page_ends } = self;
        page_ends.clear();
        [tokens, positions, sequences, slots, outputs, pages].into_iter().for_each(Vec::clear);
    }

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
        let sequence = self.sequences() as u32;
        for (i, &token) in chunk.tokens.iter().enumerate() {
            let position = chunk.start + i;
            self.tokens.push(token);
            self.positions.push(position as u32);
            self.sequences.push(sequence);
            self.slots.push(chunk.pages[position / PAGE] * PAGE as u32 + (position % PAGE) as u32);
        }
        self.pages.extend_from_slice(&chunk.pages[..end.div_ceil(PAGE)]);
        self.page_ends.push(self.pages.len());
        if chunk.wants_logits {
            self.outputs.push(self.tokens.len() as u32 - 1);
        }
    }

    /// Tokens to compute.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Sequences that tokens are computed of.
    pub fn sequences(&self) -> usize {
        self.page_ends.len()
    }

    /// Each sequence's pages, up to the last that it has tokens in.
    pub(crate) fn pages(&self) -> impl Iterator<Item = &[u32]> {
        let starts = std::iter::once(0).chain(self.page_ends.iter().copied());
        starts.zip(&self.page_ends).map(|(start, &end)| &self.pages[start..end])
    }

    /// The greatest position; `None` of no tokens.
    pub fn last_position(&self) -> Option<u32> {
        self.positions.iter().max().copied()
    }

    /// The first token outside of a vocabulary: its position in its sequence, and its id.
    pub fn out_of_range(&self, vocab: usize) -> Option<(u32, u32)> {
        let i = self.tokens.iter().position(|&id| id as usize >= vocab)?;
        Some((self.positions[i], self.tokens[i]))
    }

    /// Each token with its position, its sequence and its slot.
    #[cfg(test)]
    pub(crate) fn each_token(&self) -> impl Iterator<Item = (u32, u32, usize, usize)> {
        (0..self.tokens.len())
            .map(|i| (self.tokens[i], self.positions[i], self.sequences[i] as usize, self.slots[i] as usize))
    }

    /// The tokens whose logits are wanted: their places among the batch's.
    #[cfg(test)]
    pub(crate) fn wanted(&self) -> &[u32] {
        &self.outputs
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

/// Sizes of a batch as kernels are launched with them: those of the batch, or rounded up, so that few different ones
/// occur and the launches of a step can be kept as a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Tokens.
    pub tokens: usize,
    /// Rows of the page table.
    pub sequences: usize,
    /// Rows of logits.
    pub outputs: usize,
    /// Tiles of attention, see [`kernels::flash`].
    pub tiles: usize,
    /// Tiles of prompts, see [`kernels::prompt`].
    pub prompts: usize,
    /// Pages in a row of the page table, a whole number of attention's chunks.
    pub table_width: usize,
}

impl Shape {
    /// Chunks of attention that a sequence may have.
    pub fn chunks(&self) -> usize {
        self.table_width / CHUNK_PAGES
    }

    /// Whether every sequence has one token and wants its logits.
    pub fn decodes(&self) -> bool {
        self.tokens == self.sequences && self.tokens == self.outputs
    }

    fn words(&self) -> usize {
        4 * self.tokens + self.outputs + 2 * (self.tiles + self.prompts) + self.sequences * self.table_width
    }
}

/// Tokens that tiles of attention may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileTokens {
    /// See [`flash::tile_tokens`].
    pub few: usize,
    /// See [`prompt::tile_tokens`].
    pub prompt: usize,
}

impl TileTokens {
    /// Where so many query heads share a key head.
    pub fn of(group: usize) -> Self {
        Self { few: flash::tile_tokens(group), prompt: prompt::tile_tokens(group) }
    }
}

/// Pages in a chunk of attention.
const CHUNK_PAGES: usize = CHUNK / PAGE;

/// A batch on the device, one piece of memory that one copy fills; overwritten by the next.
pub struct BatchBuffers {
    limits: BatchLimits,
    tile_tokens: TileTokens,
    /// Pages that belong to nobody follow these, for the tokens that fill up a shape.
    pages: usize,
    words: Buffer<u32>,
    host: Vec<u32>,
    shape: Shape,
}

impl BatchBuffers {
    /// Memory for batches up to `limits`, over a KV cache of `pages` pages and [`padding_pages`] more.
    ///
    /// # Errors
    /// Out of memory, or a failing driver.
    pub fn new(
        device: &Device,
        limits: BatchLimits,
        tile_tokens: TileTokens,
        pages: usize,
    ) -> Result<Self, DeviceError> {
        let largest = Shape {
            tokens: limits.tokens.max(limits.sequences.next_power_of_two()),
            sequences: limits.sequences.next_power_of_two(),
            outputs: limits.sequences.next_power_of_two(),
            tiles: limits.tokens.max(limits.sequences.next_power_of_two()),
            prompts: limits.tokens,
            table_width: limits.context.div_ceil(CHUNK) * CHUNK_PAGES,
        };
        let words = device.alloc(Purpose::Inputs, largest.words())?;
        let host = Vec::with_capacity(largest.words());
        Ok(Self { limits, tile_tokens, pages, words, host, shape: largest })
    }

    /// The shape that a batch is launched with. One whose sequences all decode is rounded up to powers of two.
    ///
    /// # Panics
    /// If the batch is over the limits, or a sequence over the context.
    pub fn shape(&self, batch: &Batch) -> Shape {
        let (tokens, sequences) = (batch.tokens(), batch.sequences());
        assert!(tokens <= self.limits.tokens && sequences <= self.limits.sequences);
        let last = batch.last_position().map_or(0, |position| position as usize);
        assert!(last < self.limits.context, "position {last} is outside of the context");
        let chunks = (last + 1).div_ceil(CHUNK);
        let most = self.limits.context.div_ceil(CHUNK);
        let outputs = batch.outputs.len();
        if tokens == sequences && tokens == outputs {
            let count = tokens.next_power_of_two();
            let table_width = chunks.next_power_of_two().min(most) * CHUNK_PAGES;
            return Shape {
                tokens: count,
                sequences: count,
                outputs: count,
                tiles: count,
                prompts: 0,
                table_width,
            };
        }
        let [tiles, prompts] = [false, true].map(|prompt| self.tiles(batch, prompt).count());
        Shape { tokens, sequences, outputs, tiles, prompts, table_width: chunks * CHUNK_PAGES }
    }

    /// Neighbouring tokens of one sequence, cut into tiles: the first token and how many. Those of prompts, which are more than
    /// one of the other tiles has; or the others.
    fn tiles<'a>(&self, batch: &'a Batch, prompt: bool) -> impl Iterator<Item = [u32; 2]> + 'a {
        let few = self.tile_tokens.few;
        let most = if prompt { self.tile_tokens.prompt } else { few };
        let mut first = 0;
        batch.sequences.chunk_by(|a, b| a == b).flat_map(move |run| {
            let start = first;
            first += run.len();
            let len = if prompt == (run.len() > few) { run.len() } else { 0 };
            (0..len).step_by(most).map(move |i| [(start + i) as u32, most.min(len - i) as u32])
        })
    }

    /// Uploads a batch in a shape at least as large.
    ///
    /// # Errors
    /// A failing driver.
    pub fn load(&mut self, device: &Device, batch: &Batch, shape: Shape) -> Result<(), DeviceError> {
        let mut host = std::mem::take(&mut self.host);
        host.clear();
        let padding = |have: usize, want: usize| (have..want).map(|i| i as u32);
        let (tokens, sequences) = (batch.tokens(), batch.sequences());
        let trash = |i: u32| (self.pages * PAGE) as u32 + i;
        host.extend(batch.tokens.iter().copied().chain(padding(tokens, shape.tokens).map(|_| 0)));
        host.extend(batch.positions.iter().copied().chain(padding(tokens, shape.tokens).map(|_| 0)));
        host.extend(batch.sequences.iter().copied().chain(padding(tokens, shape.tokens)));
        host.extend(batch.slots.iter().copied().chain(padding(tokens, shape.tokens).map(trash)));
        host.extend(batch.outputs.iter().copied().chain(padding(batch.outputs.len(), shape.outputs)));
        let before = host.len();
        host.extend(self.tiles(batch, false).flatten());
        let tiles = (host.len() - before) / 2;
        host.extend(padding(tiles, shape.tiles).flat_map(|i| [i, 1]));
        host.extend(self.tiles(batch, true).flatten());
        for pages in batch.pages() {
            host.extend_from_slice(pages);
            host.resize(host.len() + shape.table_width - pages.len(), 0);
        }
        for i in padding(sequences, shape.sequences) {
            let page = trash(i) / PAGE as u32;
            host.resize(host.len() + shape.table_width, page);
        }
        debug_assert_eq!(host.len(), shape.words());
        self.shape = shape;
        let uploaded = device.upload(&mut self.words, 0, &host);
        self.host = host;
        uploaded
    }

    /// The shape of the batch that is loaded.
    pub fn loaded(&self) -> Shape {
        self.shape
    }

    /// `[tokens]`.
    pub fn ids(&self) -> In<u32> {
        self.view(0, self.shape.tokens)
    }

    /// `[tokens]`.
    pub fn positions(&self) -> In<u32> {
        self.view(self.shape.tokens, self.shape.tokens)
    }

    /// `[tokens]`.
    pub fn sequences(&self) -> In<u32> {
        self.view(2 * self.shape.tokens, self.shape.tokens)
    }

    /// `[tokens]`: where keys and values go.
    pub fn slots(&self) -> In<u32> {
        self.view(3 * self.shape.tokens, self.shape.tokens)
    }

    /// `[outputs]`: which tokens' logits are wanted.
    pub fn outputs(&self) -> In<u32> {
        self.view(4 * self.shape.tokens, self.shape.outputs)
    }

    /// `[tiles, 2]`: see [`kernels::flash`].
    pub fn attention_tiles(&self) -> In<u32> {
        self.view(4 * self.shape.tokens + self.shape.outputs, 2 * self.shape.tiles)
    }

    /// `[prompts, 2]`: see [`kernels::prompt`].
    pub fn prompt_tiles(&self) -> In<u32> {
        self.view(4 * self.shape.tokens + self.shape.outputs + 2 * self.shape.tiles, 2 * self.shape.prompts)
    }

    /// `[sequences, table_width]`.
    pub fn page_table(&self) -> In<u32> {
        let len = self.shape.sequences * self.shape.table_width;
        self.view(self.shape.words() - len, len)
    }

    fn view(&self, at: usize, len: usize) -> In<u32> {
        // SAFETY: `load` filled the words of its shape with values that the kernels' documentation allows: positions
        // below the context, slots and pages within the cache; they are overwritten after the step, on the same stream.
        unsafe { self.words.view(at, len) }
    }
}

/// Pages that the tokens take which fill up a shape.
pub fn padding_pages(limits: BatchLimits) -> usize {
    limits.sequences.next_power_of_two().div_ceil(PAGE)
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

    fn buffers(few: usize) -> BatchBuffers {
        let tile_tokens = TileTokens { few, prompt: 4 * few };
        let limits = BatchLimits { tokens: 64, sequences: 6, context: 1000 };
        BatchBuffers::new(&Device::cpu(1), limits, tile_tokens, 40).expect("memory")
    }

    #[test]
    fn a_decoding_batch_is_filled_up_to_powers_of_two() {
        let mut batch = Batch::default();
        for (i, position) in [3, 300, 64].into_iter().enumerate() {
            let pages: Vec<u32> = (i as u32 * 10..).take(position / PAGE + 1).collect();
            batch.push(Chunk { tokens: &[7], start: position, pages: &pages, wants_logits: true });
        }
        let device = Device::cpu(1);
        let mut buffers = buffers(5);
        let shape = buffers.shape(&batch);
        assert_eq!(
            shape,
            Shape { tokens: 4, sequences: 4, outputs: 4, tiles: 4, prompts: 0, table_width: 16 }
        );
        buffers.load(&device, &batch, shape).expect("upload");
        let words = device.download(&buffers.words, 0, shape.words()).expect("download");
        assert_eq!(words[..4], [7, 7, 7, 0]);
        assert_eq!(words[4..8], [3, 300, 64, 0]);
        assert_eq!(words[8..12], [0, 1, 2, 3]);
        let slots = [3, 19 * 32 + 300 % 32, 22 * 32, 40 * 32 + 3];
        assert_eq!(words[12..16], slots);
        assert_eq!(words[16..20], [0, 1, 2, 3]);
        assert_eq!(words[20..28], [0, 1, 1, 1, 2, 1, 3, 1]);
        assert_eq!(words[28 + 16..28 + 26], [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
        assert_eq!(words[28 + 48..], [41; 16].map(|page| page - 1), "a page that belongs to nobody");
    }

    #[test]
    fn tiles_end_with_their_sequence() {
        let mut batch = Batch::default();
        batch.push(Chunk { tokens: &[1; 7], start: 0, pages: &[0], wants_logits: true });
        batch.push(Chunk { tokens: &[1; 2], start: 9, pages: &[1], wants_logits: false });
        batch.push(Chunk { tokens: &[1; 24], start: 0, pages: &[2], wants_logits: false });
        let mut buffers = buffers(5);
        let tiles = |prompt| buffers.tiles(&batch, prompt).collect::<Vec<_>>();
        assert_eq!(tiles(true), [[0, 7], [9, 20], [29, 4]]);
        assert_eq!(tiles(false), [[7, 2]]);
        let shape = buffers.shape(&batch);
        assert_eq!((shape.tiles, shape.prompts), (1, 3));
        let device = Device::cpu(1);
        buffers.load(&device, &batch, shape).expect("upload");
        let words = device.download(&buffers.words, 0, shape.words()).expect("download");
        let at = 4 * shape.tokens + shape.outputs;
        assert_eq!(words[at..at + 8], [7, 2, 0, 7, 9, 20, 29, 4]);
    }

    #[test]
    #[should_panic(expected = "pages for them")]
    fn a_chunk_without_pages_is_refused() {
        Batch::default().push(Chunk { tokens: &[1], start: 32, pages: &[0], wants_logits: true });
    }
}
