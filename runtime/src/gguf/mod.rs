//! Reads GGUF files (versions 2 and 3, little-endian) and trusts nothing in them.
//!
//! The file is mapped, not read: opening one costs its header, whatever the size of its tensors. What the header
//! says is checked once, in [`Gguf::open`]; afterwards every access is in bounds.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod error;
mod header;
mod metadata;
mod reader;
mod tensor;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

pub use error::{GgufError, Problem};
pub use metadata::{Optional, Strings};
pub use tensor::{Tensor, TensorType};
pub use value::{Array, Value, ValueType};

use header::Header;

/// An open GGUF file: metadata, tensors, and their bytes in a read-only map.
///
/// The length is checked once, at open. Whoever shortens the file while it is mapped makes the kernel raise
/// `SIGBUS` on the next access: replace a model by renaming a new file over it, never by writing into it.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    map: Mmap,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
}

impl Gguf {
    /// Maps `path` and checks its whole header.
    ///
    /// # Errors
    /// A [`GgufError`] with the file's path: it cannot be read, is no GGUF file, is cut short, or a key, tensor or
    /// field in it, which the error names, is not as the format says.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let fail = |problem| GgufError { path: path.to_owned(), problem };
        let file = File::open(path).map_err(|error| fail(Problem::Io(error)))?;
        // SAFETY: a private, read-only map. Its bytes change only if another process writes to the file, which
        // the type's documentation forbids; they are plain data for which every bit pattern is valid, and text
        // is checked to be UTF-8 on each access.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| fail(Problem::Io(error)))?;
        let Header { metadata, tensors } = Header::parse(&map).map_err(fail)?;
        let by_name = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        Ok(Gguf { path: path.to_owned(), map, metadata, tensors, by_name })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors, in the file's order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// The stored bytes of a tensor: `tensor.ty` blocks, row after row, the first dimension fastest.
    ///
    /// # Panics
    /// If `tensor` is of another file and lies outside this one.
    pub fn data(&self, tensor: &Tensor) -> &[u8] {
        &self.map[tensor.bytes.clone()]
    }

    /// The type that most bytes of the weight matrices (two dimensions or more) are stored in; `None` without any.
    pub fn quant_kind(&self) -> Option<TensorType> {
        let mut bytes: BTreeMap<TensorType, usize> = BTreeMap::new();
        for tensor in self.tensors.iter().filter(|tensor| tensor.dims.len() >= 2) {
            *bytes.entry(tensor.ty).or_default() += tensor.bytes.len();
        }
        bytes.into_iter().max_by_key(|&(_, bytes)| bytes).map(|(ty, _)| ty)
    }
}
