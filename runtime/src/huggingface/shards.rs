//! The files of weights: which tensors lie where, checked once; their bytes are read as they are needed.
//!
//! A file is a length in 8 bytes, so many bytes of JSON, and the data. The JSON gives every tensor a type, a shape and a
//! place in the data: <https://huggingface.co/docs/safetensors>. Files are read and not mapped, so that one that is cut
//! short later is an error and not the end of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::error::{FolderError, FolderProblem};
use super::json::{self, Fields};

/// The one file of a small model.
const SINGLE: &str = "model.safetensors";
/// Says which file has which tensor, where there are several.
const INDEX: &str = "model.safetensors.index.json";

/// Bytes of a head, as the format's own library has it.
const MAX_HEAD: u64 = 100_000_000;
/// Bytes of an index, of which a tensor takes about a hundred.
const MAX_INDEX: u64 = 64 << 20;
/// Files of one model; each is held open.
const MAX_SHARDS: usize = 512;

/// The open files of a folder's weights.
#[derive(Debug)]
pub(super) struct Shards {
    files: Vec<Shard>,
    tensors: BTreeMap<String, Stored>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
}

/// Where a tensor is, and of what.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// The file, see [`Shards::read`].
    pub(super) shard: usize,
    /// Where its data begin in the file.
    pub(super) start: u64,
    /// Type and shape.
    pub(super) info: TensorInfo,
    /// Whether somebody asked for it.
    found: bool,
}

impl Shards {
    /// Opens the weights of a folder and checks what they say of themselves.
    pub(super) fn open(folder: &Path) -> Result<Self, FolderError> {
        let mut shards = Self { files: Vec::new(), tensors: BTreeMap::new() };
        let Some(index) = Index::read(folder)? else {
            shards.add(folder.join(SINGLE))?;
            return Ok(shards);
        };
        for name in &index.files {
            shards.add(folder.join(name))?;
        }
        // Found in whichever file; that it is the right one is checked here.
        let wrong = |tensor: &str, problem| FolderProblem::tensor(tensor, problem).at(&index.path);
        for (tensor, file) in &index.map {
            if shards.tensors.get(tensor).is_none_or(|stored| index.files[stored.shard] != *file) {
                return Err(wrong(tensor, format!("is not in {file}, where the index has it")));
            }
        }
        match shards.tensors.iter().find(|(tensor, _)| !index.map.contains_key(*tensor)) {
            Some((tensor, stored)) => {
                Err(wrong(tensor, format!("is in {}, and not in the index", index.files[stored.shard])))
            }
            None => Ok(shards),
        }
    }

    /// Opens a file, and adds its tensors.
    fn add(&mut self, path: PathBuf) -> Result<(), FolderError> {
        let fail = |problem: FolderProblem| problem.at(&path);
        let (file, data, entries) = open(&path).map_err(fail)?;
        let shard = self.files.len();
        for (name, info) in entries {
            let start = data + info.data_offsets.0 as u64;
            if let Some(other) =
                self.tensors.insert(name.clone(), Stored { shard, start, info, found: false })
            {
                let other = self.files.get(other.shard).map_or(&path, |other| &other.path);
                let problem = format!("is in {} as well", other.display());
                return Err(fail(FolderProblem::tensor(&name, problem)));
            }
        }
        self.files.push(Shard { path, file });
        Ok(())
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// Where a tensor is; those that nobody finds are left at the end.
    pub(super) fn find(&mut self, tensor: &str) -> Option<Stored> {
        let stored = self.tensors.get_mut(tensor)?;
        stored.found = true;
        Some(stored.clone())
    }

    /// Names and places of the tensors that were not asked for.
    pub(super) fn left(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.tensors.iter().filter(|(_, stored)| !stored.found).map(|(name, stored)| (name.as_str(), stored))
    }

    /// A file's path.
    pub(super) fn path(&self, shard: usize) -> &Path {
        &self.files[shard].path
    }

    /// Fills `into` from a place in a file.
    pub(super) fn read(&self, shard: usize, at: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.files[shard].file.read_exact_at(into, at)
    }
}

/// The files with weights, and the index if there is one.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    Ok(match Index::read(folder)? {
        None => vec![folder.join(SINGLE)],
        Some(Index { path, files, .. }) => {
            files.into_iter().map(|name| folder.join(name)).chain([path]).collect()
        }
    })
}

/// Which file has which tensor.
struct Index {
    path: PathBuf,
    /// The file of each tensor.
    map: BTreeMap<String, String>,
    /// Each file once, sorted.
    files: Vec<String>,
}

