//! Writes small GGUF files, right or wrong, for tests.

#[allow(dead_code, reason = "other tests use it")]
pub(crate) mod llama;

use std::io::Write;
use std::path::PathBuf;

use runtime::gguf::Gguf;
use tempfile::NamedTempFile;

/// A file of `tests/golden`.
pub(crate) fn golden(name: &str) -> PathBuf {
    std::env::var_os("WORKER_ORCD_TEST_DATA")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden").into(), PathBuf::from)
        .join(name)
}

/// A GGUF file in the making. Nothing is checked.
#[derive(Clone, Default)]
pub(crate) struct Draft {
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: usize,
}

impl Draft {
    /// A key with the number of its value's type and the value's bytes.
    pub(crate) fn key(mut self, key: &str, ty: u32, value: impl AsRef<[u8]>) -> Draft {
        self.keys.push([&string(key), &ty.to_le_bytes()[..], value.as_ref()].concat());
        self
    }

    /// The same in place of the key that there is.
    #[allow(dead_code, reason = "other tests use it")]
    pub(crate) fn with(mut self, key: &str, ty: u32, value: impl AsRef<[u8]>) -> Draft {
        self.keys.retain(|there| !there.starts_with(&string(key)));
        self.key(key, ty, value)
    }

    /// A key with text.
    pub(crate) fn text(self, key: &str, value: &str) -> Draft {
        self.key(key, 8, string(value))
    }

    /// A key with a u32.
    pub(crate) fn u32(self, key: &str, value: u32) -> Draft {
        self.key(key, 4, value.to_le_bytes())
    }

    /// A key with an array: the number of the elements' type, and each element's bytes.
    pub(crate) fn array(self, key: &str, element: u32, elements: &[Vec<u8>]) -> Draft {
        let head = [&element.to_le_bytes()[..], &(elements.len() as u64).to_le_bytes()].concat();
        self.key(key, 9, [head, elements.concat()].concat())
    }

    /// A tensor's entry.
    pub(crate) fn tensor(mut self, name: &str, dims: &[u64], ty: u32, offset: u64) -> Draft {
        let dim_bytes = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect::<Vec<u8>>();
        let count = (dims.len() as u32).to_le_bytes();
        self.tensors
            .push([&string(name), &count[..], &dim_bytes, &ty.to_le_bytes(), &offset.to_le_bytes()].concat());
        self
    }

    /// So many bytes of tensor data, after padding to 32.
    pub(crate) fn data(mut self, bytes: usize) -> Draft {
        self.data = bytes;
        self
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let counts = [self.tensors.len() as u64, self.keys.len() as u64].map(u64::to_le_bytes).concat();
        let mut file =
            [b"GGUF", &3u32.to_le_bytes()[..], &counts, &self.keys.concat(), &self.tensors.concat()].concat();
        file.resize(file.len().next_multiple_of(32) + self.data, 0);
        file
    }

    /// Writes and opens it.
    pub(crate) fn open(&self) -> Result<Gguf, String> {
        open(&self.bytes())
    }
}

/// A string as the format has it.
pub(crate) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// Opens a file of these bytes; an error as its one line of text.
pub(crate) fn open(bytes: &[u8]) -> Result<Gguf, String> {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room for a temporary file");
    // The open file outlives the file's name.
    Gguf::open(file.path()).map_err(|error| error.to_string())
}
