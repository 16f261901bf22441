//! Files that a stranger may have put there: regular ones, and no longer than such files are.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Bytes of a JSON file with settings; the largest, of tokens that were added, have some hundred thousand.
pub(crate) const MAX_SETTINGS: u64 = 8 << 20;

/// Opens a regular file, or what a symbolic link to one points at. Anything else is not even opened: a pipe would wait for
/// somebody who writes into it.
///
/// # Errors
/// There is none, it is no regular file, or it may not be read.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    File::open(path)
}

/// The bytes of a regular file, not more than `limit`.
///
/// # Errors
/// As of [`open`], and if it is longer.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let len = file.metadata()?.len();
    let mut bytes = Vec::new();
    // It may grow meanwhile, and the files of /proc have no length.
    if len <= limit {
        file.take(limit + 1).read_to_end(&mut bytes)?;
    }
    match len.max(bytes.len() as u64) {
        len if len > limit => {
            let problem = format!("it has {len} bytes, more than the {limit} that are read of it");
            Err(io::Error::new(io::ErrorKind::FileTooLarge, problem))
        }
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_through_links() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&path, b"12345").expect("a file");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        for path in [&path, &link] {
            assert_eq!(read(path, 5).expect("its bytes"), b"12345");
            let error = read(path, 4).expect_err("too long");
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
            assert_eq!(error.to_string(), "it has 5 bytes, more than the 4 that are read of it");
        }
        // A length that the file system does not know.
        let error = read(Path::new("/proc/self/status"), 10).expect_err("too long");
        assert!(error.to_string().contains("it has 11 bytes"), "{error}");
        assert_eq!(read(&folder.path().join("none"), 5).expect_err("none").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_no_regular_file_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        let name = std::ffi::CString::new(pipe.as_os_str().as_encoded_bytes()).expect("a name");
        // SAFETY: a C string that outlives the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        for path in [&pipe, folder.path(), Path::new("/dev/null")] {
            let error = read(path, 5).expect_err("no file");
            assert!(error.to_string().contains("no regular file"), "{}: {error}", path.display());
        }
    }
}
