//! Reads GGUF files (versions 2 and 3, little-endian) and trusts nothing in them; makes headers of such files.
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
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

pub use error::{GgufError, Problem};
pub use metadata::{Optional, Strings};
pub use tensor::{Tensor, TensorType};
pub use value::{Array, Value, ValueType};
pub use writer::Writer;

use header::{DEFAULT_ALIGNMENT, Header};

/// An open GGUF file: metadata, tensors, and their bytes in a read-only map. Or the header of one that could be, whose
/// tensors are drawn.
///
/// The length is checked once, at open. Whoever shortens the file while it is mapped makes the kernel raise
/// `SIGBUS` on the next access: replace a model by renaming a new file over it, never by writing into it.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    bytes: Bytes,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
}

/// Where the header is, and what of the data there is.
#[derive(Debug)]
enum Bytes {
    /// A whole file.
    Mapped(Mmap),
    /// No data: they are drawn from the seed.
    Drawn { header: Vec<u8>, seed: u64 },
    /// No data: somebody else has them.
    Given { header: Vec<u8>, source: Box<dyn Source> },
}

/// Whoever has the tensors' bytes of a header without a file.
pub trait Source: fmt::Debug + Send + Sync {
    /// Fills `into` with the bytes of `tensor` from its byte `start` on. Several threads may do so at once.
    ///
    /// # Errors
    /// They cannot be had; names the file and the tensor.
    fn read(&self, tensor: &Tensor, start: usize, into: &mut [u8]) -> Result<(), GgufError>;
}

/// Where a tensor's bytes come from.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// They are in the file: `tensor.ty` blocks, row after row, the first dimension fastest.
    Stored(&'a [u8]),
    /// They are drawn from this seed, see [`synthetic`](crate::synthetic).
    Drawn(u64),
    /// They are to be asked for, see [`Gguf::read`].
    Given(&'a dyn Source),
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
        let header = Header::parse(&map, map.len()).map_err(fail)?;
        Ok(Self::new(path.to_owned(), Bytes::Mapped(map), header))
    }

    /// A file that is not there: `header` is all of it, and its tensors' data are drawn from `seed`. `name` stands for the
    /// path in errors.
    ///
    /// # Errors
    /// As of [`open`](Self::open), if the header is not as the format says.
    pub fn drawn(name: &str, header: Vec<u8>, seed: u64) -> Result<Gguf, GgufError> {
        let parsed = Header::parse(&header, usize::MAX)
            .map_err(|problem| GgufError { path: PathBuf::from(name), problem })?;
        Ok(Self::new(PathBuf::from(name), Bytes::Drawn { header, seed }, parsed))
    }

    /// A file that is not there: `header` is all of it, and its tensors' data are those that `source` gives. `path` is what
    /// errors name.
    ///
    /// # Errors
    /// As of [`open`](Self::open), if the header is not as the format says.
    pub fn given(path: &Path, header: Vec<u8>, source: Box<dyn Source>) -> Result<Gguf, GgufError> {
        let parsed = Header::parse(&header, usize::MAX)
            .map_err(|problem| GgufError { path: path.to_owned(), problem })?;
        Ok(Self::new(path.to_owned(), Bytes::Given { header, source }, parsed))
    }

    fn new(path: PathBuf, bytes: Bytes, header: Header) -> Gguf {
        let Header { metadata, tensors } = header;
        let by_name = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        Gguf { path, bytes, metadata, tensors, by_name }
    }

    /// The bytes that the header's ranges point into: all of a file, or the header alone of a drawn one, up to where its
    /// data would begin.
    pub(crate) fn header(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Drawn { header, .. } | Bytes::Given { header, .. } => header,
        }
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

    /// Where the bytes of a tensor come from.
    ///
    /// # Panics
    /// If `tensor` is of another file and lies outside this one.
    pub fn content(&self, tensor: &Tensor) -> Content<'_> {
        match &self.bytes {
            Bytes::Mapped(map) => Content::Stored(&map[tensor.bytes.clone()]),
            Bytes::Drawn { seed, .. } => Content::Drawn(*seed),
            Bytes::Given { source, .. } => Content::Given(source.as_ref()),
        }
    }

    /// The stored bytes of a tensor, see [`Content::Stored`].
    ///
    /// # Panics
    /// If the file is not there; if `tensor` is of another file and lies outside this one.
    pub fn data(&self, tensor: &Tensor) -> &[u8] {
        match self.content(tensor) {
            Content::Stored(bytes) => bytes,
            _ => panic!("the data of {} are made where they are used", self.path.display()),
        }
    }

    /// Some of a tensor's bytes.
    ///
    /// # Errors
    /// The source of a given file fails.
    ///
    /// # Panics
    /// If the data are drawn; if the range is outside of the tensor.
    pub fn read(&self, tensor: &Tensor, range: Range<usize>) -> Result<Vec<u8>, GgufError> {
        match self.content(tensor) {
            Content::Given(source) => {
                assert!(range.end <= tensor.bytes.len(), "a range of the tensor");
                let mut bytes = vec![0; range.len()];
                source.read(tensor, range.start, &mut bytes)?;
                Ok(bytes)
            }
            _ => Ok(self.data(tensor)[range].to_vec()),
        }
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
