//! A CUDA GPU: one context, one stream, kernels from PTX loaded when first used.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;

use cuda_loader as _;
use cuda_std::Kernel;
use cust::context::{Context, CurrentContext};
use cust::device::{Device as CudaDevice, DeviceAttribute};
use cust::error::CudaError;
use cust::memory::{AsyncCopyDestination, DeviceBuffer};
use cust::module::Module;
use cust::stream::{Stream, StreamFlags};
use cust::sys;

use super::{DeviceError, Image};

/// A GPU.
pub struct Cuda {
    ordinal: u32,
    description: String,
    capability: (i32, i32),
    images: &'static [Image],
    loaded: RefCell<Loaded>,
    stream: Stream,
    context: Context,
}

/// Kernels found so far.
#[derive(Default)]
struct Loaded {
    functions: HashMap<&'static str, sys::CUfunction>,
    /// By family; kept for as long as their functions.
    modules: HashMap<String, Module>,
}

// SAFETY: raw handles of the driver, which may be used from any thread; one thread at a time does.
unsafe impl Send for Cuda {}

/// Shared memory that the device's collectives use, beside what a kernel asks for.
const COLLECTIVES: usize = 256;

impl Cuda {
    pub(crate) fn new(ordinal: u32, images: &'static [Image]) -> Result<Self, DeviceError> {
        cuda_loader::driver().map_err(|error| DeviceError::NoDriver(error.to_string()))?;
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
        let context = Context::new(device).map_err(failed("cuDevicePrimaryCtxRetain"))?;
        let stream = Stream::new(StreamFlags::NON_BLOCKING, None).map_err(failed("cuStreamCreate"))?;
        Ok(Self {
            ordinal,
            description: format!("{name}, compute capability {major}.{minor}"),
            capability: (major, minor),
            images,
            loaded: RefCell::default(),
            stream,
            context,
        })
    }

    pub(crate) fn ordinal(&self) -> u32 {
        self.ordinal
    }

    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// Makes the context the calling thread's.
    fn enter(&self) -> Result<(), DeviceError> {
        CurrentContext::set_current(&self.context).map_err(failed("cuCtxSetCurrent"))
    }

    /// Bytes the GPU has, and how many are free.
    pub(crate) fn memory(&self) -> Result<(u64, u64), DeviceError> {
        self.enter()?;
        let (free, total) = cust::memory::mem_get_info().map_err(failed("cuMemGetInfo"))?;
        Ok((total as u64, free as u64))
    }

    /// Zeroed memory, or how many bytes are free.
    pub(crate) fn alloc(&self, bytes: usize) -> Result<Result<CudaMemory, u64>, DeviceError> {
        self.enter()?;
        // SAFETY: set to zero before anything reads it.
        match unsafe { DeviceBuffer::uninitialized(bytes.max(1)) } {
            Ok(mut buffer) => {
                // SAFETY: this stream orders the write before every use.
                unsafe { buffer.set_8_async(0, &self.stream) }.map_err(failed("cuMemsetD8Async"))?;
                Ok(Ok(CudaMemory(buffer)))
            }
            Err(CudaError::OutOfMemory) => Ok(Err(self.memory()?.1)),
            Err(error) => Err(failed("cuMemAlloc")(error)),
        }
    }

    pub(crate) fn upload(&self, memory: &mut CudaMemory, at: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.enter()?;
        // SAFETY: a copy from pageable memory has left it when the call returns.
        unsafe { memory.0.index(at..at + bytes.len()).async_copy_from(bytes, &self.stream) }
            .map_err(failed("cuMemcpyHtoDAsync"))
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
        self.enter()?;
        // SAFETY: `bytes` is borrowed until the copy has finished, below.
        unsafe { memory.0.index(at..at + bytes.len()).async_copy_to(bytes, &self.stream) }
            .map_err(failed("cuMemcpyDtoHAsync"))?;
        self.synchronize()
    }

    pub(crate) fn synchronize(&self) -> Result<(), DeviceError> {
        self.enter()?;
        self.stream.synchronize().map_err(failed("cuStreamSynchronize"))
    }

    /// # Safety
    /// As [`Device::launch`](super::Device::launch).
    pub(crate) unsafe fn launch<A: Copy>(
        &self,
        kernel: &'static Kernel<A>,
        args: &A,
    ) -> Result<(), DeviceError> {
        self.enter()?;
        let function = self.function(kernel.name, kernel.family())?;
        let geometry = (kernel.geometry)(args);
        let [x, y] = geometry.grid.map(|n| n as u32);
        if x == 0 || y == 0 {
            return Ok(());
        }
        let mut parameters = [std::ptr::from_ref(args).cast_mut().cast::<c_void>()];
        // SAFETY: the entry takes one parameter, of type `A`; the rest is the caller's promise.
        let code = unsafe {
            sys::cuLaunchKernel(
                function,
                x,
                y,
                1,
                kernel.lanes as u32,
                1,
                1,
                (geometry.scratch + COLLECTIVES) as u32,
                self.stream.as_inner(),
                parameters.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        if code == sys::cudaError_enum::CUDA_SUCCESS {
            Ok(())
        } else {
            Err(DeviceError::Driver {
                call: format!("cuLaunchKernel of {}", kernel.name),
                error: format!("{code:?}"),
            })
        }
    }

    /// The kernel's entry; its family's image is compiled by the driver on first use.
    fn function(&self, name: &'static str, family: &str) -> Result<sys::CUfunction, DeviceError> {
        let loaded = &mut *self.loaded.borrow_mut();
        if let Some(&function) = loaded.functions.get(name) {
            return Ok(function);
        }
        if !loaded.modules.contains_key(family) {
            let (major, minor) = self.capability;
            let image = Image::find(self.images, family, self.capability)
                .ok_or_else(|| DeviceError::NoImage { family: family.to_owned(), major, minor })?;
            let module = Module::from_ptx(image.ptx, &[]).map_err(failed("cuModuleLoadData"))?;
            loaded.modules.insert(family.to_owned(), module);
        }
        let function =
            loaded.modules[family].get_function(name).map_err(failed("cuModuleGetFunction"))?.to_raw();
        loaded.functions.insert(name, function);
        Ok(function)
    }
}

/// Memory on the GPU, aligned to 256 bytes by the driver.
pub(crate) struct CudaMemory(DeviceBuffer<u8>);

impl CudaMemory {
    pub(crate) fn address(&self) -> usize {
        self.0.as_device_ptr().as_raw() as usize
    }
}

fn failed(call: &'static str) -> impl Fn(CudaError) -> DeviceError {
    move |error| DeviceError::Driver { call: call.to_owned(), error: format!("{error:?} ({})", error as u32) }
}
