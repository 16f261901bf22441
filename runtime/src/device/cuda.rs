//! A CUDA GPU: one context, one stream, kernels launched in order.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::Arc;

use cuda_loader::{DriverVersion, LaunchAttribute, LaunchConfig};
use cuda_std::Kernel;
use cust::device::{Device as CudaDevice, DeviceAttribute};
use cust::error::CudaError;
use cust::memory::DeviceBuffer;
use cust::stream::{Stream, StreamFlags};
use cust::sys::{self, CUresult};

use super::context::Context;
use super::graph::{Capture, Graph};
use super::image_cache::ImageCache;
use super::modules::Modules;
use super::staging::Staging;
use super::{DeviceError, Filler, Image, image};

/// A GPU.
pub struct Cuda {
    ordinal: u32,
    description: String,
    capability: (i32, i32),
    version: DriverVersion,
    /// Whether a kernel may begin before the one ahead of it has ended.
    overlaps: bool,
    multiprocessors: usize,
    /// Bytes of shared memory that a block may take, if its kernel is allowed to.
    block_shared: usize,
    /// Bytes of shared memory of a multiprocessor.
    shared: usize,
    /// Whether launches are recorded instead of run.
    capturing: Cell<bool>,
    modules: RefCell<Modules>,
    staging: RefCell<Staging>,
    stream: Stream,
    context: Arc<Context>,
}

// SAFETY: raw handles of the driver, which may be used from any thread; one thread at a time does.
unsafe impl Send for Cuda {}

/// Shared memory that the device's collectives use, beside what a kernel asks for.
const COLLECTIVES: usize = 256;

/// Bytes of shared memory that a block takes beside what it asks for.
const RESERVED: usize = 1 << 10;

/// The first CUDA whose driver reads PTX of version 7.0, the images' own.
const NEEDED: DriverVersion = DriverVersion::new(11, 0);

/// The first CUDA whose graphs know kernels that begin before the one ahead has ended.
const OVERLAPPING: DriverVersion = DriverVersion::new(12, 3);

impl Cuda {
    pub(crate) fn new(
        ordinal: u32,
        images: &'static [Image],
        cache: Option<PathBuf>,
    ) -> Result<Self, DeviceError> {
        let driver = cuda_loader::driver().map_err(|error| DeviceError::NoDriver(error.to_string()))?;
        let version = driver.version();
        if version < NEEDED {
            let path = driver.path().display().to_string();
            return Err(DeviceError::OldDriver {
                path,
                found: version.to_string(),
                needed: NEEDED.to_string(),
            });
        }
        cust::init(cust::CudaFlags::empty()).map_err(failed("cuInit"))?;
        let count = CudaDevice::num_devices().map_err(failed("cuDeviceGetCount"))?;
        if ordinal >= count {
            return Err(DeviceError::NoDevice { ordinal, count });
        }
        let device = CudaDevice::get_device(ordinal).map_err(failed("cuDeviceGet"))?;
        let name = device.name().map_err(failed("cuDeviceGetName"))?;
        let attribute = |which| device.get_attribute(which).map_err(failed("cuDeviceGetAttribute"));
        let major = attribute(DeviceAttribute::ComputeCapabilityMajor)?;
        let minor = attribute(DeviceAttribute::ComputeCapabilityMinor)?;
        if major < 8 {
            return Err(DeviceError::TooOld { name, major, minor });
        }
        let multiprocessors = attribute(DeviceAttribute::MultiprocessorCount)? as usize;
        let shared = attribute(DeviceAttribute::MaxSharedMemoryPerMultiprocessor)? as usize;
        // A block takes a little beside what it asks for.
        let block_shared = shared - RESERVED;
        let context = Context::new(device).map_err(failed("cuDevicePrimaryCtxRetain"))?;
        context.enter()?;
        let stream =
            Stream::new(StreamFlags::NON_BLOCKING, None).map_err(failed("cuStreamCreateWithPriority"))?;
        let compiler = format!("{version} {}", driver_build());
        let modules = Modules::new((major, minor), compiler, images, cache.map(ImageCache::new));
        Ok(Self {
            ordinal,
            description: format!("{name}, compute capability {major}.{minor}"),
            capability: (major, minor),
            version,
            overlaps: image::overlaps((major, minor)) && version >= OVERLAPPING,
            multiprocessors,
            block_shared,
            shared,
            capturing: Cell::new(false),
            modules: RefCell::new(modules),
            staging: RefCell::default(),
            stream,
            context: Arc::new(context),
        })
    }

    pub(crate) fn ordinal(&self) -> u32 {
        self.ordinal
    }

    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    pub(crate) fn capability(&self) -> (i32, i32) {
        self.capability
    }

    /// Bytes of scratch memory that a block may take.
    pub(crate) fn scratch(&self) -> usize {
        self.block_shared - COLLECTIVES
    }

