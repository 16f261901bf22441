//! The user's cache of models, and how a model is found by name or path.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::catalogue::{self, Entry};
use crate::pull::{self, PullError};
use crate::sha256;

/// The environment variable that names the cache folder to use instead of the user's own.
pub const CACHE_VARIABLE: &str = "WORKER_ORCD_CACHE";

/// Where a model's file or folder is: `model` itself if it is a path to one, else the catalogue's model of that name,
/// which is fetched if the cache does not have it whole.
///
/// # Errors
/// [`ResolveError`]: neither a path nor a name, or the model cannot be fetched.
pub fn resolve(model: &str) -> Result<PathBuf, ResolveError> {
    let path = Path::new(model);
    if path.is_file() || path.is_dir() {
        return Ok(path.to_owned());
    }
    let entry = find(model)?;
    Ok(pull::pull(&Cache::of_user()?, entry)?)
}

/// The catalogue's model of this name, or an error that tells the names.
pub(crate) fn find(name: &str) -> Result<&'static Entry, ResolveError> {
    catalogue::find(name).ok_or_else(|| ResolveError::Unknown {
        model: name.to_owned(),
        nearest: catalogue::nearest(name).map(|name| format!("; did you mean {name}?")).unwrap_or_default(),
    })
}

/// Why there is no file for a model.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Neither a path nor a name of the catalogue.
    #[error("{model:?} is neither a file nor a model of the catalogue ({}){nearest}", catalogue::names())]
    Unknown {
        /// What the user gave.
        model: String,
        /// A question, where a name is near.
        nearest: String,
    },
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The model cannot be fetched.
    #[error(transparent)]
    Pull(#[from] PullError),
}

/// The folder that holds fetched models.
#[derive(Debug)]
pub struct Cache {
    models: PathBuf,
}

/// What the cache has of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// No file.
    Missing,
    /// A file of another size or hash.
    Broken,
    /// The file.
    Whole,
}

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The system does not say where the user's cache is.
    #[error("no cache folder: set {CACHE_VARIABLE} to a folder for models (or HOME, which is not set)")]
    NoHome,
    /// A file operation failed.
    #[error("cache: {}: {source}; see {CACHE_VARIABLE}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// Where kernels that a driver has compiled are kept, if there is a place.
pub fn images() -> Option<PathBuf> {
    Some(Cache::of_user().ok()?.folder().with_file_name("images"))
}

/// Where hashes of models' files are kept, if there is a place.
pub fn hashes() -> Option<PathBuf> {
    Some(Cache::of_user().ok()?.folder().with_file_name("hashes"))
}

impl Cache {
    /// The folder that [`CACHE_VARIABLE`] names, else `worker-orcd` in the user's cache folder.
    ///
    /// # Errors
    /// [`CacheError::NoHome`].
    pub fn of_user() -> Result<Cache, CacheError> {
        let folder = match std::env::var_os(CACHE_VARIABLE).filter(|folder| !folder.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => directories::ProjectDirs::from("", "", "worker-orcd")
                .ok_or(CacheError::NoHome)?
                .cache_dir()
                .to_owned(),
        };
        Ok(Cache { models: folder.join("models") })
    }

    /// The folder of the models' files.
    pub fn folder(&self) -> &Path {
        &self.models
    }

    /// Where the model's file is, or will be.
    pub fn path(&self, entry: &Entry) -> PathBuf {
        self.models.join(entry.file)
    }

    /// Looks whether the model's file is there and whole. Reads all of it, about a second for 500 MB.
    ///
    /// # Errors
    /// [`CacheError::Io`]: there is a file, but it cannot be read.
    pub fn check(&self, entry: &Entry) -> Result<Cached, CacheError> {
        let path = self.path(entry);
        match hash_of(&path, entry.bytes) {
            Ok(Some(hash)) if hash == entry.sha256 => Ok(Cached::Whole),
            Ok(_) => Ok(Cached::Broken),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Cached::Missing),
            Err(source) => Err(CacheError::Io { path, source }),
        }
    }

    /// Waits until no other process fetches, and gives out an empty folder for half-made files.
    pub(crate) fn workspace(&self) -> Result<Workspace, CacheError> {
        fs::create_dir_all(&self.models).map_err(at(&self.models))?;
        let path = self.models.join(".lock");
        let lock = File::create(&path).map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("waiting for another process that fetches a model");
                lock.lock().map_err(at(&path))?;
            }
            Err(TryLockError::Error(source)) => return Err(CacheError::Io { path, source }),
        }
        // Whoever was here before may have been killed at its work.
        let folder = self.models.join(".part");
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&folder)(error)),
            _ => {}
        }
        fs::create_dir(&folder).map_err(at(&folder))?;
        Ok(Workspace { folder, _lock: lock })
    }
}

/// A folder of the cache's file system for files in the making. Its holder alone fetches; it goes when dropped.
#[derive(Debug)]
pub(crate) struct Workspace {
    folder: PathBuf,
    _lock: File,
}

impl Workspace {
    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What cannot be removed now, the next workspace removes, or tells.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Names the path in an error of the system.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> CacheError {
    move |source| CacheError::Io { path: path.to_owned(), source }
}

/// The SHA-256 of a file of this size, in hexadecimal; `None` if its size differs.
fn hash_of(path: &Path, bytes: u64) -> io::Result<Option<String>> {
    if fs::metadata(path)?.len() != bytes {
        return Ok(None);
    }
    sha256::of_file(path).map(Some)
}
