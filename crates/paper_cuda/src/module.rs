//! Modules: PTX, "machine code" that is the PTX behind a head, and the entries in them.

use std::ffi::{CStr, c_char};

use crate::registry::{self, HostKernel};
use crate::{Answer, INVALID_IMAGE, INVALID_PTX, NOT_FOUND, NOT_SUPPORTED};

/// How machine code of this GPU begins; the length of the PTX follows, as a u64, and the PTX.
const MAGIC: &[u8; 16] = b"\x7fELFof paper GPU";
/// Bytes before the PTX.
const HEAD: usize = MAGIC.len() + 8;
/// Shared memory that every launch may ask for.
const SHARED: usize = 48 << 10;
/// Shared memory that a function may be allowed to ask for.
pub(crate) const MOST_SHARED: usize = 227 << 10;

/// The machine code of some PTX.
pub(crate) fn compile(ptx: &[u8]) -> Answer<Vec<u8>> {
    let text = std::str::from_utf8(ptx).map_err(|_| INVALID_PTX)?;
    if !(text.contains(".version") && text.contains(".target") && text.contains(".address_size 64")) {
        return Err(INVALID_PTX);
    }
    Ok([&MAGIC[..], &(ptx.len() as u64).to_le_bytes(), ptx].concat())
}

/// Loaded PTX.
pub(crate) struct Module {
    ptx: String,
}

impl Module {
    /// From machine code of [`compile`], or from PTX with a NUL behind it.
    ///
    /// # Safety
    /// `image` points to one of these, or to something else that ends with a NUL or has as many bytes as a head.
    pub(crate) unsafe fn load(image: *const u8) -> Answer<Self> {
        // SAFETY: the caller's promise; what begins in another way is not read further.
        let begins = |with: &[u8]| with.iter().enumerate().all(|(i, &byte)| unsafe { *image.add(i) } == byte);
        let ptx = if begins(MAGIC) {
            // SAFETY: the head is there.
            let len = unsafe { image.add(MAGIC.len()).cast::<[u8; 8]>().read() };
            // SAFETY: and so are as many bytes as it says.
            unsafe { std::slice::from_raw_parts(image.add(HEAD), u64::from_le_bytes(len) as usize) }
        } else {
            // SAFETY: the caller's promise.
            let text = unsafe { CStr::from_ptr(image.cast::<c_char>()) }.to_bytes();
            compile(text).map_err(|_| INVALID_IMAGE)?;
            text
        };
        let ptx = String::from_utf8(ptx.to_vec()).map_err(|_| INVALID_IMAGE)?;
        Ok(Self { ptx })
    }

    /// What the entry `name` is run as.
    pub(crate) fn entry(&self, name: &str) -> Answer<Body> {
        if !entries(&self.ptx).any(|entry| entry == name) {
            return Err(NOT_FOUND);
        }
        match registry::find(name) {
            Some(kernel) => Ok(Body::Kernel(kernel)),
            None if self.ptx.contains("trap;") => Ok(Body::Trap),
            // A kernel that the registry lacks.
            None => Err(NOT_SUPPORTED),
        }
    }
}

/// The names of the entries in PTX.
fn entries(ptx: &str) -> impl Iterator<Item = &str> {
    let after = ptx.split(".entry").skip(1);
    after.filter_map(|text| text.split(|c: char| c.is_whitespace() || c == '(').find(|word| !word.is_empty()))
}

/// What a function does when it is launched.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    Kernel(&'static dyn HostKernel),
    Trap,
}

/// An entry of a module that was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Function {
    pub(crate) module: usize,
    pub(crate) body: Body,
    /// Bytes of shared memory that a launch may ask for.
    pub(crate) shared: usize,
}

impl Function {
    pub(crate) fn new(module: usize, body: Body) -> Self {
        Self { module, body, shared: SHARED }
    }
}
