//! The two shared libraries: found, opened and never closed.

use std::error::Error;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use libloading::Library;

/// The environment variable that names the cuBLAS to use: the folder that holds `libcublas.so.*` and
/// `libcublasLt.so.*`, or the first of the two files.
pub const LIBRARY_VARIABLE: &str = "WORKER_ORCD_CUBLAS";

/// Why there is no cuBLAS to call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Nothing could be opened.
    #[error(
        "no cuBLAS found ({}): install cuBLAS 12 or 13, or set {LIBRARY_VARIABLE} to the folder that holds it",
        tried.join("; ")
    )]
    NotFound {
        /// The names tried, each with what the system's loader answered.
        tried: Vec<String>,
    },
    /// A library that lacks a function.
    #[error("{} has no function {function}: it is not cuBLAS 12 or 13; see {LIBRARY_VARIABLE}", path.display())]
    NoFunction {
        /// The library.
        path: PathBuf,
        /// The function.
        function: &'static str,
    },
    /// A version before 12.
    #[error("{} is cuBLAS {version}, but 12 or 13 is needed; see {LIBRARY_VARIABLE}", path.display())]
    TooOld {
        /// The library.
        path: PathBuf,
        /// Its version.
        version: String,
    },
}

/// cuBLAS and the cuBLASLt that belongs to it.
pub(crate) struct Libraries {
    // Never closed: functions taken from them live as long as the process.
    lt: ManuallyDrop<Library>,
    blas: ManuallyDrop<Library>,
    path: PathBuf,
}

impl Libraries {
    /// Opens the first pair that can be opened. A choice made through the environment has no substitute.
    pub(crate) fn open() -> Result<Libraries, LoadError> {
        let mut tried = Vec::new();
        for path in candidates(std::env::var_os(LIBRARY_VARIABLE).map(PathBuf::from)) {
            match Libraries::open_at(&path) {
                Ok(libraries) => return Ok(libraries),
                Err(error) => {
                    tried.push(error.source().map_or_else(|| error.to_string(), ToString::to_string))
                }
            }
        }
        Err(LoadError::NotFound { tried })
    }

    fn open_at(path: &Path) -> Result<Libraries, libloading::Error> {
        // cuBLASLt comes first: cuBLAS needs it by name, and then finds the one already open.
        // SAFETY: the libraries run no more than their own initialisers, which are made for any process.
        let lt = ManuallyDrop::new(unsafe { Library::new(lt_beside(path)) }?);
        // SAFETY: the same.
        let blas = ManuallyDrop::new(unsafe { Library::new(path) }?);
        Ok(Libraries { lt, blas, path: path.to_owned() })
    }

    /// The file of cuBLAS, as it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A function of cuBLAS.
    ///
    /// # Safety
    /// `T` is its type.
    pub(crate) unsafe fn blas<T: Copy>(&self, name: &'static str) -> Result<T, LoadError> {
        // SAFETY: the caller knows the type.
        unsafe { self.function(&self.blas, name) }
    }

    /// A function of cuBLASLt.
    ///
    /// # Safety
    /// `T` is its type.
    pub(crate) unsafe fn lt<T: Copy>(&self, name: &'static str) -> Result<T, LoadError> {
        // SAFETY: the caller knows the type.
        unsafe { self.function(&self.lt, name) }
    }

    unsafe fn function<T: Copy>(&self, library: &Library, function: &'static str) -> Result<T, LoadError> {
        // SAFETY: the caller knows the type.
        match unsafe { library.get::<T>(function) } {
            Ok(symbol) => Ok(*symbol),
            Err(_) => Err(LoadError::NoFunction { path: self.path.clone(), function }),
        }
    }
}

/// Files of cuBLAS to try, best first.
fn candidates(chosen: Option<PathBuf>) -> Vec<PathBuf> {
    let names = ["libcublas.so.13", "libcublas.so.12"];
    match chosen {
        None => names.map(PathBuf::from).to_vec(),
        Some(folder) if folder.is_dir() => names.map(|name| folder.join(name)).to_vec(),
        Some(file) => vec![file],
    }
}

/// `libcublasLt.so.N` in the folder of `libcublas.so.N`.
fn lt_beside(blas: &Path) -> PathBuf {
    let name = blas.file_name().unwrap_or_default().to_string_lossy();
    blas.with_file_name(name.replacen("libcublas.", "libcublasLt.", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_searched_for_13_then_12_and_a_file_stands_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        assert_eq!(
            candidates(Some(path.clone())),
            [path.join("libcublas.so.13"), path.join("libcublas.so.12")]
        );
        assert_eq!(candidates(Some("/x/libcublas.so.12".into())), [PathBuf::from("/x/libcublas.so.12")]);
        assert_eq!(candidates(None), [PathBuf::from("libcublas.so.13"), PathBuf::from("libcublas.so.12")]);
    }

    #[test]
    fn lt_is_taken_from_the_same_folder_and_version() {
        assert_eq!(lt_beside(Path::new("/x/libcublas.so.12")), Path::new("/x/libcublasLt.so.12"));
        assert_eq!(lt_beside(Path::new("libcublas.so.13")), Path::new("libcublasLt.so.13"));
    }
}
