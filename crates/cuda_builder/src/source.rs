use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{CHIP, Error, OTHERS, pipeline, warpgroup};

/// What the images are made of: folders below the workspace's root. Manifests of the two crates are not among
/// them, because the pipeline does not read them.
pub const INPUTS: &[&str] = &["crates/cuda_std/src", "kernels/src"];

/// SHA-256 over everything that decides what the images are, but for the compiler's version: the sources, the
/// chips and the pipeline itself.
///
/// # Errors
/// A source cannot be read.
pub fn fingerprint(root: &Path) -> Result<String, Error> {
    let mut files = Vec::new();
    for input in INPUTS {
        list(&root.join(input), &mut files)?;
    }
    files.sort();

    let mut hash = Sha256::new();
    // Lengths go first, so that no two trees run together to the same bytes.
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(pipeline::SOURCE.as_bytes());
    add(warpgroup::SOURCE.as_bytes());
    add(CHIP.as_bytes());
    OTHERS.iter().for_each(|other| add(format!("{other:?}").as_bytes()));
    for file in &files {
        let name = file.strip_prefix(root).unwrap_or(file);
        add(name.as_os_str().as_encoded_bytes());
        add(&fs::read(file).map_err(Error::io(file))?);
    }
    Ok(hex(&hash.finalize()))
}

/// SHA-256 of `bytes` in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_sees_every_change_and_no_place() {
        let base = std::env::temp_dir().join(format!("cuda_builder-{}", std::process::id()));
        let tree = |name: &str| {
            let root = base.join(name);
            for input in INPUTS {
                fs::create_dir_all(root.join(input).join("deep")).unwrap();
                fs::write(root.join(input).join("deep/a.rs"), "fn a() {}").unwrap();
            }
            root
        };
        let (one, other) = (tree("one"), tree("other"));
        let at_first = fingerprint(&one).unwrap();
        assert_eq!(at_first, fingerprint(&other).unwrap());

        let deep = other.join(INPUTS[1]).join("deep");
        fs::write(deep.join("a.rs"), "fn a() { }").unwrap();
        assert_ne!(at_first, fingerprint(&other).unwrap(), "changed content");
        fs::write(deep.join("a.rs"), "fn a() {}").unwrap();
        fs::rename(deep.join("a.rs"), deep.join("b.rs")).unwrap();
        assert_ne!(at_first, fingerprint(&other).unwrap(), "changed name");
        fs::remove_dir_all(base).unwrap();
    }
}
