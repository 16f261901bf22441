//! Any model of the hub: which of a repository's files are wanted, and where they go.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::hub::Hub;
use super::name::{Name, is_inside};
use super::resume;
use crate::cache::{self, Cache, CacheError};
use crate::sha256;

/// Why a repository's model could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The hub's address cannot be made.
    #[error("{0}")]
    Api(#[from] Box<hf_hub::api::sync::ApiError>),
    /// No answer.
    #[error(
        "the hub cannot be reached ({0}): without a network, fetch the file by other means and give its path to --model"
    )]
    Offline(String),
    /// The user may not, or there is nothing.
    #[error(
        "the hub does not give {repository}: it is gated, private or not there; accept its terms on its page and {needed}"
    )]
    Denied {
        /// `owner/name`.
        repository: String,
        /// What helps.
        needed: &'static str,
    },
    /// No such repository or file.
    #[error("the hub has no {0}")]
    NotFound(String),
    /// Another failure of the hub.
    #[error("the hub answered {status} to a request for {what}: try again later")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What was asked for.
        what: String,
    },
    /// The hub says what cannot be used.
    #[error("the hub's answer about {repository} cannot be used: {fault}")]
    Answer {
        /// `owner/name`.
        repository: String,
        /// What is wrong with it.
        fault: String,
    },
    /// Nothing of it would run.
    #[error("{repository} has neither a GGUF file nor a config.json with safetensors; it has {files}")]
    NoModel {
        /// `owner/name`.
        repository: String,
        /// What it has.
        files: String,
    },
    /// There is no such file.
    #[error("{repository} has no file {file:?}; it has {files}")]
    NoFile {
        /// `owner/name`.
        repository: String,
        /// What was asked for.
        file: String,
        /// What it has.
        files: String,
    },
    /// The user has to choose.
    #[error(
        "{repository} has several GGUF files: choose one, as in `worker-orcd pull {repository}:{first}`; there are {files}"
    )]
    Several {
        /// `owner/name`.
        repository: String,
        /// A file.
        first: String,
        /// All of them, with their sizes.
        files: String,
    },
    /// The transfer ended early.
    #[error(
        "the transfer of {file} broke off after {got} of {bytes} bytes ({reason}): the same command goes on from there"
    )]
    Broken {
        /// The file.
        file: String,
        /// Bytes that are here.
        got: u64,
        /// Bytes of the file.
        bytes: u64,
        /// What happened.
        reason: String,
    },
    /// Another file came.
    #[error(
        "{file} came with {got}, but {expected} was expected: it is thrown away, and the same command fetches it anew"
    )]
    Differs {
        /// The file.
        file: String,
        /// Its size or hash.
        got: String,
        /// The hub's.
        expected: String,
    },
    /// No room.
    #[error("no space is left for {}, which takes {bytes} bytes: make room, or set {variable} to a folder that has some; then the same command goes on", path.display(), variable = cache::CACHE_VARIABLE)]
    Full {
        /// Where it is written.
        path: PathBuf,
        /// Bytes of the file.
        bytes: u64,
    },
}

/// What the hub says of a repository.
#[derive(Deserialize)]
struct Described {
    /// The commit.
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// A file of a repository.
#[derive(Debug, Clone)]
pub(super) struct HubFile {
    /// Its path in the repository.
    pub(super) path: String,
    pub(super) bytes: u64,
    /// Names its content: its SHA-256 where the hub knows it, else git's hash.
    pub(super) id: String,
    pub(super) sha256: Option<String>,
}

/// A repository at a commit.
pub(super) struct Repository<'a> {
    pub(super) hub: &'a Hub,
    pub(super) name: &'a str,
    pub(super) commit: String,
    files: Vec<HubFile>,
}

/// The model's file, or the folder of its files, fetched where the cache does not have them whole.
///
/// # Errors
/// [`HubError`]; what was fetched so far is kept for the next time.
pub(super) fn pull(cache: &Cache, name: &Name) -> Result<PathBuf, HubError> {
    let hub = Hub::of_user().map_err(Box::new)?;
    let repository = Repository::describe(&hub, &name.repository)?;
    let wanted = repository.choose(name.file.as_deref())?;
    let folder = cache.folder().join(&name.repository);
    // Nobody else fetches meanwhile.
    let _workspace = cache.workspace()?;
    for file in &wanted {
        let path = folder.join(&file.path);
        if !is_whole(&path, file)? {
            resume::fetch(&repository, file, cache.folder(), &path)?;
        }
    }
    if let [file] = &wanted[..] {
        return Ok(folder.join(&file.path));
    }
    repository.remove_others(&folder)?;
    Ok(folder)
}

/// Whether the file is there as the hub has it.
fn is_whole(path: &Path, file: &HubFile) -> Result<bool, CacheError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() == file.bytes => match &file.sha256 {
            Some(expected) => Ok(sha256::of_file(path).map_err(cache::at(path))? == *expected),
            // It is small, and may have changed.
            None => Ok(false),
        },
        _ => Ok(false),
    }
}

