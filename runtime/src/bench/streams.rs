//! A model with streams of random tokens: all that the bench asks of it, as the engine asks it.

use kernels::sample::NO_TOKEN;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use super::BenchError;
use crate::batch::{Batch, BatchLimits, Chunk};
use crate::device::Device;
use crate::engine::sampler::{Row, Sampler};
use crate::gguf::Gguf;
use crate::kv_cache::{PagePool, Pages, pages_for};
use crate::model::{Model, Plan};
use crate::numerics::Numerics;

/// The room that streams need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Tokens of a prompt computed at once.
    pub(super) step: usize,
    /// Streams.
    pub(super) streams: usize,
    /// Tokens of the first stream, which runs the prompts.
    pub(super) first: usize,
    /// Tokens of each other.
    pub(super) others: usize,
}

impl Room {
    /// Pages of keys and values.
    pub(super) fn pages(&self) -> usize {
        pages_for(self.first).saturating_add((self.streams - 1).saturating_mul(pages_for(self.others)))
    }
}

/// Streams in one model.
pub(super) struct Streams<'a> {
    device: &'a Device,
    model: Model,
    sampler: Sampler,
    pages: Vec<Pages>,
    step: usize,
    random: Pcg64,
}

impl<'a> Streams<'a> {
    pub(super) fn load(
        device: &'a Device,
        gguf: &Gguf,
        room: Room,
        numerics: Numerics,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, BenchError> {
        let limits = BatchLimits {
            tokens: room.step.min(room.first).max(room.streams),
            sequences: room.streams,
            context: room.first.max(room.others),
        };
        let plan = Plan { numerics, limits, pages: room.pages() };
        let model = Model::load(device, gguf, plan, progress)?;
        device.release_staging()?;
        let sampler = Sampler::new(device, &model)?;
        let mut pool = PagePool::new(room.pages());
        let lengths = std::iter::once(room.first).chain(std::iter::repeat_n(room.others, room.streams - 1));
        let pages =
            lengths.map(|length| pool.take(pages_for(length)).expect("the room was counted")).collect();
        device.synchronize()?;
        Ok(Self { device, model, sampler, pages, step: room.step, random: Pcg64::seed_from_u64(0) })
    }

    /// `count` random ids.
    pub(super) fn ids(&mut self, count: usize) -> Vec<u32> {
        let vocab = self.model.config().vocab as u64;
        (0..count).map(|_| (self.random.next_u64() % vocab) as u32).collect()
    }

    /// Computes a prompt of a stream from position `start` on, and waits for it. The logits after its last token are
    /// computed too.
    pub(super) fn prompt(&mut self, stream: usize, start: usize, ids: &[u32]) -> Result<(), BenchError> {
        let mut at = 0;
        while at < ids.len() {
            let end = ids.len().min(at.saturating_add(self.step));
            let mut batch = Batch::default();
            batch.push(Chunk {
                tokens: &ids[at..end],
                start: start + at,
                pages: self.pages[stream].ids(),
                wants_logits: end == ids.len(),
            });
            self.model.forward(self.device, &batch, None)?;
            at = end;
        }
        Ok(self.device.synchronize()?)
    }

    /// Generates `count` tokens in each of `ids.len()` streams, whose tokens at position `start` are `ids`: a step
    /// computes one token of every stream, and the tokens chosen from its logits are the next step's.
    pub(super) fn generate(
        &mut self,
        start: usize,
        mut ids: Vec<u32>,
        count: usize,
    ) -> Result<(), BenchError> {
        for position in start..start + count {
            let mut batch = Batch::default();
            for (id, pages) in ids.iter().zip(&self.pages) {
                batch.push(Chunk {
                    tokens: std::slice::from_ref(id),
                    start: position,
                    pages: pages.ids(),
                    wants_logits: true,
                });
            }
            self.model.forward(self.device, &batch, None)?;
            let rows: Vec<Row<'_>> = ids.iter().map(|_| Row::GREEDY).collect();
            let chosen = self.sampler.sample(self.device, &self.model, &rows)?;
            ids = chosen.into_iter().map(|chosen| chosen.id).collect();
            if ids.contains(&NO_TOKEN) {
                return Err(BenchError::Logits);
            }
        }
        Ok(())
    }
}
