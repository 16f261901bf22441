//! Who uses how much memory, and what for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Counts a device's allocations.
#[derive(Default)]
pub(crate) struct Ledger {
    bytes: Arc<[AtomicU64; Purpose::ALL.len()]>,
    /// Allocations ever made.
    made: AtomicU64,
}

/// An allocation's line in the ledger; struck out when dropped.
pub(crate) struct Entry {
    ledger: Arc<[AtomicU64; Purpose::ALL.len()]>,
    purpose: Purpose,
    bytes: u64,
}

impl Ledger {
    pub(crate) fn entry(&self, purpose: Purpose, bytes: u64) -> Entry {
        self.bytes[purpose as usize].fetch_add(bytes, Ordering::Relaxed);
        self.made.fetch_add(1, Ordering::Relaxed);
        Entry { ledger: self.bytes.clone(), purpose, bytes }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage(std::array::from_fn(|i| self.bytes[i].load(Ordering::Relaxed)))
    }

    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }
}

impl Entry {
    pub(crate) fn purpose(&self) -> Purpose {
        self.purpose
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger[self.purpose as usize].fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
