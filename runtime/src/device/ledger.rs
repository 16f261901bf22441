//! Who uses how much memory, and what for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// What an allocation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The model's tensors.
    Weights,
    /// Keys and values of the sequences.
    KvCache,
    /// What a step computes on its way.
    Activations,
    /// Tables, ids and counters.
    Inputs,
}

impl Purpose {
    /// All purposes.
    pub const ALL: [Purpose; 4] = [Purpose::Weights, Purpose::KvCache, Purpose::Activations, Purpose::Inputs];

    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Weights => "weights",
            Purpose::KvCache => "kv_cache",
            Purpose::Activations => "activations",
            Purpose::Inputs => "inputs",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes in use by purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage([u64; Purpose::ALL.len()]);

impl Usage {
    /// Nothing in use.
    pub const NONE: Usage = Usage([0; Purpose::ALL.len()]);

    /// Bytes in use for `purpose`.
    pub fn of(&self, purpose: Purpose) -> u64 {
        self.0[purpose as usize]
    }

    /// Bytes in use.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, purpose) in Purpose::ALL.into_iter().enumerate() {
            write!(f, "{}{purpose} {}", if i == 0 { "" } else { ", " }, self.of(purpose))?;
        }
        Ok(())
    }
}

/// Counts a device's allocations, and knows where each is. Clones are the same ledger.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Shared>);

#[derive(Default)]
struct Shared {
    bytes: [AtomicU64; Purpose::ALL.len()],
    /// Allocations ever made.
    made: AtomicU64,
    /// By address.
    lines: Mutex<BTreeMap<u64, Line>>,
}

/// An allocation: what for, and how many bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) purpose: Purpose,
    pub(crate) bytes: u64,
}

/// An allocation's line in the ledger; struck out when dropped, which must come before the memory is freed.
pub(crate) struct Entry {
    ledger: Ledger,
    address: u64,
    line: Line,
}

impl Ledger {
    pub(crate) fn entry(&self, purpose: Purpose, address: u64, bytes: u64) -> Entry {
        let line = Line { purpose, bytes };
        self.lines().insert(address, line);
        self.0.bytes[purpose as usize].fetch_add(bytes, Ordering::Relaxed);
        self.0.made.fetch_add(1, Ordering::Relaxed);
        Entry { ledger: self.clone(), address, line }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage(std::array::from_fn(|i| self.0.bytes[i].load(Ordering::Relaxed)))
    }

    pub(crate) fn made(&self) -> u64 {
        self.0.made.load(Ordering::Relaxed)
    }

    /// Every allocation by its address. While this is held, nothing is freed.
    pub(crate) fn lines(&self) -> MutexGuard<'_, BTreeMap<u64, Line>> {
        self.0.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Entry {
    pub(crate) fn purpose(&self) -> Purpose {
        self.line.purpose
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.lines().remove(&self.address);
        self.ledger.0.bytes[self.line.purpose as usize].fetch_sub(self.line.bytes, Ordering::Relaxed);
    }
}
