//! The bytes of a folder's tensors as a GGUF file would have them, made piece by piece as they are asked for.

use std::collections::HashMap;

use super::encode::{self, Float};
use super::grid::{Arrangement, Fault, Grid};
use super::mxfp4;
use super::shards::Shards;
use crate::gguf::{GgufError, Problem, Source, Tensor, TensorType};

/// Values that are read and encoded at once: few enough for a core's cache.
const STEP: usize = 64 << 10;
/// Bytes of the largest block that is made.
const MAX_BLOCK: usize = 34;

/// Where every tensor's values come from.
#[derive(Debug)]
pub(super) struct Content {
    shards: Shards,
    /// By GGUF's names.
    tensors: HashMap<String, Origin>,
}

/// Where a tensor's values come from.
#[derive(Debug)]
pub(super) enum Origin {
    /// They are in a file.
    Floats(Float, Grid),
    /// They are in two: blocks of MXFP4, and the scale of each.
    Mxfp4 {
        /// Elements of [`mxfp4::CODES`] bytes.
        codes: Grid,
        /// Elements of one byte.
        scales: Grid,
    },
    /// They follow from the settings.
    Computed(Vec<f32>),
}

impl Content {
    pub(super) fn new(shards: Shards, tensors: HashMap<String, Origin>) -> Self {
        Self { shards, tensors }
    }

    /// The bytes of a tensor of type `ty` from its byte `start` on.
    fn make(&self, origin: &Origin, ty: TensorType, start: usize, into: &mut [u8]) -> Result<(), Fault> {
        let (values, bytes) = (ty.block_values(), ty.block_bytes());
        let most = match origin {
            // Of which a little of every row is read: the more at once, the better.
            Origin::Floats(_, Grid { arrangement: Arrangement::Transposed { .. }, .. }) => usize::MAX,
            _ => STEP / values,
        };
        let (mut at, mut raw) = (0, Vec::new());
        while at < into.len() {
            let (block, skipped) = ((start + at) / bytes, (start + at) % bytes);
            let rest = &mut into[at..];
            let whole = (rest.len() / bytes).min(most);
            if skipped > 0 || whole == 0 {
                // A part of a block, at either end.
                let mut made = [0; MAX_BLOCK];
                self.encode(origin, block, ty, &mut made[..bytes], &mut raw)?;
                let part = (bytes - skipped).min(rest.len());
                rest[..part].copy_from_slice(&made[skipped..skipped + part]);
                at += part;
            } else {
                self.encode(origin, block, ty, &mut rest[..whole * bytes], &mut raw)?;
                at += whole * bytes;
            }
        }
        Ok(())
    }

    /// Whole blocks, from the `first` on.
    fn encode(
        &self,
        origin: &Origin,
        first: usize,
        ty: TensorType,
        into: &mut [u8],
        raw: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let blocks = into.len() / ty.block_bytes();
        match origin {
            Origin::Floats(float, grid) => {
                let (first, count) = (first * ty.block_values(), blocks * ty.block_values());
                if ty == float.tensor_type() {
                    return grid.gather(&self.shards, first, count, into);
                }
                raw.resize(count * float.bytes(), 0);
                grid.gather(&self.shards, first, count, raw)?;
                encode::encode(*float, raw, ty, into).map_err(|problem| grid.fault(problem))
            }
            Origin::Mxfp4 { codes, scales } => {
                raw.resize(blocks * (mxfp4::CODES + 1), 0);
                let (of_codes, of_scales) = raw.split_at_mut(blocks * mxfp4::CODES);
                codes.gather(&self.shards, first, blocks, of_codes)?;
                scales.gather(&self.shards, first, blocks, of_scales)?;
                mxfp4::blocks(of_codes, of_scales, into);
                Ok(())
            }
            Origin::Computed(values) => {
                let values = values[first..].iter().flat_map(|value| value.to_le_bytes());
                into.iter_mut().zip(values).for_each(|(into, byte)| *into = byte);
                Ok(())
            }
        }
    }
}

impl Source for Content {
    fn read_into(&self, tensor: &Tensor, start: usize, into: &mut [u8]) -> Result<(), GgufError> {
        let origin = &self.tensors[&tensor.name];
        self.make(origin, tensor.ty, start, into).map_err(|Fault { shard, tensor, problem }| GgufError {
            path: self.shards.path(shard).to_owned(),
            problem: Problem::Content { tensor, fault: problem },
        })
    }
}
