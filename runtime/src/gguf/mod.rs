//! Reads GGUF files (versions 2 and 3, little-endian) and trusts nothing in them; makes headers of such files.
//!
//! Opening a file reads its header, whatever the size of its tensors, and keeps a copy; what it says is checked once, in
//! [`Gguf::open`]. Data are read when they are wanted. Nothing is mapped, so that a file which somebody cuts short meanwhile is
//! an error and not a signal.
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
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use error::{GgufError, Problem};
pub use metadata::{Optional, Strings};
pub use tensor::{Tensor, TensorType};
pub use value::{Array, Value, ValueType};
pub use writer::Writer;

use header::{DEFAULT_ALIGNMENT, Header};

/// An open GGUF file: metadata, tensors, and how to read their bytes. Or the header of one that could be, whose tensors are
/// drawn, or made out of other files.
///
/// The length is checked at open, and again by every read. Replace a model by renaming a new file over it: who writes into it
/// makes those fail, or load a mixture of both, that have it open.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    /// The file up to the end of the header, which the ranges of [`Array`] point into; or of a drawn one, up to where its data
    /// would begin.
    header: Vec<u8>,
    data: Data,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
}

/// What there is of the data.
#[derive(Debug)]
enum Data {
    /// A whole file.
    Stored(File),
    /// None: they are drawn from the seed.
    Drawn(u64),
    /// Somebody makes them as they are wanted.
    Made(Box<dyn Source>),
}

/// Makes the data of a header without a file.
pub trait Source: fmt::Debug + Send + Sync {
    /// Fills `into` with the bytes of a tensor from its byte `start` on. Several threads may do so at once.
    ///
    /// # Errors
    /// They cannot be had; names the file and the tensor.
    fn read_into(&self, tensor: &Tensor, start: usize, into: &mut [u8]) -> Result<(), GgufError>;
}

/// Bytes of a file that are read first, which most headers fit in.
const FIRST: usize = 1 << 20;
/// A header of more bytes is refused: it is kept in memory, and the largest vocabularies take a tenth.
const MAX_HEADER: usize = 256 << 20;

/// Where a tensor's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// They are in the file, or made as they would be there: `tensor.ty` blocks, row after row, the first dimension fastest. See
    /// [`Gguf::read`].
    Stored,
    /// They are drawn from this seed, see [`synthetic`](crate::synthetic).
    Drawn(u64),
}

