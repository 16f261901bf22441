//! The bytes of a folder's tensors as a GGUF file would have them, made piece by piece as they are asked for.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::encode::{Float, encode};
use super::names::Arrangement;
use super::shards::Shards;
use crate::device::pool::Pool;
use crate::gguf::{GgufError, Problem, Source, Tensor};

/// Threads that read and encode, at most.
const THREADS: usize = 16;
/// Bytes that a thread makes before it asks for more, about.
const SHARE: usize = 256 << 10;

/// Where every tensor's values come from.
pub(super) struct Content {
    shards: Shards,
    /// By GGUF's names.
    tensors: HashMap<String, Origin>,
    pool: OnceLock<Pool>,
}

/// Where a tensor's values come from.
pub(super) enum Origin {
    /// They are in a file.
    Stored(Stored),
    /// They follow from the settings.
    Computed(Vec<f32>),
}

/// Values in a file.
pub(super) struct Stored {
    /// Its name in the folder.
    pub(super) name: String,
    /// The file.
    pub(super) shard: usize,
    /// Where they begin.
    pub(super) start: u64,
    /// How they are stored.
    pub(super) float: Float,
    /// Of the tensor as GGUF has it; 1 column for a vector.
    pub(super) rows: usize,
    /// Values of a row.
    pub(super) columns: usize,
    /// Where they are to go.
    pub(super) arrangement: Arrangement,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("shards", &self.shards).finish_non_exhaustive()
    }
}

impl Content {
    pub(super) fn new(shards: Shards, tensors: HashMap<String, Origin>) -> Self {
        Self { shards, tensors, pool: OnceLock::new() }
    }

    /// The files.
    pub(super) fn shards(&self) -> &Shards {
        &self.shards
    }

    fn pool(&self) -> &Pool {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.pool.get_or_init(|| Pool::new(cores().min(THREADS)))
    }

    /// Makes a piece of a stored tensor on all threads.
    fn make(&self, stored: &Stored, tensor: &Tensor, start: usize, into: &mut [u8]) -> Result<(), String> {
        let (values, bytes) = (tensor.ty.block_values(), tensor.ty.block_bytes());
        assert!(start.is_multiple_of(bytes) && into.len().is_multiple_of(bytes), "whole blocks");
        let share = match stored.arrangement {
            // Of which a little of every row is read: the more at once, the better.
            Arrangement::Transposed => into.len().div_ceil(self.pool().threads()),
            _ => SHARE,
        };
        let share = share.next_multiple_of(bytes);
        let shares: Vec<_> = into.chunks_mut(share).map(|share| Mutex::new(Some(share))).collect();
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        self.pool().run(&|| {
            let mut raw = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(into) = shares.get(i).and_then(|share| lock(share).take()) else { return };
                let first = (start + i * share) / bytes * values;
                let done = self.gather(stored, first, into.len() / bytes * values, &mut raw);
                let done = done.map_err(|error| unreadable(&error));
                if let Err(fault) = done.and_then(|()| encode(stored.float, &raw, tensor.ty, into)) {
                    lock(&failed).get_or_insert(fault);
                    next.store(shares.len(), Ordering::Relaxed);
                }
            }
        });
        match lock(&failed).take() {
            None => Ok(()),
            Some(fault) => Err(fault),
        }
    }

    /// Reads `count` values from the `first` on, in GGUF's order.
    fn gather(&self, stored: &Stored, first: usize, count: usize, raw: &mut Vec<u8>) -> io::Result<()> {
        let Stored { shard, rows, columns, .. } = *stored;
        let size = stored.float.bytes();
        let read = |value: usize, into: &mut [u8]| {
            self.shards.read(shard, stored.start + (value * size) as u64, into)
        };
        raw.clear();
        raw.resize(count * size, 0);
        match stored.arrangement {
            Arrangement::Same => read(first, raw),
            Arrangement::Interleaved { heads } => {
                let mut at = 0;
                while at < count {
                    let (row, column) = ((first + at) / columns, (first + at) % columns);
                    let len = (columns - column).min(count - at);
                    let from = from_halves(row, rows / heads);
                    read(from * columns + column, &mut raw[at * size..(at + len) * size])?;
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
                            raw[at * size..(at + 1) * size].copy_from_slice(value);
                        }
                    }
                }
                Ok(())
            }
        }
    }
}

impl Source for Content {
    fn read(&self, tensor: &Tensor, start: usize, into: &mut [u8]) -> Result<(), GgufError> {
        let stored = match &self.tensors[&tensor.name] {
            Origin::Stored(stored) => stored,
            Origin::Computed(values) => {
                for (bytes, value) in into.as_chunks_mut().0.iter_mut().zip(&values[start / 4..]) {
                    *bytes = value.to_le_bytes();
                }
                return Ok(());
            }
        };
        self.make(stored, tensor, start, into).map_err(|fault| GgufError {
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
