//! A model as users have it: a GGUF file, or a Hugging Face folder.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::chat_template::ChatTemplate;
use crate::gguf::{Gguf, GgufError};
use crate::huggingface::{self, FolderError, Quant};
use crate::model_hash::ModelFile;
use crate::receipt::Digest;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// An open GGUF file or Hugging Face folder.
#[derive(Debug)]
pub struct Checkpoint {
    gguf: Gguf,
    /// Where the tokenizer's files are.
    folder: Option<PathBuf>,
}

/// Why there is no model at a path.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] GgufError),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file was to be quantised.
    #[error("{} is a GGUF file, whose weights are used as they are stored: only a folder is quantised", .0.display())]
    Quant(PathBuf),
}

impl Checkpoint {
    /// Opens a file or a folder and checks what it says of itself. `quant` is for folders.
    ///
    /// # Errors
    /// See [`Gguf::open`] and [`huggingface::open`].
    pub fn open(path: &Path, quant: Option<Quant>) -> Result<Self, CheckpointError> {
        if path.is_dir() {
            let gguf = huggingface::open(path, quant)?;
            return Ok(Self { gguf, folder: Some(path.to_owned()) });
        }
        if quant.is_some() {
            return Err(CheckpointError::Quant(path.to_owned()));
        }
        Ok(Self { gguf: Gguf::open(path)?, folder: None })
    }

    /// The model: settings and tensors.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The model alone.
    pub fn into_gguf(self) -> Gguf {
        self.gguf
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// It is not there, or not supported.
    pub fn tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        match &self.folder {
            None => Tokenizer::from_gguf(&self.gguf),
            Some(folder) => Tokenizer::from_folder(folder),
        }
    }

    /// The chat template, if there is one.
    ///
    /// # Errors
    /// Settings of the wrong type.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, CheckpointError> {
        match &self.folder {
            None => Ok(ChatTemplate::from_gguf(&self.gguf)?),
            Some(folder) => Ok(huggingface::chat_template(folder)?),
        }
    }
}

/// A model without files beside it, a synthetic one for instance.
impl From<Gguf> for Checkpoint {
    fn from(gguf: Gguf) -> Self {
        Self { gguf, folder: None }
    }
}

/// The files of a model as they were when somebody looked.
#[derive(Debug)]
pub struct CheckpointFiles {
    /// With their names in a folder.
    files: Vec<(String, ModelFile)>,
    folder: bool,
    quant: Option<Quant>,
}

impl CheckpointFiles {
    /// Looks at a file, or at those that are read of a folder.
    ///
    /// # Errors
    /// One is not there, or may not be looked at.
    pub fn of(path: &Path, quant: Option<Quant>) -> io::Result<Self> {
        let folder = path.is_dir();
        let paths =
            if folder { huggingface::files(path).map_err(io::Error::other)? } else { vec![path.to_owned()] };
        let file = |path: &PathBuf| {
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            Ok((name, ModelFile::of(path)?))
        };
        Ok(Self { files: paths.iter().map(file).collect::<io::Result<_>>()?, folder, quant })
    }

    /// The hash of a file's content. That of a folder: of a line for each file, `HASH  NAME`, in the order of their names, and
    /// of `quant NAME` if it is quantised. As of [`ModelFile::hash`].
    ///
    /// # Errors
    /// A file cannot be read, or is not what it was.
    pub fn hash(&self, cache: Option<&Path>, threads: usize) -> io::Result<Digest> {
        let mut hashes = Vec::new();
        for (name, file) in &self.files {
            hashes.push((name, file.hash(cache, threads)?));
        }
        match (self.folder, hashes.as_slice()) {
            (false, &[(_, hash)]) => Ok(hash),
            _ => Ok(Digest::of(Lines { hashes: &hashes, quant: self.quant }.to_string().as_bytes())),
        }
    }
}

/// What a folder's hash is of.
struct Lines<'a> {
    hashes: &'a [(&'a String, Digest)],
    quant: Option<Quant>,
}

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, hash) in self.hashes {
            writeln!(f, "{hash}  {name}")?;
        }
        match self.quant {
            Some(quant) => writeln!(f, "quant {}", quant.name()),
            None => Ok(()),
        }
    }
}
