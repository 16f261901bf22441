use std::path::{Path, PathBuf};
use std::{io, process};

use crate::compiler::NoCompiler;

/// Why there are no images.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sources have changed and nothing can compile them.
    #[error(transparent)]
    NoCompiler(#[from] NoCompiler),
    /// A step of the pipeline failed.
    #[error("{step} failed ({status}):\n{stderr}")]
    Step {
        /// What was compiled, and with what.
        step: String,
        /// How the program ended.
        status: process::ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// An exported function has no family to go to.
    #[error(
        "the entry `{entry}` belongs to no family: name it FAMILY__NAME, where kernels/src/FAMILY.rs is its source"
    )]
    NoFamily {
        /// The function.
        entry: String,
    },
    /// A function was named like an entry but is none.
    #[error("`{entry}` is exported, but it is no kernel: declare it `extern \"ptx-kernel\"`")]
    NotAKernel {
        /// The function.
        entry: String,
    },
    /// The PTX holds an instruction that would break the promises about bits.
    #[error("{image}, line {line}, in `{function}`: `{instruction}` {reason}")]
    Forbidden {
        /// Chip and family.
        image: String,
        /// Line of the PTX, from 1.
        line: usize,
        /// The function it is in.
        function: String,
        /// The statement.
        instruction: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The manifest is no manifest.
    #[error("{}: {source}; write it anew with `cargo run -p cuda_builder`", path.display())]
    BadManifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// A committed image is not the one that was built.
    #[error("{}: not the image its manifest names; write it anew with `cargo run -p cuda_builder`", path.display())]
    EditedImage {
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    /// Names the file an I/O error is about.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Error + use<'_> {
        move |source| Error::Io { path: path.to_owned(), source }
    }
}
