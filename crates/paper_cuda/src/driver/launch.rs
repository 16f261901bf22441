//! The compiler of PTX, modules, their functions, and launches.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use super::functions;
use crate::gpu::{Gpu, Link};
use crate::module::{self, Body, Function, MOST_SHARED, Module};
use crate::stream::{Launch, Work};
use crate::{
    Answer, ILLEGAL_ADDRESS, INVALID_HANDLE, INVALID_IMAGE, INVALID_VALUE, NOT_FOUND, NOT_SUPPORTED,
};

/// `CU_JIT_ERROR_LOG_BUFFER` and the option for its size.
const ERROR_LOG: [c_int; 2] = [5, 6];
/// `CU_JIT_INPUT_PTX`.
const PTX: c_int = 1;
/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const SHARED_LIMIT: c_int = 8;
const COMPLAINT: &[u8] = b"a text without .version, .target and .address_size 64 is no PTX";

functions! { in_context:
    cuLinkCreate_v2(gpu, count: c_uint, options: *const c_int, values: *const usize, state: &mut usize) {
        let mut link = Link::default();
        for i in 0..count as usize {
            // SAFETY: so many options, and as many values.
            match unsafe { (*options.add(i), *values.add(i)) } {
                (option, address) if option == ERROR_LOG[0] => link.1.0 = address,
                (option, bytes) if option == ERROR_LOG[1] => link.1.1 = bytes,
                _ => return Err(INVALID_VALUE),
            }
        }
        *state = gpu.handle();
        gpu.links.insert(*state, link)
    }
    cuLinkAddData_v2(
        gpu, state: usize, kind: c_int, data: *const u8, len: usize, _name: *const c_char, _count: c_uint,
        _options: *const c_int, _values: *const usize,
    ) {
        let Link(code, (log, room)) = gpu.links.get_mut(&state).ok_or(INVALID_HANDLE)?;
        if kind != PTX || !code.is_empty() { return Err(NOT_SUPPORTED) }
        // SAFETY: the caller's text.
        let text = unsafe { std::slice::from_raw_parts(data, len) };
        *code = module::compile(text.strip_suffix(&[0]).unwrap_or(text)).inspect_err(|_| {
            // SAFETY: where the caller said that so many bytes may be written, or none.
            unsafe { (*log as *mut u8).copy_from_nonoverlapping(COMPLAINT.as_ptr(), COMPLAINT.len().min(*room)) }
        })?
    }
    cuLinkComplete(gpu, state: usize, image: &mut *const u8, len: &mut usize) {
        let Link(code, _) = gpu.links.get(&state).ok_or(INVALID_HANDLE)?;
        if code.is_empty() { return Err(INVALID_IMAGE) }
        (*image, *len) = (code.as_ptr(), code.len())
    }
    cuLinkDestroy(gpu, state: usize) { gpu.links.remove(&state).ok_or(INVALID_HANDLE)? }

    cuModuleLoadData(gpu, module: &mut usize, image: *const u8) {
        gpu.forbid_in_capture()?;
        *module = gpu.handle();
        // SAFETY: the caller's image.
        gpu.modules.insert(*module, unsafe { Module::load(image)? })
    }
    cuModuleLoadDataEx(
        gpu, module: &mut usize, image: *const u8, _count: c_uint, _options: *const c_int, _values: *const usize,
    ) {
        gpu.forbid_in_capture()?;
        *module = gpu.handle();
        // SAFETY: the caller's image.
        gpu.modules.insert(*module, unsafe { Module::load(image)? })
    }
    cuModuleUnload(gpu, module: usize) {
        gpu.forbid_in_capture()?;
        gpu.modules.remove(&module).ok_or(INVALID_HANDLE)?;
        gpu.functions.retain(|_, function| function.module != module)
    }
    cuModuleGetFunction(gpu, function: &mut usize, module: usize, name: *const c_char) {
        // SAFETY: the caller's text.
        let name = unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| NOT_FOUND)?;
        let body = gpu.modules.get(&module).ok_or(INVALID_HANDLE)?.entry(name)?;
        *function = gpu.handle();
        gpu.functions.insert(*function, Function::new(module, body))
    }
    cuFuncSetAttribute(gpu, function: usize, which: c_int, value: c_int) {
        let function = gpu.functions.get_mut(&function).ok_or(INVALID_HANDLE)?;
        let bytes = usize::try_from(value).map_err(|_| INVALID_VALUE)?;
        if which != SHARED_LIMIT || bytes > MOST_SHARED { return Err(INVALID_VALUE) }
        function.shared = bytes
    }
    cuFuncGetParamInfo(gpu, function: usize, index: usize, offset: &mut usize, bytes: Option<&mut usize>) {
        let Body::Kernel(kernel) = gpu.functions.get(&function).ok_or(INVALID_HANDLE)?.body else {
            return Err(INVALID_VALUE);
        };
        if index != 0 { return Err(INVALID_VALUE) }
        *offset = 0;
        if let Some(bytes) = bytes { *bytes = kernel.argument_bytes() }
    }
    cuLaunchKernel(
        gpu, function: usize, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
        block_z: c_uint, shared: c_uint, stream: usize, parameters: *const *const c_void, extra: *const c_void,
    ) {
        let asked = Asked {
            grid: [grid_x, grid_y, grid_z].map(|n| n as usize),
            block: [block_x, block_y, block_z].map(|n| n as usize),
            shared: shared as usize,
        };
        if !extra.is_null() { return Err(INVALID_VALUE) }
        // SAFETY: the caller's parameters.
        unsafe { launch(gpu, function, &asked, stream, parameters)? }
    }
    cuLaunchKernelEx(gpu, config: &Config, function: usize, parameters: *const *const c_void, extra: *const c_void) {
        let asked = Asked {
            grid: config.grid.map(|n| n as usize),
            block: config.block.map(|n| n as usize),
            shared: config.shared as usize,
        };
        if !extra.is_null() { return Err(INVALID_VALUE) }
        for i in 0..config.attribute_count as usize {
            // SAFETY: so many attributes.
            if unsafe { (*config.attributes.add(i)).id } != OVERLAP { return Err(NOT_SUPPORTED) }
        }
        // SAFETY: the caller's parameters.
        unsafe { launch(gpu, function, &asked, config.stream, parameters)? }
    }
}

