//! A model with room for batches of sequences, and the bits of its logits.

use std::fmt::Display;

use libtest_mimic::Failed;
use runtime::batch::{Batch, BatchLimits, Chunk};
use runtime::device::Device;
use runtime::gguf::Gguf;
use runtime::kv_cache::pages_for;
use runtime::model::{Model, Plan};
use worker_orcd::cache;
use worker_orcd::images::IMAGES;

use crate::case::{CONTEXT, Case, text};

/// The bits of one position's logits, `[vocab]`.
pub(crate) type Logits = Vec<u32>;

/// What a proof needs at most.
pub(crate) struct Room {
    /// Tokens in a batch.
    pub(crate) tokens: usize,
    /// Sequences in a batch.
    pub(crate) sequences: usize,
    /// Pages of keys and values.
    pub(crate) pages: usize,
}

/// A loaded model.
pub(crate) struct Loaded {
    device: Device,
    model: Model,
    pages: usize,
    free: Vec<u32>,
}

/// Tokens, and the pages that they lie in.
#[derive(Clone)]
pub(crate) struct Sequence {
    pub(crate) ids: Vec<u32>,
    pub(crate) pages: Vec<u32>,
}

/// Tokens of a sequence to compute: from the first number on, up to the second.
pub(crate) type Piece<'a> = (&'a Sequence, usize, usize);

impl Sequence {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// All tokens at once.
    pub(crate) fn whole(&self) -> Piece<'_> {
        (self, 0, self.len())
    }

    /// The last token, the others having been computed: as decoding does.
    pub(crate) fn last(&self) -> Piece<'_> {
        (self, self.len() - 1, self.len())
    }
}

impl Loaded {
    pub(crate) fn open(case: &Case, room: Room) -> Result<Self, Failed> {
        Self::open_for(case, room, CONTEXT)
    }

    /// With room for sequences of so many positions, if the model has as many.
    pub(crate) fn open_for(case: &Case, room: Room, context: usize) -> Result<Self, Failed> {
        Self::of(case, &case.subject.gguf()?, room, context)
    }

    /// Another model than the case's, where and how the case says.
    pub(crate) fn of(case: &Case, gguf: &Gguf, room: Room, context: usize) -> Result<Self, Failed> {
        let Room { tokens, sequences, pages } = room;
        let (device, _) = case.device.open(IMAGES, cache::images())?;
        let limits = BatchLimits { tokens, sequences, context };
        let plan = Plan { numerics: case.numerics, limits, pages };
        let model = Model::load(&device, gguf, plan, &mut |_, _| ())?;
        assert_eq!(model.numerics(), case.numerics);
        let mut loaded = Self { device, model, pages, free: Vec::new() };
        loaded.clear();
        Ok(loaded)
    }

    pub(crate) fn vocab(&self) -> usize {
        self.model.config().vocab
    }

    /// Positions of a sequence.
    pub(crate) fn context(&self) -> usize {
        self.model.limits().context
    }

    /// All pages belong to nobody again; what is in them stays.
    pub(crate) fn clear(&mut self) {
        // Neighbours in a sequence are none in memory. The first sequence begins with page 0, so that nobody writes there
        // unseen.
        let pages = self.pages as u32;
        self.free = (1..pages).step_by(2).chain((0..pages).step_by(2).rev()).collect();
    }

    /// A sequence with pages for its tokens and as many `more`.
    pub(crate) fn sequence(&mut self, ids: Vec<u32>, more: usize) -> Sequence {
        let pages = pages_for(ids.len() + more);
        assert!(pages <= self.free.len(), "{pages} pages of {} left", self.free.len());
        let mut pages = self.free.split_off(self.free.len() - pages);
        pages.reverse();
        Sequence { ids, pages }
    }

    /// A sequence of made-up tokens.
    pub(crate) fn text(&mut self, seed: u64, len: usize) -> Sequence {
        let ids = text(seed, len, self.vocab());
        self.sequence(ids, 0)
    }

    /// Computes pieces together; the logits after each sequence whose end was reached.
    pub(crate) fn forward(&mut self, pieces: &[Piece<'_>]) -> Result<Vec<Logits>, Failed> {
        let mut batch = Batch::default();
        for &(sequence, start, end) in pieces {
            let (tokens, wants_logits) = (&sequence.ids[start..end], end == sequence.len());
            batch.push(Chunk { tokens, start, pages: &sequence.pages, wants_logits });
        }
        self.model.forward(&self.device, &batch, None)?;
        let vocab = self.vocab();
        let logits = self.device.download(self.model.logits(), 0, batch.outputs() * vocab)?;
        Ok(logits.chunks(vocab).map(|row| row.iter().map(|logit| logit.to_bits()).collect()).collect())
    }

    /// The logits after a piece that reaches its sequence's end, by itself.
    pub(crate) fn alone(&mut self, piece: Piece<'_>) -> Result<Logits, Failed> {
        Ok(self.forward(&[piece])?.swap_remove(0))
    }

    /// The logits after a sequence that is computed `size` tokens at a time.
    pub(crate) fn in_pieces(&mut self, sequence: &Sequence, size: usize) -> Result<Logits, Failed> {
        let mut last = Vec::new();
        for start in (0..sequence.len()).step_by(size) {
            last = self.forward(&[(sequence, start, sequence.len().min(start + size))])?;
        }
        Ok(last.swap_remove(0))
    }
}

/// The token of the greatest logit.
pub(crate) fn greedy(logits: &Logits) -> u32 {
    let value = |i: &usize| f32::from_bits(logits[*i]);
    (0..logits.len()).max_by(|a, b| value(a).total_cmp(&value(b))).unwrap_or(0) as u32
}

/// Asserts that the bits are equal, and says how far from that they are.
#[track_caller]
pub(crate) fn same(got: &Logits, want: &Logits, what: impl Display) {
    let pairs = || got.iter().zip(want).filter(|(a, b)| a != b);
    let difference = |(&a, &b): (&u32, &u32)| (f32::from_bits(a) - f32::from_bits(b)).abs();
    let greatest = pairs().map(difference).fold(0.0, f32::max);
    assert!(
        got == want && !got.is_empty() && got.iter().all(|&bits| f32::from_bits(bits).is_finite()),
        "{what}: {} of {} logits differ, by {greatest:e} at most",
        pairs().count(),
        want.len()
    );
}

/// Asserts that something has an effect: without it equal bits could mean that nothing is computed.
#[track_caller]
pub(crate) fn differ(got: &Logits, want: &Logits, what: impl Display) {
    assert!(got.len() == want.len() && got != want, "{what} changes no bit");
}
