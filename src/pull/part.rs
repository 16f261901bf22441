//! A model's file in the making: counted, hashed and shown while it grows.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::progress::Progress;
use crate::catalogue::Entry;
use crate::sha256::hex;

/// Why a source did not give the file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The hub's address cannot be made.
    #[error("{0}")]
    Hub(#[from] Box<hf_hub::api::sync::ApiError>),
    /// The request failed.
    #[error("{0}")]
    Http(#[from] Box<ureq::Error>),
    /// There is no pip to ask.
    #[error("no pip found (tried pip, pip3 and python3 -m pip): install Python's pip")]
    NoPip,
    /// pip failed.
    #[error("pip failed: {0}")]
    Pip(String),
    /// pip gave no wheel, or one that cannot be read.
    #[error("the wheel cannot be used: {0}")]
    Wheel(String),
    /// The file ended early or does not end.
    #[error("the file has {got} bytes, but {expected} were expected")]
    Size {
        /// Bytes that came.
        got: u64,
        /// Bytes of the catalogue.
        expected: u64,
    },
    /// The file is another one.
    #[error("the file's sha256 is {got}, but {expected} was expected: it is refused")]
    Hash {
        /// What came.
        got: String,
        /// What the catalogue says.
        expected: &'static str,
    },
    /// A transfer broke off, or a file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file being written.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// Takes the file's bytes; what a source writes into.
pub(super) struct Part {
    entry: &'static Entry,
    path: PathBuf,
    file: File,
    written: u64,
    hash: Sha256,
    progress: Progress,
}

impl Part {
    /// An empty file in the workspace.
    pub(super) fn create(entry: &'static Entry, workspace: &Path) -> Result<Part, FetchError> {
        let path = workspace.join(entry.file);
        let file = File::create(&path).map_err(|source| FetchError::Io { path: path.clone(), source })?;
        let progress = Progress::new(entry.name, entry.bytes);
        Ok(Part { entry, path, file, written: 0, hash: Sha256::new(), progress })
    }

    /// Copies all of `from`, or as much as shows that it is too long.
    pub(super) fn copy(&mut self, from: impl io::Read) -> Result<(), FetchError> {
        let room = self.entry.bytes + 1;
        let copied = io::copy(&mut from.take(room), self);
        copied.map(drop).map_err(|source| FetchError::Io { path: self.path.clone(), source })
    }

    /// Bytes that a source has before it gives them here, shown to the user.
    pub(super) fn show(&mut self, bytes: u64) {
        self.progress.set(bytes);
    }

    /// The path of the file, if it is the catalogue's.
    pub(super) fn finish(self) -> Result<PathBuf, FetchError> {
        let Entry { bytes, sha256, .. } = *self.entry;
        if self.written != bytes {
            return Err(FetchError::Size { got: self.written, expected: bytes });
        }
        let got = hex(self.hash);
        if got != sha256 {
            return Err(FetchError::Hash { got, expected: sha256 });
        }
        // A crash after the rename must not leave a name without its bytes.
        self.file.sync_all().map_err(|source| FetchError::Io { path: self.path.clone(), source })?;
        Ok(self.path)
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.written += count as u64;
        self.progress.set(self.written);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