    pub(crate) fn driver_version(&self) -> DriverVersion {
        self.version
    }

    /// The stream that everything runs on, in its order.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Makes the context the calling thread's.
    pub(crate) fn enter(&self) -> Result<(), DeviceError> {
        self.context.enter()
    }

    /// As [`enter`](Self::enter), for what cannot be part of a graph.
    fn enter_outside_of_capture(&self, call: &'static str) -> Result<(), DeviceError> {
        if self.capturing.get() {
            return Err(DeviceError::Capturing { call });
        }
        self.enter()
    }

    /// Bytes the GPU has, and how many are free.
    pub(crate) fn memory(&self) -> Result<(u64, u64), DeviceError> {
        self.enter()?;
        let (free, total) = cust::memory::mem_get_info().map_err(failed("cuMemGetInfo"))?;
        Ok((total as u64, free as u64))
    }

    pub(crate) fn context(&self) -> Arc<Context> {
        self.context.clone()
    }

    /// Memory of at least one byte, not set to anything, or how many bytes are free.
    pub(crate) fn alloc(&self, bytes: usize) -> Result<Result<CudaMemory, u64>, DeviceError> {
        self.enter_outside_of_capture("an allocation")?;
        // SAFETY: whatever bytes there are, they are bytes.
        match unsafe { DeviceBuffer::uninitialized(bytes) } {
            Ok(buffer) => {
                let memory = CudaMemory { buffer, context: self.context.clone() };
                assert!(
                    memory.address().is_multiple_of(256),
                    "the driver promises an alignment of 256 bytes"
                );
                Ok(Ok(memory))
            }
            Err(CudaError::OutOfMemory) => Ok(Err(self.memory()?.1)),
            Err(error) => Err(failed("cuMemAlloc")(error)),
        }
    }

    pub(crate) fn fill(
        &self,
        memory: &mut CudaMemory,
        at: usize,
        len: usize,
        byte: u8,
    ) -> Result<(), DeviceError> {
        self.enter_outside_of_capture("a fill")?;
        let to = memory.part(at, len);
        // SAFETY: memory of this device; it is freed only after what is on the stream.
        let code = unsafe { sys::cuMemsetD8Async(to, byte, len, self.stream.as_inner()) };
        check("cuMemsetD8Async", code)
    }

    pub(crate) fn upload(&self, memory: &mut CudaMemory, at: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.enter_outside_of_capture("an upload")?;
        let to = memory.part(at, bytes.len());
        // SAFETY: memory of this device; it is freed only after what is on the stream.
        unsafe { self.staging.borrow_mut().upload(to, bytes, &self.stream) }
    }

    pub(crate) fn upload_with<E: From<DeviceError> + Send>(
        &self,
        memory: &mut CudaMemory,
        at: usize,
        len: usize,
        fill: Filler<'_, E>,
    ) -> Result<(), E> {
        self.enter_outside_of_capture("an upload")?;
        let to = memory.part(at, len);
        // SAFETY: memory of this device; it is freed only after what is on the stream.
        unsafe { self.staging.borrow_mut().upload_with(to, len, fill, &self.stream) }
    }

    pub(crate) fn download(
        &self,
        memory: &CudaMemory,
        at: usize,
        bytes: &mut [u8],
    ) -> Result<(), DeviceError> {
        if bytes.is_empty() {
            return self.synchronize();
        }
        self.enter_outside_of_capture("a download")?;
        let from = memory.part(at, bytes.len());
        // SAFETY: memory of this device.
        unsafe { self.staging.borrow_mut().download(from, bytes, &self.stream) }
    }

    pub(crate) fn staging_bytes(&self) -> usize {
        self.staging.borrow().bytes()
    }

    pub(crate) fn release_staging(&self) -> Result<(), DeviceError> {
        self.enter_outside_of_capture("a release of staging memory")?;
        self.staging.borrow_mut().release()
    }

    pub(crate) fn synchronize(&self) -> Result<(), DeviceError> {
        self.enter_outside_of_capture("waiting")?;
        self.stream.synchronize().map_err(failed("cuStreamSynchronize"))
    }

    pub(crate) fn capture<E: From<DeviceError>>(
        &self,
        f: impl FnOnce() -> Result<(), E>,
    ) -> Result<Graph, E> {
        self.enter_outside_of_capture("another capture")?;
        let capture = Capture::begin(&self.stream)?;
        let capturing = Flag::set(&self.capturing);
        f()?;
        drop(capturing);
        Ok(capture.finish(self.context.clone())?)
    }

    /// # Safety
    /// As [`Device::replay`](super::Device::replay).
    pub(crate) unsafe fn replay(&self, graph: &Graph) -> Result<(), DeviceError> {
        self.enter_outside_of_capture("a replay")?;
        // SAFETY: the caller's promise.
        unsafe { graph.launch(&self.stream) }
    }

