//! A transfer that goes on where it broke off: what has come of a file is kept under the name of its content.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::progress::Progress;
use super::repository::{HubError, HubFile, Repository, failed};
use crate::cache;
use crate::sha256;

/// Times that a transfer goes on by itself.
const ATTEMPTS: usize = 5;
/// Bytes read at once.
const PIECE: usize = 1 << 18;

/// Why an attempt ended.
enum Stop {
    /// The line broke: what has come is good.
    Line(String),
    /// Another attempt is no use.
    For(HubError),
}

/// Fetches a repository's file to `path`, by way of the folder `.resume` of `models`.
pub(super) fn fetch(
    repository: &Repository<'_>,
    file: &HubFile,
    models: &Path,
    path: &Path,
) -> Result<(), HubError> {
    let folder = models.join(".resume");
    fs::create_dir_all(&folder).map_err(cache::at(&folder))?;
    let part = folder.join(&file.id);
    let mut kept = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part)
        .map_err(cache::at(&part))?;
    let mut progress = Progress::new(&file.path, file.bytes);
    let mut attempt = 1;
    while let Err(stop) = go_on(repository, file, &mut kept, &part, &mut progress) {
        let reason = match stop {
            Stop::For(error) => return Err(error),
            Stop::Line(reason) => reason,
        };
        if attempt == ATTEMPTS {
            let got = kept.metadata().map_or(0, |metadata| metadata.len());
            return Err(HubError::Broken { file: file.path.clone(), got, bytes: file.bytes, reason });
        }
        attempt += 1;
    }
    drop(progress);
    check(file, &part)?;
    // A crash after the rename must not leave a name without its bytes.
    kept.sync_all().map_err(cache::at(&part))?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(cache::at(parent))?;
    }
    fs::rename(&part, path).map_err(cache::at(path))?;
    // Others may have something in it.
    let _ = fs::remove_dir(&folder);
    Ok(())
}

/// Asks for what is missing, and writes it behind what is there.
fn go_on(
    repository: &Repository<'_>,
    file: &HubFile,
    kept: &mut File,
    part: &Path,
    progress: &mut Progress,
) -> Result<(), Stop> {
    let full = |error: io::Error| {
        Stop::For(match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                HubError::Full { path: part.to_owned(), bytes: file.bytes }
            }
            _ => cache::at(part)(error).into(),
        })
    };
    let mut at = kept.seek(SeekFrom::End(0)).map_err(full)?;
    if at == file.bytes {
        return Ok(());
    }
    if at > file.bytes {
        kept.set_len(0).map_err(full)?;
        at = kept.seek(SeekFrom::Start(0)).map_err(full)?;
    }
    let what = format!("{} of {}", file.path, repository.name);
    let opened = repository.hub.open(repository.name, &repository.commit, &file.path, at);
    let response = match opened {
        Ok(response) => response,
        // What a line that comes and goes looks like, unless nothing has come at all.
        Err(error) if at > 0 && !matches!(*error, ureq::Error::StatusCode(_)) => {
            return Err(Stop::Line(error.to_string()));
        }
        Err(error) => return Err(Stop::For(failed(repository.hub, repository.name, &what, &error))),
    };
    if at > 0 && !continues(&response, at) {
        // All of it comes.
        kept.set_len(0).map_err(full)?;
        at = kept.seek(SeekFrom::Start(0)).map_err(full)?;
    }
    // One byte more shows a file that is too long.
    let mut body = response.into_body().into_reader().take(file.bytes + 1 - at);
    let mut piece = vec![0; PIECE];
    loop {
        let count = match body.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Stop::Line(error.to_string())),
        };
        kept.write_all(&piece[..count]).map_err(full)?;
        at += count as u64;
        progress.set(at);
    }
    if at < file.bytes { Err(Stop::Line("the hub ended it".to_owned())) } else { Ok(()) }
}

/// Whether an answer is the file from `at` on.
fn continues(response: &ureq::http::Response<ureq::Body>, at: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
    response.status() == 206 && range.is_some_and(|range| range.starts_with(&format!("bytes {at}-")))
}

/// Throws away what is not the hub's file.
fn check(file: &HubFile, part: &Path) -> Result<(), HubError> {
    let bytes = fs::metadata(part).map_err(cache::at(part))?.len();
    let differs = |got: String, expected: String| {
        // It may be gone; the difference counts.
        let _ = fs::remove_file(part);
        Err(HubError::Differs { file: file.path.clone(), got, expected })
    };
    if bytes != file.bytes {
        return differs(format!("{bytes} bytes or more"), format!("{}", file.bytes));
    }
    match &file.sha256 {
        Some(expected) => match sha256::of_file(part).map_err(cache::at(part))? {
            got if got == *expected => Ok(()),
            got => differs(format!("the sha256 {got}"), expected.clone()),
        },
        None => Ok(()),
    }
}
