//! The bytes of a folder's tensors as a GGUF file would have them, made piece by piece as they are asked for.

use std::collections::HashMap;
use std::io;

use super::encode::{Float, encode};
use super::names::Arrangement;
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
    Stored(Stored),
    /// They follow from the settings.
    Computed(Vec<f32>),
}

/// Values in a file.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its name in the folder.
    pub(super) name: String,
    /// The file.
    pub(super) shard: usize,
    /// Where they begin.
    pub(super) start: u64,
    /// How they are stored.
    pub(super) float: Float,
    /// Rows as GGUF has them; the values of a vector.
    pub(super) rows: usize,
    /// Values of such a row; 1 of a vector.
    pub(super) columns: usize,
    /// Where values are to go.
    pub(super) arrangement: Arrangement,
}

impl Content {
    pub(super) fn new(shards: Shards, tensors: HashMap<String, Origin>) -> Self {
        Self { shards, tensors }
    }

    /// The bytes of a tensor of type `ty` from its byte `start` on.
    fn make(&self, stored: &Stored, ty: TensorType, start: usize, into: &mut [u8]) -> Result<(), String> {
        let (values, bytes) = (ty.block_values(), ty.block_bytes());
        let most = match stored.arrangement {
            // Of which a little of every row is read: the more at once, the better.
            Arrangement::Transposed => usize::MAX,
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
                self.encode(stored, block * values, ty, &mut made[..bytes], &mut raw)?;
                let part = (bytes - skipped).min(rest.len());
                rest[..part].copy_from_slice(&made[skipped..skipped + part]);
                at += part;
            } else {
                self.encode(stored, block * values, ty, &mut rest[..whole * bytes], &mut raw)?;
                at += whole * bytes;
            }
        }
        Ok(())
    }

    /// Whole blocks, from value `first` on.
    fn encode(
        &self,
        stored: &Stored,
        first: usize,
        ty: TensorType,
        into: &mut [u8],
        raw: &mut Vec<u8>,
    ) -> Result<(), String> {
        let count = into.len() / ty.block_bytes() * ty.block_values();
        if ty == stored.float.tensor_type() {
            return self.gather(stored, first, count, into).map_err(|error| unreadable(&error));
        }
        raw.resize(count * stored.float.bytes(), 0);
        self.gather(stored, first, count, raw).map_err(|error| unreadable(&error))?;
        encode(stored.float, raw, ty, into)
    }

    /// Reads `count` values from the `first` on, in GGUF's order.
    fn gather(&self, stored: &Stored, first: usize, count: usize, into: &mut [u8]) -> io::Result<()> {
        let Stored { shard, rows, columns, .. } = *stored;
        let size = stored.float.bytes();
        let read = |value: usize, into: &mut [u8]| {
            self.shards.read(shard, stored.start + (value * size) as u64, into)
        };
        match stored.arrangement {
            Arrangement::Same => read(first, into),
            Arrangement::Interleaved { heads } => {
                let mut at = 0;
                while at < count {
                    let (row, column) = ((first + at) / columns, (first + at) % columns);
                    let len = (columns - column).min(count - at);
                    let from = from_halves(row, rows / heads);
                    read(from * columns + column, &mut into[at * size..(at + len) * size])?;
                    at += len;
                }
                Ok(())
            }
            Arrangement::Transposed => {
                let (top, bottom) = (first / columns, (first + count).div_ceil(columns));
                let mut strip = vec![0; (bottom - top) * size];
                for column in 0..columns {
                    read(column * rows + top, &mut strip)?;
                    for (row, value) in (top..).zip(strip.chunks_exact(size)) {
                        let at = (row * columns + column).wrapping_sub(first);
                        if at < count {
                            into[at * size..(at + 1) * size].copy_from_slice(value);
                        }
                    }
                }
                Ok(())
            }
        }
    }
}

impl Source for Content {
    fn read_into(&self, tensor: &Tensor, start: usize, into: &mut [u8]) -> Result<(), GgufError> {
        let stored = match &self.tensors[&tensor.name] {
            Origin::Stored(stored) => stored,
            Origin::Computed(values) => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).skip(start);
                into.iter_mut().zip(bytes).for_each(|(into, byte)| *into = byte);
                return Ok(());
            }
        };
        self.make(stored, tensor.ty, start, into).map_err(|fault| GgufError {
            path: self.shards.path(stored.shard).to_owned(),
            problem: Problem::Content { tensor: stored.name.clone(), fault },
        })
    }
}

/// The row of a head in halves that is row `row` of one with its pairs side by side, in heads of so many rows.
fn from_halves(row: usize, head: usize) -> usize {
    let (first, i) = (row - row % head, row % head);
    first + i / 2 + (i % 2) * (head / 2)
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the file has become shorter".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}
