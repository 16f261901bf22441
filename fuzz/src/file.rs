use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A file without a disk, written anew for every input.
pub struct InMemory(File);

impl InMemory {
    /// An empty one.
    pub fn new() -> Self {
        // SAFETY: a text that ends, and flags.
        let descriptor = unsafe { libc::memfd_create(c"input".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(descriptor >= 0, "a file in memory");
        // SAFETY: it was just opened, and is nobody else's.
        Self(unsafe { File::from_raw_fd(descriptor) })
    }

    /// Where a file of these bytes is.
    pub fn of(&self, bytes: &[u8]) -> PathBuf {
        self.0.set_len(0).expect("a shorter file");
        self.0.write_all_at(bytes, 0).expect("memory for the file");
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

impl Default for InMemory {
    fn default() -> Self {
        Self::new()
    }
}