/// `CUlaunchConfig`.
#[repr(C)]
struct Config {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared: c_uint,
    stream: usize,
    attributes: *const Attribute,
    attribute_count: c_uint,
}

/// `CUlaunchAttribute`.
#[repr(C, align(8))]
struct Attribute {
    id: c_int,
    value: [u8; 64],
}

/// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`: kernels run one after the other here, as they may.
const OVERLAP: c_int = 6;

/// Puts a launch on a stream.
///
/// # Safety
/// As for the function's own launches: one parameter of its kernel's type.
unsafe fn launch(
    gpu: &mut Gpu,
    function: usize,
    asked: &Asked,
    stream: usize,
    parameters: *const *const c_void,
) -> Answer {
    let function = gpu.functions.get(&function).ok_or(INVALID_HANDLE)?;
    if asked.shared > function.shared {
        return Err(INVALID_VALUE);
    }
    asked.check()?;
    let work = match function.body {
        Body::Trap => Work::Trap,
        Body::Kernel(kernel) => {
            let bytes = kernel.argument_bytes();
            let mut args = vec![0u128; bytes.div_ceil(size_of::<u128>())];
            // SAFETY: one parameter, of so many bytes; the copy has room for them.
            unsafe {
                let argument = (*parameters).cast::<u8>();
                args.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(argument, bytes);
            }
            // SAFETY: arguments of this kernel.
            let geometry = unsafe { kernel.geometry(args.as_ptr()) };
            asked.is_what_runs(kernel.lanes(), geometry)?;
            if crate::host::is_among(&args, &gpu.memory) {
                return Err(ILLEGAL_ADDRESS);
            }
            Work::Launch(Arc::new(Launch { kernel, args }))
        }
    };
    gpu.put(stream, work)
}

/// How a launch is asked for.
struct Asked {
    grid: [usize; 3],
    block: [usize; 3],
    shared: usize,
}

impl Asked {
    /// Whether any GPU of this kind could do it.
    fn check(&self) -> Answer {
        let Self { grid: [_, height, depth], block, .. } = *self;
        let positive = self.grid.iter().chain(&block).all(|&n| n > 0);
        let threads: usize = block.iter().product();
        let fits = height <= 65535 && depth <= 65535 && threads <= 1024 && block[2] <= 64;
        if positive && fits { Ok(()) } else { Err(INVALID_VALUE) }
    }

    /// Whether it is what the host version runs, which takes its geometry from the arguments.
    fn is_what_runs(&self, lanes: usize, geometry: cuda_std::Geometry) -> Answer {
        let [width, height] = geometry.grid;
        let same = self.grid == [width, height, 1] && self.block == [lanes, 1, 1];
        if same && self.shared >= geometry.scratch { Ok(()) } else { Err(INVALID_VALUE) }
    }
}