impl Gguf {
    /// Opens `path` and checks its whole header.
    ///
    /// # Errors
    /// A [`GgufError`] with the file's path: it cannot be read, is no GGUF file, is cut short, or a key, tensor or
    /// field in it, which the error names, is not as the format says.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let fail = |problem| GgufError { path: path.to_owned(), problem };
        let file = crate::file::open(path).map_err(|error| fail(Problem::Io(error)))?;
        let len = file.metadata().map_err(|error| fail(Problem::Io(error)))?.len();
        let len = usize::try_from(len).map_err(|_| fail(Problem::Io(io::ErrorKind::FileTooLarge.into())))?;
        let (bytes, header) = read_header(&file, len).map_err(fail)?;
        Ok(Self::new(path.to_owned(), bytes, Data::Stored(file), header))
    }

    /// A file that is not there: `header` is all of it, and its tensors' data are drawn from `seed`. `name` stands for the
    /// path in errors.
    ///
    /// # Errors
    /// As of [`open`](Self::open), if the header is not as the format says.
    pub fn drawn(name: &str, header: Vec<u8>, seed: u64) -> Result<Gguf, GgufError> {
        let parsed = Header::parse(&header, usize::MAX)
            .map_err(|problem| GgufError { path: PathBuf::from(name), problem })?;
        Ok(Self::new(PathBuf::from(name), header, Data::Drawn(seed), parsed))
    }

    /// A file that is not there: `header` is all of it, and its tensors' data are made by `source`. `path` is what errors name.
    ///
    /// # Errors
    /// As of [`open`](Self::open), if the header is not as the format says.
    pub fn made(path: &Path, header: Vec<u8>, source: Box<dyn Source>) -> Result<Gguf, GgufError> {
        let parsed = Header::parse(&header, usize::MAX)
            .map_err(|problem| GgufError { path: path.to_owned(), problem })?;
        Ok(Self::new(path.to_owned(), header, Data::Made(source), parsed))
    }

    fn new(path: PathBuf, header: Vec<u8>, data: Data, parsed: Header) -> Gguf {
        let Header { metadata, tensors, .. } = parsed;
        let by_name = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        Gguf { path, header, data, metadata, tensors, by_name }
    }

    /// The header's bytes.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header
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
    pub fn content(&self) -> Content {
        match self.data {
            Data::Stored(_) | Data::Made(_) => Content::Stored,
            Data::Drawn(seed) => Content::Drawn(seed),
        }
    }

    /// Fills `into` with the stored bytes of a tensor, see [`Content::Stored`], from its byte `start` on.
    ///
    /// # Errors
    /// The file cannot be read, or is shorter than it was when it was opened.
    ///
    /// # Panics
    /// If the data are drawn; if the tensor has not so many bytes.
    pub fn read_into(&self, tensor: &Tensor, start: usize, into: &mut [u8]) -> Result<(), GgufError> {
        let at = tensor.bytes.start + start;
        assert!(at + into.len() <= tensor.bytes.end, "bytes of the tensor");
        let file = match &self.data {
            Data::Stored(file) => file,
            Data::Made(source) => return source.read_into(tensor, start, into),
            Data::Drawn(_) => panic!("the data of {} are drawn where they are used", self.path.display()),
        };
        file.read_exact_at(into, at as u64).map_err(|error| {
            let subject = || format!("tensor {:?}", tensor.name);
            self.fail(failed(error, file, subject, at + into.len()))
        })
    }

    /// Some stored bytes of a tensor, see [`read_into`](Self::read_into).
    ///
    /// # Errors
    /// As of [`read_into`](Self::read_into).
    ///
    /// # Panics
    /// As [`read_into`](Self::read_into).
    pub fn read(&self, tensor: &Tensor, range: Range<usize>) -> Result<Vec<u8>, GgufError> {
        let mut bytes = vec![0; range.len()];
        self.read_into(tensor, range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// All stored bytes of a tensor, see [`read_into`](Self::read_into).
    ///
    /// # Errors
    /// As of [`read_into`](Self::read_into).
    ///
    /// # Panics
    /// As [`read_into`](Self::read_into).
    pub fn data(&self, tensor: &Tensor) -> Result<Vec<u8>, GgufError> {
        self.read(tensor, 0..tensor.bytes.len())
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

/// Reads as much of a file of `len` bytes as its header takes: the bytes of the header, and what they say.
fn read_header(file: &File, len: usize) -> Result<(Vec<u8>, Header), Problem> {
    let (mut bytes, mut wanted) = (Vec::new(), FIRST);
    loop {
        let had = bytes.len();
        bytes.resize(wanted.min(len), 0);
        file.read_exact_at(&mut bytes[had..], had as u64)
            .map_err(|error| failed(error, file, || "the header".to_owned(), bytes.len()))?;
        match Header::parse(&bytes, len) {
            // It goes on in the file.
            Err(Problem::Truncated { subject, field, offset, needed, .. }) if needed <= len as u64 => {
                if needed > MAX_HEADER as u64 {
                    return Err(Problem::Header { subject, field, offset });
                }
                wanted = (2 * wanted).max(needed as usize).min(MAX_HEADER);
            }
            parsed => {
                let parsed = parsed?;
                bytes.truncate(parsed.len);
                bytes.shrink_to_fit();
                return Ok((bytes, parsed));
            }
        }
    }
}

/// Why bytes up to `needed` could not be read, although the file had them when it was opened.
fn failed(error: io::Error, file: &File, subject: impl Fn() -> String, needed: usize) -> Problem {
    if error.kind() != io::ErrorKind::UnexpectedEof {
        return Problem::Io(error);
    }
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    Problem::Shrunk { subject: subject(), needed: needed as u64, len }
}
