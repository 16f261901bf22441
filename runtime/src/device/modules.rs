//! Kernels: compiled or taken from the cache, and loaded, each at its first use.

use std::collections::HashMap;
use std::time::Instant;

use cust::module::Module;
use cust::sys;

use super::cuda::{check, failed};
use super::image_cache::{ImageCache, Key};
use super::{DeviceError, Image, jit};

/// Kernels found so far.
pub(crate) struct Modules {
    capability: (i32, i32),
    /// Names the compiler.
    driver: String,
    images: &'static [Image],
    cache: Option<ImageCache>,
    functions: HashMap<&'static str, Function>,
}

struct Function {
    raw: sys::CUfunction,
    /// What the function lives in: it alone.
    _module: Module,
    /// Bytes of shared memory that a launch may ask for.
    shared: usize,
}

/// What every kernel may ask for without being allowed to.
const SHARED: usize = 48 << 10;

impl Modules {
    pub(crate) fn new(
        capability: (i32, i32),
        driver: String,
        images: &'static [Image],
        cache: Option<ImageCache>,
    ) -> Self {
        Self { capability, driver, images, cache, functions: HashMap::new() }
    }

    /// The kernel's entry, ready for launches with `shared` bytes of shared memory.
    pub(crate) fn function(
        &mut self,
        name: &'static str,
        family: &str,
        shared: usize,
    ) -> Result<sys::CUfunction, DeviceError> {
        let function = match self.functions.get_mut(name) {
            Some(function) => function,
            None => {
                let module = self.load(name, family)?;
                let raw = module.get_function(name).map_err(failed("cuModuleGetFunction"))?.to_raw();
                self.functions.entry(name).or_insert(Function { raw, _module: module, shared: SHARED })
            }
        };
        if shared > function.shared {
            let which = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: a live function.
            let code = unsafe { sys::cuFuncSetAttribute(function.raw, which, shared as i32) };
            check("cuFuncSetAttribute", code)?;
            function.shared = shared;
        }
        Ok(function.raw)
    }

    fn load(&self, name: &str, family: &str) -> Result<Module, DeviceError> {
        let (major, minor) = self.capability;
        let image = Image::find(self.images, family, self.capability);
        let ptx = image.and_then(|image| image.kernel(name, self.capability));
        let ptx = ptx.ok_or_else(|| DeviceError::NoImage { kernel: name.to_owned(), major, minor })?;
        let start = Instant::now();
        let load =
            |machine_code: &[u8]| Module::from_cubin(machine_code, &[]).map_err(failed("cuModuleLoadDataEx"));
        let compile = || jit::compile(name, &ptx);
        let (module, cached) = match &self.cache {
            Some(cache) => {
                let key = Key::new(name, &format!("sm_{major}{minor}"), &ptx, &self.driver);
                cache.load(&key, load, compile)?
            }
            None => (load(&compile()?)?, false),
        };
        let milliseconds = start.elapsed().as_secs_f32() * 1e3;
        tracing::debug!(kernel = name, cached, milliseconds, "kernel loaded");
        Ok(module)
    }
}
