//! Compiles the workspace's `kernels` crate to PTX: one image for each kernel family and chip.
//!
//! `cargo run -p cuda_builder` builds every image and writes `kernels/ptx/` with its manifest. The root package's
//! build script calls [`images`]: it gets the committed images as long as they belong to the kernel sources, so
//! that a user needs nothing but stable Rust, and freshly built ones as soon as a kernel is edited.
//!
//! This crate plays the role of the published crate of the same name. That one drives `rustc_codegen_nvvm`, which
//! needs a nightly of 2021, LLVM 7 and a CUDA toolkit; this one drives the NVPTX backend inside rustc, and wants a
//! rustc together with its own library source and LLVM tools ([`Compiler::find`]).
//!
//! A family is a file of `kernels/src`, and its entries are named after it: `norm.rs` holds `norm__rms`.

mod compiler;
mod error;
mod manifest;
mod pipeline;
pub mod ptx;
mod source;
mod warpgroup;

use std::fs;
use std::path::{Path, PathBuf};

pub use compiler::{COMPILER_VARIABLE, Compiler, NoCompiler};
pub use error::Error;
pub use manifest::{MANIFEST, Manifest};
pub use pipeline::{build, cache_folder};
pub use source::{INPUTS, fingerprint};

/// The chip that images are built for: a driver loads one on its own chip and on every later one.
pub const CHIP: &str = "sm_80";

/// The families whose instructions only another chip has, and how many registers a thread of their kernels may take whose names
/// end so, that there is room for the threads of a multiprocessor.
pub const OTHERS: &[Other] = &[
    Other { family: "broad", chip: "sm_90a", registers: &[("_128", 168), ("_256", 168)] },
    Other { family: "warpgroup", chip: "sm_90a", registers: &[("_32_wide", 128)] },
    Other { family: "prompt_group", chip: "sm_90a", registers: &[] },
];

/// A family for another chip than the others.
#[derive(Debug)]
pub struct Other {
    /// The family.
    pub family: &'static str,
    /// Its chip.
    pub chip: &'static str,
    /// Ends of names, and registers.
    pub registers: &'static [(&'static str, u32)],
}

/// The kernels of one family, compiled for one chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The chip, such as `sm_80`.
    pub chip: String,
    /// The source file in `kernels/src` that the entries come from, without its extension.
    pub family: String,
    /// The PTX text.
    pub ptx: String,
}

impl Image {
    /// Where the image lies below the folder of images: `sm_80/norm.ptx`.
    pub fn file(&self) -> String {
        format!("{}/{}.ptx", self.chip, self.family)
    }
}

/// Where the images came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Read from `kernels/ptx`: they belong to the sources as they are.
    Committed,
    /// Built now, because the sources have changed since.
    Built,
}

/// The images of the workspace at `root`, sorted by chip and family: the committed ones if they belong to the
/// sources as they are now, else built ones.
///
/// # Errors
/// The committed images are incomplete or were edited, there is no compiler, or the kernels do not compile.
pub fn images(root: &Path) -> Result<(Vec<Image>, Origin), Error> {
    if let Some(manifest) = Manifest::read(root)?
        && manifest.sources == fingerprint(root)?
    {
        return Ok((manifest.images(root)?, Origin::Committed));
    }
    let images = build(&Compiler::find()?, root, &cache_folder(root))?;
    Ok((images, Origin::Built))
}

/// One hash for all of `images`.
pub fn digest(images: &[Image]) -> String {
    let lines =
        images.iter().map(|image| format!("{} {}\n", image.file(), source::sha256(image.ptx.as_bytes())));
    source::sha256(lines.collect::<String>().as_bytes())
}

/// Replaces the committed images and their manifest. Returns the folder they are in.
///
/// # Errors
/// The folder cannot be written.
pub fn commit(images: &[Image], compiler: &Compiler, root: &Path) -> Result<PathBuf, Error> {
    let folder = root.join(manifest::FOLDER);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Error::io(&folder))?;
    }
    for image in images {
        let path = folder.join(image.file());
        fs::create_dir_all(folder.join(&image.chip)).map_err(Error::io(&folder))?;
        fs::write(&path, &image.ptx).map_err(Error::io(&path))?;
    }
    Manifest::new(images, compiler, fingerprint(root)?).write(root)?;
    Ok(folder)
}
