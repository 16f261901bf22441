//! A model that reads its own past back from the pages, as a real one does: what it says depends on every slot of the sequence,
//! so a page that is wrong, stale or lost makes it say something else, or panic.

use std::collections::HashMap;

use crate::batch::Batch;
use crate::device::DeviceError;
use crate::engine::compute::Compute;
use crate::engine::sampler::Row;
use crate::model::ModelError;
use crate::request::Chosen;
use kernels::kv::PAGE;

/// Token ids are below.
pub(super) const VOCAB: u64 = 320;

/// What stands in a slot: the position it was written for, and a value of the token, the position and all that came before in
/// its sequence, as keys and values of a deeper layer are.
type Slot = Option<(u32, u64)>;

pub(super) struct Fake {
    store: Vec<Slot>,
    /// Steps that were computed.
    pub(super) steps: u64,
    /// The next step fails, after it has written everywhere it was to write.
    pub(super) fails: bool,
    /// After the next failure nothing works.
    pub(super) is_dead: bool,
    /// Of the last step: how many tokens, and how many sequences had just one.
    pub(super) last: (usize, usize),
}

impl Fake {
    pub(super) fn new(pages: usize) -> Self {
        Self { store: vec![None; pages * PAGE], steps: 0, fails: false, is_dead: false, last: (0, 0) }
    }

    fn read(&self, pages: &[u32], position: u32) -> u64 {
        let slot = pages[position as usize / PAGE] as usize * PAGE + position as usize % PAGE;
        match self.store[slot] {
            Some((written, value)) if written == position => value,
            other => panic!("position {position} is read from a slot that has {other:?}"),
        }
    }
}

/// Mixes well and is the same everywhere.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let mut x = (a ^ b.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(b);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Compute for Fake {
    fn step(
        &mut self,
        batch: &Batch,
        rows: &[Row<'_>],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Vec<Chosen>, ModelError> {
        if !self.fails {
            meanwhile();
        }
        assert_eq!(batch.outputs(), rows.len());
        self.steps += 1;
        let pages: Vec<&[u32]> = batch.pages().collect();
        let mut counts = vec![0_usize; pages.len()];
        let mut writers: HashMap<usize, usize> = HashMap::new();
        let mut ends = Vec::new();
        for (token, position, sequence, slot) in batch.each_token() {
            counts[sequence] += 1;
            assert_eq!(writers.insert(slot, sequence), None, "two tokens in one slot");
            let before = if position == 0 { 0 } else { self.read(pages[sequence], position - 1) };
            let value = mix(before, u64::from(token) << 32 | u64::from(position));
            self.store[slot] = Some((position, value));
            ends.push((sequence, position));
        }
        // Nobody reads what another writes in the same step: on a device there is no order between the two.
        for (sequence, pages) in pages.iter().enumerate() {
            for (i, &page) in pages.iter().enumerate() {
                for slot in page as usize * PAGE..(page as usize + 1) * PAGE {
                    assert!(writers.get(&slot).is_none_or(|&of| of == sequence), "page {i} is another's");
                }
            }
        }
        self.last = (batch.tokens(), counts.iter().filter(|&&count| count == 1).count());
        if std::mem::take(&mut self.fails) {
            for slot in writers.into_keys() {
                self.store[slot] = Some((0, 0xdead));
            }
            return Err(failure());
        }
        let tokens = batch.wanted().iter().zip(rows).map(|(&at, row)| {
            let (sequence, last) = ends[at as usize];
            // All of the past, each slot where the page table says.
            let all = (0..=last).fold(0, |all, position| mix(all, self.read(pages[sequence], position)));
            let chosen = if row.choice.temperature == 0.0 { all } else { mix(all, row.choice.random) };
            let entries = row.adjustments.map_or(&[][..], |adjustments| adjustments.entries());
            let adjusted = entries
                .iter()
                .fold(0, |all, entry| mix(all, u64::from(entry.id) << 32 | u64::from(entry.count)));
            Chosen { id: (mix(chosen, adjusted) % VOCAB) as u32, logprob: None, top: Vec::new() }
        });
        Ok(tokens.collect())
    }

    fn probe(&mut self) -> Result<(), ModelError> {
        if self.is_dead { Err(failure()) } else { Ok(()) }
    }
}

fn failure() -> ModelError {
    let code = cust::sys::CUresult::CUDA_ERROR_LAUNCH_FAILED;
    ModelError::Device(DeviceError::Driver { call: "cuLaunchKernel".to_owned(), code })
}
