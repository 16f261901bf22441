//! Memory on a device, with its only owner.

use std::marker::PhantomData;

use cuda_std::{In, Out, Value};

use super::cpu::HostMemory;
use super::cuda::CudaMemory;
use super::ledger::{Entry, Purpose};

/// `len` values on a device; freed when dropped.
pub struct Buffer<V> {
    // Before the storage: fields are dropped in this order, and what is freed must not be in the ledger any more.
    entry: Entry,
    storage: Storage,
    len: usize,
    values: PhantomData<V>,
}

pub(crate) enum Storage {
    Host(HostMemory),
    Cuda(CudaMemory),
    /// No memory: the address that a planned device gave out.
    Planned(usize),
}

impl Storage {
    pub(crate) fn address(&self) -> usize {
        match self {
            Storage::Host(memory) => memory.address(),
            Storage::Cuda(memory) => memory.address(),
            Storage::Planned(address) => *address,
        }
    }
}

impl<V: Value> Buffer<V> {
    pub(crate) fn new(storage: Storage, len: usize, entry: Entry) -> Self {
        Self { entry, storage, len, values: PhantomData }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the memory is for.
    pub fn purpose(&self) -> Purpose {
        self.entry.purpose()
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) fn storage_mut(&mut self) -> &mut Storage {
        &mut self.storage
    }

    /// Where it begins, a multiple of 256: an address of its device, not of the host.
    pub fn address(&self) -> usize {
        self.storage.address()
    }

    /// A kernel's view of `len` values from `at` on, to read.
    ///
    /// # Panics
    /// If the range is outside of the buffer.
    ///
    /// # Safety
    /// See [`In::new`].
    pub unsafe fn view(&self, at: usize, len: usize) -> In<V> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "view past the buffer's end");
        // SAFETY: inside of this buffer; the rest is the caller's promise.
        unsafe { In::new((self.address() as *const V).wrapping_add(at), len) }
    }

    /// A kernel's view of the bytes of `len` values from `at` on, to read.
    ///
    /// # Panics
    /// If the range is outside of the buffer.
    ///
    /// # Safety
    /// See [`In::new`].
    pub unsafe fn view_bytes(&self, at: usize, len: usize) -> In<u8> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "view past the buffer's end");
        // SAFETY: inside of this buffer; the rest is the caller's promise.
        unsafe { In::new((self.address() as *const V).wrapping_add(at).cast(), len * size_of::<V>()) }
    }

    /// A kernel's view of the whole buffer as values of another type, to read.
    ///
    /// # Panics
    /// If it is no whole number of them.
    ///
    /// # Safety
    /// See [`In::new`].
    pub unsafe fn view_as<W: Value>(&self) -> In<W> {
        let bytes = self.len * size_of::<V>();
        assert!(bytes.is_multiple_of(size_of::<W>()), "no whole number of values");
        // SAFETY: inside of this buffer, whose alignment suits every value; the rest is the caller's promise.
        unsafe { In::new(self.address() as *const W, bytes / size_of::<W>()) }
    }

    /// A kernel's view of the bytes of `len` values from `at` on, to write; shared as by [`view_mut`](Self::view_mut).
    ///
    /// # Panics
    /// If the range is outside of the buffer.
    ///
    /// # Safety
    /// See [`Out::new`].
    pub unsafe fn view_bytes_mut(&self, at: usize, len: usize) -> Out<u8> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "view past the buffer's end");
        // SAFETY: inside of this buffer; the rest is the caller's promise.
        unsafe { Out::new((self.address() as *mut V).wrapping_add(at).cast(), len * size_of::<V>()) }
    }

    /// A kernel's view of `len` values from `at` on, to write. Takes a shared reference, since several kernels of a step
    /// write to parts of one buffer; that no two do at once is the caller's promise.
    ///
    /// # Panics
    /// If the range is outside of the buffer.
    ///
    /// # Safety
    /// See [`Out::new`].
    pub unsafe fn view_mut(&self, at: usize, len: usize) -> Out<V> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "view past the buffer's end");
        // SAFETY: inside of this buffer; the rest is the caller's promise.
        unsafe { Out::new((self.address() as *mut V).wrapping_add(at), len) }
    }
}