impl Index {
    /// That of a folder; `None` where one file has all.
    fn read(folder: &Path) -> Result<Option<Self>, FolderError> {
        let (path, single) = (folder.join(INDEX), folder.join(SINGLE).exists());
        let Some(bytes) = json::read(&path, MAX_INDEX)? else {
            return if single { Ok(None) } else { Err(no_weights(folder)) };
        };
        let mut fields = Fields::parse(&path, &bytes)?;
        const MAP: &str = "weight_map";
        let given = fields.optional(MAP, "an object", |value| value.as_object().cloned())?;
        let (mut map, mut files) = (BTreeMap::new(), BTreeSet::new());
        for (tensor, file) in fields.required(MAP, given)? {
            // Nothing outside of the folder is read, and an error has the name in its line.
            let odd = |c: char| c == '/' || c == '\\' || c.is_control();
            let inside = |name: &&str| name.ends_with(".safetensors") && !name.contains(odd);
            let Some(name) = file.as_str().filter(inside) else {
                let problem = format!("is in {file}, which is no safetensors file of this folder");
                return Err(FolderProblem::tensor(&tensor, problem).at(&path));
            };
            files.insert(name.to_owned());
            map.insert(tensor, name.to_owned());
        }
        if files.len() > MAX_SHARDS {
            let problem = format!("names {} files, up to {MAX_SHARDS} are supported", files.len());
            return Err(fields.wrong(MAP, problem));
        }
        match files.iter().find(|file| *file != SINGLE) {
            Some(other) if single => {
                let problem =
                    format!("names {other} while {SINGLE} is there, too: remove what is not the model's");
                Err(fields.wrong(MAP, problem))
            }
            _ if single => Ok(None),
            _ => Ok(Some(Self { path, map, files: files.into_iter().collect() })),
        }
    }
}

/// The folder has no weights that this program reads; what it has instead.
fn no_weights(folder: &Path) -> FolderError {
    for other in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        if folder.join(other).exists() {
            let problem = "are weights that run code when they are read: convert them to safetensors";
            return FolderProblem::Weights(problem.to_owned()).at(&folder.join(other));
        }
    }
    let problem = "and so is model.safetensors.index.json; one of them says where the weights are";
    FolderProblem::Missing(problem).at(&folder.join(SINGLE))
}

/// A file, where its data begin, and its tensors in the order of their data.
#[allow(clippy::type_complexity, reason = "one caller takes it apart at once")]
fn open(path: &Path) -> Result<(File, u64, Vec<(String, TensorInfo)>), FolderProblem> {
    let weights = |problem: String| FolderProblem::Weights(problem);
    let file = match crate::file::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(FolderProblem::Missing("it has weights of the model"));
        }
        Err(error) => return Err(error.into()),
    };
    let len = file.metadata()?.len();
    let mut first = [0; 8];
    if len < 8 {
        return Err(weights(format!("has {len} bytes, and is no safetensors file")));
    }
    file.read_exact_at(&mut first, 0)?;
    if first == *b"version " {
        return Err(weights(
            "is a pointer of Git LFS, not the file: fetch the file, with git lfs pull".to_owned(),
        ));
    }
    let head = u64::from_le_bytes(first);
    if head > MAX_HEAD || head > len - 8 {
        let problem = format!(
            "its head should have {head} bytes; the file has {len}, and heads up to {MAX_HEAD}: it is no safetensors file, or cut short"
        );
        return Err(weights(problem));
    }
    let mut json = vec![0; head as usize];
    file.read_exact_at(&mut json, 8)?;
    let Head(mut entries) = serde_json::from_slice(&json)?;
    let data = 8 + head;
    for (name, info) in &entries {
        place(info, len - data).map_err(|problem| FolderProblem::tensor(name, problem))?;
    }
    entries.sort_by_key(|(_, info)| info.data_offsets);
    for pair in entries.windows(2) {
        let [(before, first), (name, second)] = pair else { continue };
        if second.data_offsets.0 < first.data_offsets.1 {
            return Err(FolderProblem::tensor(name, format!("overlaps {before:?} in the file")));
        }
    }
    // The format's own library has the last word, on gaps among others.
    let checked = Metadata::new(None, entries.clone()).map_err(|error| weights(error.to_string()))?;
    if checked.data_len() as u64 != len - data {
        let problem =
            format!("its tensors end at byte {}, the file at {len}", data + checked.data_len() as u64);
        return Err(weights(problem));
    }
    Ok((file, data, entries))
}

/// Whether a tensor's place suits its type and shape, in data of `len` bytes.
fn place(info: &TensorInfo, len: u64) -> Result<(), String> {
    let (start, end) = info.data_offsets;
    let TensorInfo { dtype, shape, .. } = info;
    if start > end || end as u64 > len {
        return Err(format!("lies at {start} to {end}, outside of the file's {len} bytes of data"));
    }
    let values = shape.iter().try_fold(1usize, |values, &dim| values.checked_mul(dim));
    let bits = values.and_then(|values| values.checked_mul(dtype.bitsize()));
    match bits.filter(|bits| bits % 8 == 0 && bits / 8 == end - start) {
        Some(_) => Ok(()),
        None => Err(format!("has {} bytes, which are not {dtype:?} of shape {shape:?}", end - start)),
    }
}

/// The entries of a head, none of them twice.
struct Head(Vec<(String, TensorInfo)>);

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Head, A::Error> {
        let mut head: BTreeMap<String, TensorInfo> = BTreeMap::new();
        while let Some(name) = entries.next_key::<String>()? {
            if name == "__metadata__" {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let named = |error| de::Error::custom(format_args!("tensor {name:?}: {error}"));
            let info = entries.next_value().map_err(named)?;
            if head.contains_key(&name) {
                return Err(de::Error::custom(format_args!("tensor {name:?} occurs twice")));
            }
            head.insert(name, info);
        }
        Ok(Head(head.into_iter().collect()))
    }
}