impl<'a> Repository<'a> {
    fn describe(hub: &'a Hub, name: &'a str) -> Result<Self, HubError> {
        let text = hub.describe(name).map_err(|error| failed(hub, name, name, &error))?;
        let unusable = |fault: String| HubError::Answer { repository: name.to_owned(), fault };
        let described: Described =
            serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        if !is_hex(&described.sha) {
            return Err(unusable("its commit is no hash".to_owned()));
        }
        let files = described.siblings.into_iter().filter(|file| is_inside(&file.rfilename));
        let files = files.filter_map(HubFile::of).collect();
        Ok(Self { hub, name, commit: described.sha, files })
    }

    /// The files that are wanted: the one asked for, the only GGUF file, or those of a folder with safetensors.
    fn choose(&self, asked: Option<&str>) -> Result<Vec<HubFile>, HubError> {
        let repository = self.name.to_owned();
        if let Some(asked) = asked {
            let found = self.files.iter().find(|file| file.path == asked).cloned();
            return found.map(|file| vec![file]).ok_or_else(|| HubError::NoFile {
                repository,
                file: asked.to_owned(),
                files: list(self.files.iter().filter(|file| has_end(&file.path, "gguf"))),
            });
        }
        let ggufs: Vec<&HubFile> = self.files.iter().filter(|file| has_end(&file.path, "gguf")).collect();
        match ggufs[..] {
            [file] => Ok(vec![file.clone()]),
            [first, ..] => Err(HubError::Several {
                repository,
                first: first.path.clone(),
                files: list(ggufs.into_iter()),
            }),
            [] => {
                self.folder().ok_or_else(|| HubError::NoModel { repository, files: list(self.files.iter()) })
            }
        }
    }

    /// What makes up a model of safetensors.
    fn folder(&self) -> Option<Vec<HubFile>> {
        let top = self.files.iter().filter(|file| !file.path.contains('/'));
        // The weights once more, in their maker's own names.
        let top = top.filter(|file| !file.path.starts_with("consolidated"));
        let files: Vec<HubFile> = top.filter(|file| is_part(&file.path)).cloned().collect();
        let has = |test: &dyn Fn(&str) -> bool| files.iter().any(|file| test(&file.path));
        (has(&|path| path == "config.json") && has(&|path| has_end(path, "safetensors"))).then_some(files)
    }

    /// Removes what an earlier commit left of its model at the top of a folder: weights or settings that this one does not have
    /// would be read beside its own.
    fn remove_others(&self, folder: &Path) -> Result<(), CacheError> {
        for entry in fs::read_dir(folder).map_err(cache::at(folder))? {
            let entry = entry.map_err(cache::at(folder))?;
            let (path, name) = (entry.path(), entry.file_name());
            let is_of_commit = self.files.iter().any(|file| *file.path == *name);
            if is_part(Path::new(&name)) && !is_of_commit && !path.is_dir() {
                fs::remove_file(&path).map_err(cache::at(&path))?;
            }
        }
        Ok(())
    }
}

impl HubFile {
    fn of(sibling: Sibling) -> Option<Self> {
        let Sibling { rfilename: path, size, blob, lfs } = sibling;
        let (bytes, sha256) = match lfs {
            Some(lfs) => (lfs.size, Some(lfs.sha256.to_lowercase())),
            None => (size?, None),
        };
        let id = sha256.clone().or(blob).filter(|id| is_hex(id))?;
        Some(Self { path, bytes, id, sha256 })
    }
}

/// Why a request for something of a repository failed.
pub(super) fn failed(hub: &Hub, repository: &str, what: &str, error: &ureq::Error) -> HubError {
    match *error {
        ureq::Error::StatusCode(401 | 403) => HubError::Denied {
            repository: repository.to_owned(),
            needed: if hub.has_token() {
                "use a token that may read it: the one in HF_TOKEN or in the hub's token file may not"
            } else {
                "give a token in HF_TOKEN"
            },
        },
        ureq::Error::StatusCode(404) => HubError::NotFound(what.to_owned()),
        ureq::Error::StatusCode(status) => HubError::Status { status, what: what.to_owned() },
        ref other => HubError::Offline(other.to_string()),
    }
}

fn is_hex(text: &str) -> bool {
    (40..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a file at the top of a folder is of a model of safetensors.
fn is_part(path: impl AsRef<Path>) -> bool {
    ["safetensors", "json", "jinja"].iter().any(|end| has_end(&path, end))
}

fn has_end(path: impl AsRef<Path>, end: &str) -> bool {
    path.as_ref().extension().is_some_and(|extension| extension.eq_ignore_ascii_case(end))
}

/// Files with their sizes, in one line.
fn list<'a>(files: impl Iterator<Item = &'a HubFile>) -> String {
    const MOST: usize = 40;
    let size = |bytes: u64| match bytes {
        0..1_000_000 => format!("{bytes} bytes"),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    };
    let mut told: Vec<String> = files.map(|file| format!("{} ({})", file.path, size(file.bytes))).collect();
    if told.len() > MOST {
        let more = told.len() - MOST;
        told.truncate(MOST);
        told.push(format!("{more} more"));
    }
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}
