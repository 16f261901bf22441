//! Where a model runs: memory by purpose, and kernels launched in order.
//!
//! Every operation is asynchronous on a GPU and done at once on the CPU; [`Device::download`] waits for what came before.
//! A device and its buffers belong to one thread at a time.

mod buffer;
mod context;
mod cpu;
pub(crate) mod cuda;
mod error;
mod graph;
mod image;
mod image_cache;
mod jit;
mod ledger;
mod modules;
mod pool;
mod profile;
mod residency;
mod staging;

use std::path::PathBuf;

use cuda_loader::DriverVersion;
use std::cell::{Cell, RefCell};

use cuda_std::{Kernel, Value};

pub use buffer::Buffer;
use buffer::Storage;
pub use cpu::{Cpu, Simd};
pub use cuda::Cuda;
pub use error::DeviceError;
pub use graph::Graph;
pub use image::Image;
use ledger::Ledger;
pub use ledger::{Purpose, Usage};
use profile::Profile;
pub use profile::Spent;
pub use residency::{NotResident, Residency, Verified};

/// A device: the CPU, or a CUDA GPU.
pub struct Device {
    kind: Kind,
    ledger: Ledger,
    /// While it is on, every launch is timed.
    profile: RefCell<Option<Profile>>,
}

/// Makes some of an upload's bytes: fills the slice with those from the number on. Several threads call it at once, each for
/// other bytes.
pub type Filler<'a, E> = &'a (dyn Fn(usize, &mut [u8]) -> Result<(), E> + Sync);

enum Kind {
    Cpu(Cpu),
    Cuda(Box<Cuda>),
    Planned(Planned),
}

/// A device that is not there.
struct Planned {
    /// Whether it stands for a GPU.
    gpu: bool,
    /// Where the next allocation begins.
    next: Cell<usize>,
}

impl Device {
    /// The CPU with `threads` threads; all cores when 0.
    pub fn cpu(threads: usize) -> Self {
        Self { kind: Kind::Cpu(Cpu::new(threads)), ledger: Ledger::default(), profile: RefCell::default() }
    }

    /// A device that is not there, in place of the CPU or of a GPU: it counts what is allocated, of whatever size, keeps
    /// nothing of it and computes nothing. What is loaded on it tells what it would take.
    pub fn planned(gpu: bool) -> Self {
        let kind = Kind::Planned(Planned { gpu, next: Cell::new(256) });
        Self { kind, ledger: Ledger::default(), profile: RefCell::default() }
    }

    /// The GPU `ordinal`, with these PTX images for its kernels. Belongs to the calling thread.
    ///
    /// # Errors
    /// No driver or one that is too old, no such GPU or one that is too old, or a failing driver.
    pub fn cuda(ordinal: u32, images: &'static [Image]) -> Result<Self, DeviceError> {
        Self::cuda_with_cache(ordinal, images, None)
    }

