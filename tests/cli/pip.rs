//! A made-up pip, alone on the search path.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A folder for `PATH` with one program, `pip`; gone when dropped.
pub(crate) struct Pip {
    folder: TempDir,
}

impl Pip {
    /// A pip that is this shell script.
    pub(crate) fn script(body: &str) -> io::Result<Pip> {
        let pip = Pip::missing()?;
        let program = pip.path().join("pip");
        fs::write(&program, format!("#!/bin/sh\n{body}\n"))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok(pip)
    }

    /// A pip that gives a wheel with this member.
    pub(crate) fn wheel(member: &str, content: &[u8]) -> io::Result<Pip> {
        let script = r#"while [ "$1" != --dest ]; do shift; done; /bin/cp "${0%/*}/made.whl" "$2""#;
        let pip = Pip::script(script)?;
        write_wheel(&pip.path().join("made.whl"), member, content)?;
        Ok(pip)
    }

    /// No pip, and no python3 either.
    pub(crate) fn missing() -> io::Result<Pip> {
        Ok(Pip { folder: tempfile::tempdir()? })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

fn write_wheel(path: &Path, member: &str, content: &[u8]) -> io::Result<()> {
    let mut wheel = ZipWriter::new(File::create(path)?);
    wheel.start_file(member, SimpleFileOptions::default())?;
    wheel.write_all(content)?;
    wheel.finish()?;
    Ok(())
}
