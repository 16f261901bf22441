//! Compiled kernels kept in a folder, so that only the first start on a machine waits for the driver's compiler.
//!
//! A file belongs to one PTX text, driver and chip, and holds the hash of these, the hash of the machine code, and the
//! machine code. Nothing here can fail: a file that is missing, broken or refused by the driver costs a compilation, a
//! folder that cannot be written costs it every time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

/// How a file begins; the number is the format's.
const MAGIC: &[u8; 8] = b"WOIMAGE1";
/// Bytes of a hash.
const HASH: usize = 32;
/// Files kept of one kernel and chip, for programs and drivers in turns.
const KEPT: usize = 4;

/// A folder of compiled kernels.
#[derive(Debug, Clone)]
pub(crate) struct ImageCache {
    folder: PathBuf,
}

/// What a compiled image depends on.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// How the names of this kernel's files for this chip begin.
    prefix: String,
    hash: [u8; HASH],
}

impl Key {
    /// For a kernel's PTX, compiled by `driver` for `chip`.
    pub(crate) fn new(kernel: &str, chip: &str, ptx: &str, driver: &str) -> Self {
        let mut hasher = Sha256::new();
        for part in [kernel, chip, driver, ptx] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self { prefix: format!("{kernel}.{chip}."), hash: hasher.finalize().into() }
    }

    fn file_name(&self) -> String {
        let hex: String = self.hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}{hex}.cubin", self.prefix)
    }
}

impl ImageCache {
    /// The folder need not exist yet.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What `load` makes of the image: the kept one, or else what `compile` answers, which is then kept. Says whether it
    /// was the kept one.
    ///
    /// # Errors
    /// Those of `compile`, and of `load` for what was just compiled.
    pub(crate) fn load<M, E>(
        &self,
        key: &Key,
        load: impl Fn(&[u8]) -> Result<M, E>,
        compile: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<(M, bool), E> {
        let path = self.folder.join(key.file_name());
        if let Some(loaded) = read(&path, key).and_then(|image| load(&image).ok()) {
            return Ok((loaded, true));
        }
        let image = compile()?;
        let loaded = load(&image)?;
        if let Err(error) = self.keep(&path, key, &image) {
            tracing::debug!(path = %path.display(), %error, "compiled kernels are not kept");
        }
        Ok((loaded, false))
    }

    /// Under a name of its own first, so that nobody reads half of it.
    fn keep(&self, path: &Path, key: &Key, image: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let part = self.folder.join(format!(".{}.{}", key.file_name(), process::id()));
        let content = [&MAGIC[..], &key.hash, &Sha256::digest(image), image].concat();
        let written = fs::write(&part, content).and_then(|()| fs::rename(&part, path));
        if written.is_err() {
            // It may not be there; the first error counts.
            let _ = fs::remove_file(&part);
        }
        written?;
        self.forget_old(key)
    }

    /// Removes the oldest files of the key's kernel and chip.
    fn forget_old(&self, key: &Key) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&key.prefix) {
                files.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        files.sort();
        files.iter().rev().skip(KEPT).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// The image in a file, if it is whole and the key's.
fn read(path: &Path, key: &Key) -> Option<Vec<u8>> {
    let content = fs::read(path).ok()?;
    let rest = content.strip_prefix(MAGIC)?.strip_prefix(&key.hash)?;
    let (hash, image) = rest.split_at_checked(HASH)?;
    (*hash == *Sha256::digest(image)).then(|| image.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A compiler that answers this, and a driver that takes whatever begins with `ELF`.
    const IMAGE: &[u8] = b"ELF machine code";

    fn driver(image: &[u8]) -> Result<Vec<u8>, &'static str> {
        if image.starts_with(b"ELF") { Ok(image.to_vec()) } else { Err("refused") }
    }

    fn key() -> Key {
        Key::new("norm", "sm_90", ".version 7.0", "13.0")
    }

    /// Loads the key's image, and says whether it came from the cache.
    fn load(folder: &Path, key: &Key) -> bool {
        let cache = ImageCache::new(folder.to_owned());
        let (image, cached) = cache.load(key, driver, || Ok(IMAGE.to_vec())).unwrap();
        assert_eq!(image, IMAGE);
        cached
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn an_image_is_compiled_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("made").join("when needed");
        assert!(!load(&folder, &key()));
        assert!(load(&folder, &key()));
        let [file] = &files(&folder)[..] else { panic!("one file, and nothing half-made") };
        assert!(file.file_name().unwrap().to_str().unwrap().starts_with("norm.sm_90."), "{file:?}");
    }

    #[test]
    fn text_kernel_chip_and_driver_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!load(dir.path(), &key()));
        for other in [
            Key::new("norm", "sm_90", ".version 7.1", "13.0"),
            Key::new("rope", "sm_90", ".version 7.0", "13.0"),
            Key::new("norm", "sm_80", ".version 7.0", "13.0"),
            Key::new("norm", "sm_90", ".version 7.0", "13.1"),
            Key::new("norm", "sm_9", "0.version 7.0", "13.0"),
        ] {
            assert!(!load(dir.path(), &other), "{other:?}");
        }
        assert!(load(dir.path(), &key()));
    }

    #[test]
    fn a_broken_file_costs_a_compilation_and_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        load(dir.path(), &key());
        let path = dir.path().join(key().file_name());
        let whole = fs::read(&path).unwrap();
        // Every byte counts, and every length.
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            fs::write(&path, &broken).unwrap();
            assert!(!load(dir.path(), &key()), "byte {at} changed");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(!load(dir.path(), &key()), "cut off after {at}");
            assert!(load(dir.path(), &key()), "mended");
        }
    }

    #[test]
    fn a_file_under_anothers_name_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let other = Key::new("norm", "sm_90", "other", "13.0");
        load(dir.path(), &other);
        fs::rename(dir.path().join(other.file_name()), dir.path().join(key().file_name())).unwrap();
        assert!(!load(dir.path(), &key()));
    }

    #[test]
    fn an_image_that_the_driver_refuses_is_compiled_anew() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ImageCache::new(dir.path().to_owned());
        // Kept by a driver that took it.
        let (_, cached) = cache.load(&key(), |_| Ok::<_, ()>(()), || Ok(b"old".to_vec())).unwrap();
        assert!(!cached);
        assert!(!load(dir.path(), &key()));
        assert!(load(dir.path(), &key()));
    }

    #[test]
    fn a_folder_that_cannot_be_made_costs_every_compilation() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "no folder").unwrap();
        assert!(!load(&file, &key()));
        assert!(!load(&file, &key()));
    }

    #[test]
    fn errors_are_the_compilers_and_nothing_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ImageCache::new(dir.path().to_owned());
        assert_eq!(cache.load(&key(), driver, || Err("no compiler")), Err("no compiler"));
        assert_eq!(cache.load(&key(), driver, || Ok(b"nonsense".to_vec())), Err("refused"));
        assert!(files(dir.path()).is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let bystander = Key::new("rope", "sm_90", "", "");
        load(dir.path(), &bystander);
        let keys: Vec<Key> =
            (0..KEPT + 2).map(|i| Key::new("norm", "sm_90", &i.to_string(), "13.0")).collect();
        for (i, key) in keys.iter().enumerate() {
            load(dir.path(), key);
            let file = fs::File::open(dir.path().join(key.file_name())).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(i as u64)).unwrap();
        }
        assert_eq!(files(dir.path()).len(), KEPT + 1);
        assert!(load(dir.path(), &keys[KEPT + 1]) && load(dir.path(), &bystander));
        assert!(!load(dir.path(), &keys[0]));
    }
}
