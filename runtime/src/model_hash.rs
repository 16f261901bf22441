//! The BLAKE3 hash of a model's file: computed once, with several threads, and remembered beside the model cache.
//!
//! The file is read in pieces and not mapped: one that is cut short meanwhile is an error and not the end of the process.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;

use crate::file;
use crate::receipt::Digest;

/// Bytes read at once: enough for several threads, little beside a model.
const PIECE: usize = 8 << 20;

/// A file as it was when somebody looked: the same content as long as the rest is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    path: PathBuf,
    /// Device, inode, size, and the times of the last changes to content and inode: a copy that keeps its time, or a change
    /// that sets it back, is told apart by the latter.
    state: String,
}

impl ModelFile {
    /// Looks at a file.
    ///
    /// # Errors
    /// There is none, or it may not be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        let state = state(&fs::metadata(&path)?);
        Ok(Self { path, state })
    }

    /// The file's hash: the one that the folder `cache` remembers, else computed now by so many threads, which give way to
    /// all others, and then remembered.
    ///
    /// # Errors
    /// The file cannot be read, or is not what it was.
    pub fn hash(&self, cache: Option<&Path>, threads: usize) -> io::Result<Digest> {
        let mut file = file::open(&self.path)?;
        self.check(&file)?;
        let kept = cache.map(|folder| folder.join(self.name()));
        if let Some(hash) = kept.as_deref().and_then(|path| self.remembered(path)) {
            return Ok(hash);
        }
        let pool = rayon_core::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|_| "model hash".to_owned())
            .start_handler(|_| give_way())
            .build()
            .map_err(io::Error::other)?;
        let hash = pool.install(|| hash(&mut file))?;
        self.check(&file)?;
        if let Some(path) = kept
            && let Err(error) = self.remember(&path, hash)
        {
            tracing::debug!(path = %path.display(), %error, "the model's hash is not remembered");
        }
        Ok(hash)
    }

    /// Whether the open file is the one that was looked at, unchanged.
    fn check(&self, file: &File) -> io::Result<()> {
        if state(&file.metadata()?) == self.state {
            return Ok(());
        }
        Err(io::Error::other(format!("{} has changed since it was loaded", self.path.display())))
    }

    /// Of what the cache knows about this path.
    fn name(&self) -> String {
        Digest::of(self.path.as_os_str().as_encoded_bytes()).to_string()
    }

    /// The state and the hash, and the hash of both lines: a broken file is none.
    fn content(&self, hash: Digest) -> String {
        let known = format!("{}\n{hash}\n", self.state);
        let check = Digest::of(known.as_bytes());
        format!("{known}{check}\n")
    }

    fn remembered(&self, path: &Path) -> Option<Digest> {
        let content = fs::read_to_string(path).ok()?;
        let hash = content.lines().nth(1)?.parse().ok()?;
        (content == self.content(hash)).then_some(hash)
    }

    /// Under a name of its own first, so that nobody reads half of it.
    fn remember(&self, path: &Path, hash: Digest) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let part = path.with_extension(process::id().to_string());
        let written = fs::write(&part, self.content(hash)).and_then(|()| fs::rename(&part, path));
        if written.is_err() {
            // It may not be there; the first error counts.
            let _ = fs::remove_file(&part);
        }
        written
    }
}

fn state(of: &fs::Metadata) -> String {
    let (changed, nanos) = (of.mtime(), of.mtime_nsec());
    let (inode_changed, inode_nanos) = (of.ctime(), of.ctime_nsec());
    let (device, inode, size) = (of.dev(), of.ino(), of.size());
    format!("{device} {inode} {size} {changed}.{nanos:09} {inode_changed}.{inode_nanos:09}")
}

fn hash(file: &mut File) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        piece.clear();
        if file.by_ref().take(PIECE as u64).read_to_end(&mut piece)? == 0 {
            return Ok(Digest(*hasher.finalize().as_bytes()));
        }
        hasher.update_rayon(&piece);
    }
}

/// Lets every other thread go first.
fn give_way() {
    #[cfg(target_os = "linux")]
    // SAFETY: no memory is involved; 0 is this thread, which on Linux has a priority of its own.
    unsafe {
        // If it is denied, the hash is computed as urgently as the rest.
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn model(&self, content: &[u8]) -> PathBuf {
            let path = self.0.path().join("model");
            fs::write(&path, content).unwrap();
            path
        }

        fn cache(&self) -> PathBuf {
            self.0.path().join("made").join("when needed")
        }

        /// The model's hash as the cache has it or makes it.
        fn hash(&self) -> Digest {
            ModelFile::of(&self.0.path().join("model")).unwrap().hash(Some(&self.cache()), 2).unwrap()
        }

        /// The cache's only file.
        fn kept(&self) -> PathBuf {
            let mut files: Vec<PathBuf> =
                fs::read_dir(self.cache()).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert_eq!(files.len(), 1, "one file, and nothing half-made: {files:?}");
            files.remove(0)
        }
    }

    #[test]
    fn it_is_the_hash_of_the_whole_file() {
        let folder = Folder::new();
        for len in [0, 1, PIECE - 1, PIECE, 2 * PIECE + 12_345] {
            let content: Vec<u8> = (0..len).map(|i| ((i * 31) >> 3) as u8).collect();
            let file = ModelFile::of(&folder.model(&content)).unwrap();
            for threads in [0, 1, 3] {
                assert_eq!(file.hash(None, threads).unwrap(), Digest::of(&content), "{len} bytes");
            }
        }
    }

    #[test]
    fn it_is_remembered_for_that_file_in_that_state() {
        let folder = Folder::new();
        let path = folder.model(b"one");
        let one = folder.hash();
        assert_eq!(one, Digest::of(b"one"));
        // Shows whether it was computed: what is remembered is not looked into.
        let file = ModelFile::of(&path).unwrap();
        let other = Digest::of(b"remembered");
        file.remember(&folder.kept(), other).unwrap();
        assert_eq!(folder.hash(), other);

        // Of the same length and time, as a copy that keeps its time would be.
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, b"two").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), time);
        assert_eq!(folder.hash(), Digest::of(b"two"));
        folder.kept();
        file.remember(&folder.kept(), other).unwrap();
        assert_eq!(folder.hash(), Digest::of(b"two"), "of another state");
    }

    #[test]
    fn a_broken_memory_costs_a_computation_and_is_mended() {
        let folder = Folder::new();
        folder.model(b"content");
        let want = folder.hash();
        let path = folder.kept();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            for bad in [&broken[..], &whole[..at]] {
                fs::write(&path, bad).unwrap();
                assert_eq!(folder.hash(), want, "byte {at}");
                assert_eq!(fs::read(&path).unwrap(), whole, "mended");
            }
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_costs_every_computation() {
        let folder = Folder::new();
        let path = folder.model(b"content");
        let file = ModelFile::of(&path).unwrap();
        assert_eq!(file.hash(Some(&path), 1).unwrap(), Digest::of(b"content"));
    }

    #[test]
    fn a_file_that_went_or_changed_has_none() {
        let folder = Folder::new();
        let path = folder.model(b"content");
        let file = ModelFile::of(&path).unwrap();
        file.hash(Some(&folder.cache()), 1).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let error = file.hash(Some(&folder.cache()), 1).unwrap_err().to_string();
        assert!(error.contains("has changed since it was loaded"), "{error}");
        fs::remove_file(&path).unwrap();
        assert_eq!(
            file.hash(Some(&folder.cache()), 1).unwrap_err().kind(),
            io::ErrorKind::NotFound,
            "not even what is remembered"
        );
    }
}
