//! The driver's library: found, opened once and never closed.

use std::error::Error;
use std::ffi::{CStr, c_int, c_void};
use std::fmt;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

/// The NVIDIA driver's library, open for the rest of the process.
#[derive(Debug)]
pub struct Driver {
    library: Library,
    path: PathBuf,
    version: DriverVersion,
}

/// The newest CUDA version a driver understands, such as `13.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriverVersion(c_int);

/// Why there is no driver to call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// No library of the driver's names could be opened.
    #[error(
        "no NVIDIA driver found ({}): install the driver and see that the loader finds its library, \
         or run on the CPU",
        tried.join("; ")
    )]
    NotFound {
        /// The names tried, each with what the system's loader answered.
        tried: Vec<String>,
    },
    /// A library of the driver's name that is not a working driver.
    #[error("{} is not a usable NVIDIA driver: {reason}: reinstall the driver, or run on the CPU", path.display())]
    Unusable {
        /// The library.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The plain name first, as every installation has it; then where WSL keeps it outside the loader's path.
const NAMES: [&str; 2] = ["libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"];

/// The driver, opened by the first call of this or of any driver function.
///
/// # Errors
/// The same [`DriverError`] on every call: a driver that was missing once is not looked for again.
pub fn driver() -> Result<&'static Driver, DriverError> {
    static DRIVER: OnceLock<Result<Driver, DriverError>> = OnceLock::new();
    DRIVER.get_or_init(Driver::open).as_ref().map_err(Clone::clone)
}

impl Driver {
    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest CUDA version the driver understands.
    pub fn version(&self) -> DriverVersion {
        self.version
    }

    /// The address of a function of the driver, `None` where this driver is too old to have it.
    pub(crate) fn address(&self, name: &str) -> Option<*mut c_void> {
        address(&self.library, name)
    }

    fn open() -> Result<Driver, DriverError> {
        let mut tried = Vec::new();
        for name in NAMES {
            // SAFETY: the driver's library runs no more than its own initialisers, which are made for any process.
            match unsafe { Library::new(name) } {
                Ok(library) => return Driver::check(library, Path::new(name)),
                Err(error) => tried.push(error.source().map_or(name.to_owned(), ToString::to_string)),
            }
        }
        Err(DriverError::NotFound { tried })
    }

    fn check(library: Library, name: &Path) -> Result<Driver, DriverError> {
        let unusable = |path: &Path, reason: String| DriverError::Unusable { path: path.to_owned(), reason };
        let Some(function) = address(&library, "cuDriverGetVersion") else {
            return Err(unusable(name, "it has no function cuDriverGetVersion".to_owned()));
        };
        let path = file_of(function).unwrap_or_else(|| name.to_owned());
        // SAFETY: the driver documents this signature; it may be called before cuInit.
        let get_version: unsafe extern "C" fn(*mut c_int) -> c_int = unsafe { std::mem::transmute(function) };
        let mut version = 0;
        // SAFETY: `version` is a valid place for one int.
        match unsafe { get_version(&raw mut version) } {
            0 => Ok(Driver { library, path, version: DriverVersion(version) }),
            code => Err(unusable(&path, format!("cuDriverGetVersion answered error {code}"))),
        }
    }
}

impl DriverVersion {
    /// CUDA `major.minor`.
    pub const fn new(major: u8, minor: u8) -> Self {
        Self(major as c_int * 1000 + minor as c_int * 10)
    }
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 % 1000 / 10)
    }
}

fn address(library: &Library, name: &str) -> Option<*mut c_void> {
    // SAFETY: only the address is taken; a pointer type fits every symbol.
    let symbol = unsafe { library.get::<*mut c_void>(name) }.ok()?;
    // SAFETY: the library is never closed, so its addresses stay valid.
    Some(unsafe { symbol.into_raw() }.as_raw_ptr())
}

/// The file that holds the code at `address`.
fn file_of(address: *mut c_void) -> Option<PathBuf> {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: dladdr takes any address and a place for its answer.
    if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: dladdr answered other than 0, so it has filled in `info`.
    let name = unsafe { info.assume_init() }.dli_fname;
    if name.is_null() {
        return None;
    }
    // SAFETY: a NUL-terminated path that lives as long as its library stays open.
    Some(PathBuf::from(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()))
}