    /// # Safety
    /// As [`Device::launch`](super::Device::launch).
    pub(crate) unsafe fn launch<A: Copy>(
        &self,
        kernel: &'static Kernel<A>,
        args: &A,
    ) -> Result<(), DeviceError> {
        self.enter()?;
        let geometry = (kernel.geometry)(args);
        let mut shared = geometry.scratch + COLLECTIVES;
        if kernel.streams_weights {
            shared = shared.max(spreading(geometry.grid, self.multiprocessors, self.shared));
        }
        let function = self.modules.borrow_mut().function(kernel.name, kernel.family(), shared)?;
        let [x, y] = geometry.grid.map(|n| n as u32);
        if x == 0 || y == 0 {
            return Ok(());
        }
        let mut parameters = [std::ptr::from_ref(args).cast_mut().cast::<c_void>()];
        let mut attribute = LaunchAttribute::programmatic_stream_serialization();
        let config = LaunchConfig {
            grid: [x, y, 1],
            block: [kernel.lanes as u32, 1, 1],
            shared_bytes: shared as u32,
            stream: self.stream.as_inner(),
            attributes: &raw mut attribute,
            attribute_count: 1,
        };
        // SAFETY: the entry takes one parameter, of type `A`; one attribute; the rest is the caller's promise.
        let code = unsafe {
            if self.overlaps {
                cuda_loader::launch_kernel_ex(&config, function, parameters.as_mut_ptr())
            } else {
                let ([x, y, z], [lanes, ..]) = (config.grid, config.block);
                let (shared, stream) = (config.shared_bytes, config.stream);
                let parameters = parameters.as_mut_ptr();
                sys::cuLaunchKernel(function, x, y, z, lanes, 1, 1, shared, stream, parameters, null_mut())
            }
        };
        check("cuLaunchKernel", code).map_err(|error| match error {
            DeviceError::Driver { call, code } => {
                DeviceError::Driver { call: format!("{call} of {}", kernel.name), code }
            }
            other => other,
        })
    }
}

/// Bytes of shared memory with which no multiprocessor takes more than its share of a grid's blocks. Those that come while others
/// of the kernel ahead still run would crowd where these end first.
fn spreading([x, y]: [usize; 2], multiprocessors: usize, shared: usize) -> usize {
    let most = (x * y).div_ceil(multiprocessors);
    (shared / (most + 1) + 1).saturating_sub(RESERVED)
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Copies under way still use the staging memory. If the device has failed, there are none.
        if self.enter().is_ok() {
            let _ = self.stream.synchronize();
        }
    }
}

/// True until dropped.
struct Flag<'c>(&'c Cell<bool>);

impl<'c> Flag<'c> {
    fn set(cell: &'c Cell<bool>) -> Self {
        cell.set(true);
        Self(cell)
    }
}

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Memory on the GPU, aligned to 256 bytes by the driver.
pub(crate) struct CudaMemory {
    buffer: DeviceBuffer<u8>,
    context: Arc<Context>,
}

impl CudaMemory {
    pub(crate) fn address(&self) -> usize {
        self.buffer.as_device_ptr().as_raw() as usize
    }

    /// Where the bytes `at..at + len` begin.
    fn part(&self, at: usize, len: usize) -> sys::CUdeviceptr {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.buffer.len()), "past the memory's end");
        (self.address() + at) as sys::CUdeviceptr
    }
}

impl Drop for CudaMemory {
    fn drop(&mut self) {
        // The driver frees what belongs to the current context. Without one it is gone already.
        let _ = self.context.enter();
    }
}

/// The driver's own version, such as `580.159.04`; empty where the system does not say.
fn driver_build() -> String {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

pub(crate) fn failed(call: &'static str) -> impl Fn(CudaError) -> DeviceError {
    move |error| DeviceError::Driver { call: call.to_owned(), code: cuda_loader::code(error as i32) }
}

/// A raw call's answer.
pub(crate) fn check(call: &'static str, code: CUresult) -> Result<(), DeviceError> {
    if code == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    Err(DeviceError::Driver { call: call.to_owned(), code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiprocessor_has_room_for_its_share_of_blocks_and_no_more() {
        for grid in [[1usize, 1], [128, 1], [133, 1], [192, 1], [96, 4], [4008, 1]] {
            for (multiprocessors, shared) in [(132, 228 << 10), (128, 100 << 10), (1, 228 << 10)] {
                let most = (grid[0] * grid[1]).div_ceil(multiprocessors);
                let block = spreading(grid, multiprocessors, shared) + RESERVED;
                assert!(block * (most + 1) > shared);
                assert!(
                    block * most <= shared || block == RESERVED,
                    "{grid:?} on {multiprocessors}: {block}"
                );
            }
        }
    }
}
