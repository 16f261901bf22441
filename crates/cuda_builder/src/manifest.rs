use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::source::sha256;
use crate::{Compiler, Error, Image};

/// The folder of committed images, below the workspace's root.
pub(crate) const FOLDER: &str = "kernels/ptx";

/// The manifest's place below the workspace's root.
pub const MANIFEST: &str = "kernels/ptx/manifest.toml";

/// What the committed images were built from and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The [`fingerprint`](crate::fingerprint) of the sources.
    pub sources: String,
    /// The [`version`](Compiler::version) of the compiler.
    pub compiler: String,
    /// SHA-256 of each image, by its file: `sm_80/norm.ptx`.
    pub images: BTreeMap<String, String>,
}

impl Manifest {
    /// The manifest of `images`, built by `compiler` from the sources with that fingerprint.
    pub fn new(images: &[Image], compiler: &Compiler, sources: String) -> Manifest {
        let images = images.iter().map(|image| (image.file(), sha256(image.ptx.as_bytes()))).collect();
        Manifest { sources, compiler: compiler.version().to_owned(), images }
    }

    /// The committed manifest; `None` where there is none yet.
    ///
    /// # Errors
    /// It cannot be read, or is no manifest.
    pub fn read(root: &Path) -> Result<Option<Manifest>, Error> {
        let path = root.join(MANIFEST);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        toml::from_str(&text)
            .map(Some)
            .map_err(|source| Error::BadManifest { path, source: Box::new(source) })
    }

    /// Reads the images it names, sorted by chip and family.
    ///
    /// # Errors
    /// An image is missing, or is not the one that was built.
    pub fn images(&self, root: &Path) -> Result<Vec<Image>, Error> {
        let folder = root.join(FOLDER);
        let read = |(file, hash): (&String, &String)| {
            let path = folder.join(file);
            let ptx = fs::read_to_string(&path).map_err(Error::io(&path))?;
            match file.strip_suffix(".ptx").and_then(|name| name.split_once('/')) {
                Some((chip, family)) if sha256(ptx.as_bytes()) == *hash => {
                    Ok(Image { chip: chip.to_owned(), family: family.to_owned(), ptx })
                }
                _ => Err(Error::EditedImage { path }),
            }
        };
        self.images.iter().map(read).collect()
    }

    pub(crate) fn write(&self, root: &Path) -> Result<(), Error> {
        let path = root.join(MANIFEST);
        let body = toml::to_string(self).expect("strings and a table of strings are TOML");
        let text = format!("# Written by `cargo run -p cuda_builder`.\n{body}");
        fs::write(&path, text).map_err(Error::io(&path))
    }
}