    /// As [`cuda`](Self::cuda), with a folder where compiled kernels are kept for the next start. It need not exist; if it
    /// cannot be used, kernels are compiled at every start.
    ///
    /// # Errors
    /// As [`cuda`](Self::cuda).
    pub fn cuda_with_cache(
        ordinal: u32,
        images: &'static [Image],
        cache: Option<PathBuf>,
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            kind: Kind::Cuda(Box::new(Cuda::new(ordinal, images, cache)?)),
            ledger: Ledger::default(),
            profile: RefCell::default(),
        })
    }

    /// The GPU behind this device.
    pub(crate) fn as_cuda(&self) -> Option<&Cuda> {
        match &self.kind {
            Kind::Cuda(cuda) => Some(cuda),
            Kind::Cpu(_) | Kind::Planned(_) => None,
        }
    }

    /// Whether it is the CPU, or planned in its place.
    pub fn is_cpu(&self) -> bool {
        matches!(self.kind, Kind::Cpu(_) | Kind::Planned(Planned { gpu: false, .. }))
    }

    /// Whether it is not there, see [`planned`](Self::planned).
    pub(crate) fn is_planned(&self) -> bool {
        matches!(self.kind, Kind::Planned(_))
    }

    /// Whether it is planned in place of a GPU.
    pub(crate) fn is_planned_gpu(&self) -> bool {
        matches!(self.kind, Kind::Planned(Planned { gpu: true, .. }))
    }

    /// `cpu`, `cuda:0`, or `planned`.
    pub fn name(&self) -> String {
        match &self.kind {
            Kind::Cpu(_) => "cpu".to_owned(),
            Kind::Planned(_) => "planned".to_owned(),
            Kind::Cuda(cuda) => format!("cuda:{}", cuda.ordinal()),
        }
    }

    /// What it is: threads and processor features in use, or the GPU's name and compute capability.
    pub fn description(&self) -> String {
        match &self.kind {
            Kind::Cpu(cpu) => cpu.description(),
            Kind::Planned(_) => "not there".to_owned(),
            Kind::Cuda(cuda) => cuda.description().to_owned(),
        }
    }

    /// The GPU's compute capability, such as `(9, 0)`; `None` for the CPU.
    pub fn chip(&self) -> Option<(i32, i32)> {
        self.as_cuda().map(Cuda::capability)
    }

    /// The newest CUDA that the GPU's driver understands; `None` for the CPU.
    pub fn driver_version(&self) -> Option<DriverVersion> {
        self.as_cuda().map(Cuda::driver_version)
    }

    /// Bytes of pinned host memory in use for transfers, [`STAGING_LIMIT`](Self::STAGING_LIMIT) at most; 0 on the CPU.
    pub fn staging_bytes(&self) -> usize {
        self.as_cuda().map_or(0, Cuda::staging_bytes)
    }

    /// Bytes of host memory that a device ever pins.
    pub const STAGING_LIMIT: usize = staging::LIMIT;

    /// Frees the host memory that large uploads go through. Call it when a model is loaded; a later large upload takes
    /// such memory again.
    ///
    /// # Errors
    /// A failing driver.
    pub fn release_staging(&self) -> Result<(), DeviceError> {
        self.as_cuda().map_or(Ok(()), Cuda::release_staging)
    }

    /// What verifies that every allocation is in this device's memory, on any thread.
    pub fn residency(&self) -> Residency {
        Residency::new(self.ledger.clone(), self.as_cuda().map(|cuda| (cuda.ordinal(), cuda.context())))
    }

    /// Bytes in use by purpose.
    pub fn usage(&self) -> Usage {
        self.ledger.usage()
    }

    /// Allocations made so far, freed ones too: a step makes none.
    pub fn allocations(&self) -> u64 {
        self.ledger.made()
    }

    /// Bytes the device has, and how many are free.
    ///
    /// # Errors
    /// A failing driver.
    pub fn memory(&self) -> Result<(u64, u64), DeviceError> {
        match &self.kind {
            Kind::Cpu(cpu) => Ok(cpu.memory()),
            Kind::Planned(_) => Ok((0, 0)),
            Kind::Cuda(cuda) => cuda.memory(),
        }
    }

    /// `len` zeros, aligned to 256 bytes.
    ///
    /// # Errors
    /// [`DeviceError::NoBytes`], [`DeviceError::OutOfMemory`], or a failing driver.
    pub fn alloc<V: Value>(&self, purpose: Purpose, len: usize) -> Result<Buffer<V>, DeviceError> {
        let mut buffer = self.alloc_unset(purpose, len)?;
        // Memory of the host comes zeroed.
        if let (Kind::Cuda(cuda), Storage::Cuda(memory)) = (&self.kind, buffer.storage_mut()) {
            cuda.fill(memory, 0, len * size_of::<V>(), 0)?;
        }
        Ok(buffer)
    }

    /// As [`alloc`](Self::alloc), without zeroing: on a GPU the values are whatever was there before.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    pub fn alloc_unset<V: Value>(&self, purpose: Purpose, len: usize) -> Result<Buffer<V>, DeviceError> {
        let bytes = len.checked_mul(size_of::<V>()).filter(|&bytes| bytes <= isize::MAX as usize);
        let out_of_memory = |free| DeviceError::OutOfMemory {
            device: self.name(),
            needed: bytes.map_or(u64::MAX, |bytes| bytes as u64),
            purpose,
            free,
            usage: self.usage(),
        };
        let Some(bytes) = bytes else { return Err(out_of_memory(self.memory()?.1)) };
        if bytes == 0 {
            return Err(DeviceError::NoBytes { purpose });
        }
        let storage = match &self.kind {
            Kind::Cpu(cpu) => cpu.alloc(bytes).map(Storage::Host),
            Kind::Cuda(cuda) => cuda.alloc(bytes)?.map(Storage::Cuda),
            Kind::Planned(planned) => planned.alloc(bytes).map(Storage::Planned).ok_or(0),
        };
        let storage = storage.map_err(out_of_memory)?;
        let entry = self.ledger.entry(purpose, storage.address() as u64, bytes as u64);
        Ok(Buffer::new(storage, len, entry))
    }

    /// Copies `values` to the buffer, from its value `at` on.
    ///
    /// # Errors
    /// A failing driver.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn upload<V: Value>(
        &self,
        buffer: &mut Buffer<V>,
        at: usize,
        values: &[V],
    ) -> Result<(), DeviceError> {
        assert!(
            at.checked_add(values.len()).is_some_and(|end| end <= buffer.len()),
            "upload past the buffer's end"
        );
        // SAFETY: a `Value` has no padding, so all its bytes are initialised.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
        match (&self.kind, buffer.storage_mut()) {
            (Kind::Cpu(_), Storage::Host(memory)) => {
                memory.bytes_mut(at * size_of::<V>(), bytes.len()).copy_from_slice(bytes);
            }
            (Kind::Cuda(cuda), Storage::Cuda(memory)) => cuda.upload(memory, at * size_of::<V>(), bytes)?,
            (Kind::Planned(_), Storage::Planned(_)) => {}
            _ => unreachable!("a buffer is used on the device that made it"),
        }
        Ok(())
    }

    /// Copies to the buffer the `len` bytes that `fill` makes, from its byte `at` on. On a GPU they pass through pinned memory,
    /// and a failure leaves some of them there or none.
    ///
    /// # Errors
    /// The first that `fill` gives; a failing driver.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn upload_with<E: From<DeviceError> + Send>(
        &self,
        buffer: &mut Buffer<u8>,
        at: usize,
        len: usize,
        fill: Filler<'_, E>,
    ) -> Result<(), E> {
        assert!(at.checked_add(len).is_some_and(|end| end <= buffer.len()), "upload past the buffer's end");
        match (&self.kind, buffer.storage_mut()) {
            (Kind::Cpu(cpu), Storage::Host(memory)) => cpu.fill(memory.bytes_mut(at, len), fill),
            (Kind::Cuda(cuda), Storage::Cuda(memory)) => cuda.upload_with(memory, at, len, fill),
            (Kind::Planned(_), Storage::Planned(_)) => Ok(()),
            _ => unreachable!("a buffer is used on the device that made it"),
        }
    }

    /// Sets every byte of `len` values of the buffer from `at` on to `byte`.
    ///
    /// # Errors
    /// A failing driver.
    ///
    /// # Panics
    /// If the range is outside of the buffer.
    pub fn fill<V: Value>(
        &self,
        buffer: &mut Buffer<V>,
        at: usize,
        len: usize,
        byte: u8,
    ) -> Result<(), DeviceError> {
        assert!(at.checked_add(len).is_some_and(|end| end <= buffer.len()), "fill past the buffer's end");
        let (at, len) = (at * size_of::<V>(), len * size_of::<V>());
        match (&self.kind, buffer.storage_mut()) {
            (Kind::Cpu(_), Storage::Host(memory)) => memory.fill(at, len, byte),
            (Kind::Cuda(cuda), Storage::Cuda(memory)) => cuda.fill(memory, at, len, byte)?,
            (Kind::Planned(_), Storage::Planned(_)) => {}
            _ => unreachable!("a buffer is used on the device that made it"),
        }
        Ok(())
    }

    /// `len` values of the buffer from `at` on, once all launches before have finished.
    ///
    /// # Errors
    /// A failing driver, launches before included.
    ///
    /// # Panics
    /// If the range is outside of the buffer.
    pub fn download<V: Value>(
        &self,
        buffer: &Buffer<V>,
        at: usize,
        len: usize,
    ) -> Result<Vec<V>, DeviceError> {
        assert!(at.checked_add(len).is_some_and(|end| end <= buffer.len()), "download past the buffer's end");
        let mut values: Vec<V> = Vec::with_capacity(len);
        // SAFETY: the bytes are written before anyone reads them, by one of the branches.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), len * size_of::<V>()) };
        match (&self.kind, buffer.storage()) {
            (Kind::Cpu(_), Storage::Host(memory)) => memory.read(at * size_of::<V>(), bytes),
            (Kind::Cuda(cuda), Storage::Cuda(memory)) => cuda.download(memory, at * size_of::<V>(), bytes)?,
            (Kind::Planned(_), Storage::Planned(_)) => bytes.fill(0),
            _ => unreachable!("a buffer is used on the device that made it"),
        }
        // SAFETY: all bytes were just written, and any bytes are a `Value`.
        unsafe { values.set_len(len) };
        Ok(values)
    }

    /// Bytes of scratch memory that a block of a kernel may take.
    pub fn scratch(&self) -> usize {
        self.as_cuda().map_or(usize::MAX, Cuda::scratch)
    }

    /// Whether the GPU runs kernels whose warps multiply together.
    pub fn has_warpgroups(&self) -> bool {
        self.chip() == Some((9, 0))
    }

    /// Runs a kernel after what was launched before. On GPUs that can, its blocks come as soon as there is room beside the last
    /// ones of the kernel ahead, and wait for its results; weights that a product multiplies are read without waiting, and were
    /// uploaded, or written before the last [`synchronize`](Self::synchronize).
    ///
    /// # Errors
    /// A failing driver; a fault inside the kernel may show later, in [`download`](Self::download).
    ///
    /// # Safety
    /// The arguments' views are of this device's memory, stay valid until the kernel has run, and meet the promises of
    /// [`cuda_std::In::new`] and [`cuda_std::Out::new`] for the shapes the kernel documents.
    pub unsafe fn launch<A: Copy + Sync>(
        &self,
        kernel: &'static Kernel<A>,
        args: &A,
    ) -> Result<(), DeviceError> {
        self.timed(
            || {
                let [x, y] = (kernel.geometry)(args).grid;
                format!("{} [{x}, {y}]", kernel.name)
            },
            || match &self.kind {
                Kind::Cpu(cpu) => {
                    // SAFETY: the caller's promise.
                    unsafe { cpu.launch(kernel, args) };
                    Ok(())
                }
                // SAFETY: the caller's promise.
                Kind::Cuda(cuda) => unsafe { cuda.launch(kernel, args) },
                Kind::Planned(_) => Ok(()),
            },
        )
    }

    /// From now on every launch is timed, which costs some microseconds each.
    pub fn begin_profile(&self) {
        self.profile.replace(Some(Profile::default()));
    }

    /// Whether launches are timed: a graph would hide them.
    pub fn profiles(&self) -> bool {
        self.profile.borrow().is_some()
    }

    /// What the launches took since the profile was begun, the most expensive first; no launch is timed any more.
    ///
    /// # Errors
    /// A failing driver, launches before included.
    pub fn end_profile(&self) -> Result<Vec<Spent>, DeviceError> {
        self.synchronize()?;
        self.profile.take().map_or_else(|| Ok(Vec::new()), Profile::spent)
    }

    /// Runs `f`, which launches something, and notes its time if a profile was begun.
    pub(crate) fn timed<R>(
        &self,
        name: impl FnOnce() -> String,
        f: impl FnOnce() -> Result<R, DeviceError>,
    ) -> Result<R, DeviceError> {
        match &mut *self.profile.borrow_mut() {
            Some(profile) => profile.time(name(), self.as_cuda().map(Cuda::stream), f),
            None => f(),
        }
    }

    /// Records the launches of `f` instead of running them, for [`replay`](Self::replay). `None` on the CPU, where `f`
    /// is not called.
    ///
    /// `f` may only launch. Every kernel in it must have been launched once before, so that it is loaded. Arguments are
    /// recorded as they are: what is to differ between replays must be read from device memory. Another device of the
    /// process, on another thread, may fail meanwhile where it loads code, and so may this.
    ///
    /// # Errors
    /// `f`'s, which ends the recording; a failing driver.
    pub fn capture<E: From<DeviceError>>(
        &self,
        f: impl FnOnce() -> Result<(), E>,
    ) -> Result<Option<Graph>, E> {
        self.as_cuda().map(|cuda| cuda.capture(f)).transpose()
    }

    /// Runs a graph's launches, in their order, after what was launched before.
    ///
    /// # Errors
    /// A failing driver; a fault inside a kernel may show later, in [`download`](Self::download).
    ///
    /// # Panics
    /// On the CPU, which makes no graphs.
    ///
    /// # Safety
    /// The graph was captured on this device, and what its launches were promised ([`launch`](Self::launch)) still holds:
    /// their memory is there, and nobody else uses it.
    pub unsafe fn replay(&self, graph: &Graph) -> Result<(), DeviceError> {
        match &self.kind {
            Kind::Cpu(_) | Kind::Planned(_) => {
                unreachable!("a graph is replayed on the device that captured it")
            }
            // SAFETY: the caller's promise.
            Kind::Cuda(cuda) => unsafe { cuda.replay(graph) },
        }
    }

    /// Waits until everything launched has finished.
    ///
    /// # Errors
    /// A failing driver, or a fault of a kernel.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        match &self.kind {
            Kind::Cpu(_) | Kind::Planned(_) => Ok(()),
            Kind::Cuda(cuda) => cuda.synchronize(),
        }
    }
}

impl Planned {
    /// The address of so many bytes that are not there; `None` where no address is left.
    fn alloc(&self, bytes: usize) -> Option<usize> {
        let at = self.next.get();
        self.next.set(at.checked_add(bytes)?.checked_next_multiple_of(256)?);
        Some(at)
    }
}
