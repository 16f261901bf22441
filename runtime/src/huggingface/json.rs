//! The folder's JSON files: bounded, no name twice in an object, every field typed, and none overlooked.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::error::{FolderError, FolderProblem};
use crate::file;

/// A file's bytes, if there is one; not more than `limit`.
pub(super) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FolderError> {
    match file::read(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FolderProblem::from(error).at(path)),
    }
}

/// The fields of a JSON object. Whoever reads one takes it out, so that what is left at the end was not understood.
#[derive(Debug)]
pub(super) struct Fields {
    path: PathBuf,
    /// Stands before names in errors: `rope_scaling.`.
    prefix: String,
    map: Map<String, Value>,
}

impl Fields {
    /// Those of a file; `None` if there is none.
    pub(super) fn of_file(path: &Path) -> Result<Option<Self>, FolderError> {
        let Some(bytes) = read(path, file::MAX_SETTINGS)? else { return Ok(None) };
        Self::parse(path, &bytes).map(Some)
    }

    /// Those of a file's content.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, FolderError> {
        let value = strict(bytes).map_err(|error| FolderProblem::from(error).at(path))?;
        let Value::Object(map) = value else {
            return Err(FolderProblem::Json(de::Error::custom("it is no object")).at(path));
        };
        Ok(Self { path: path.to_owned(), prefix: String::new(), map })
    }

    /// What is wrong with a field.
    pub(super) fn wrong(&self, name: &str, problem: impl Into<String>) -> FolderError {
        FolderProblem::field(format!("{}{name}", self.prefix), problem).at(&self.path)
    }

    /// Whether a field is there, null or not.
    pub(super) fn says(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Takes a field's value; `None` if it is missing or null.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// The field as `read` understands it.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, FolderError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        read(&value).map(Some).ok_or_else(|| self.wrong(name, format!("is {}, not {wanted}", short(&value))))
    }

    /// A field that must be there.
    pub(super) fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, FolderError> {
        value.ok_or_else(|| self.wrong(name, "is missing"))
    }

    /// A number of 1 to `most`.
    pub(super) fn size_up_to(&mut self, name: &str, most: u32) -> Result<Option<usize>, FolderError> {
        let within = |value: &Value| value.as_u64().filter(|n| (1..=u64::from(most)).contains(n));
        Ok(self.optional(name, &format!("a whole number of 1 to {most}"), within)?.map(|n| n as usize))
    }

    /// A number above 0.
    pub(super) fn positive(&mut self, name: &str) -> Result<Option<f64>, FolderError> {
        self.optional(name, "a number above 0", |value| value.as_f64().filter(|&x| x > 0.0 && x.is_finite()))
    }

    /// A truth value.
    pub(super) fn bool(&mut self, name: &str) -> Result<Option<bool>, FolderError> {
        self.optional(name, "true or false", Value::as_bool)
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, FolderError> {
        self.optional(name, "a text", |value| value.as_str().map(str::to_owned))
    }

    /// Numbers above 0.
    pub(super) fn factors(&mut self, name: &str) -> Result<Option<Vec<f32>>, FolderError> {
        let factor = |value: &Value| value.as_f64().map(|x| x as f32).filter(|x| x.is_finite() && *x > 0.0);
        self.optional(name, "a list of numbers above 0", |value| {
            value.as_array()?.iter().map(factor).collect()
        })
    }

    /// The fields of an object within.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, FolderError> {
        let map = self.optional(name, "an object", |value| value.as_object().cloned())?;
        let prefix = format!("{}{name}.", self.prefix);
        Ok(map.map(|map| Self { path: self.path.clone(), prefix, map }))
    }

    /// That a field is missing, or has the one value that this program runs.
    pub(super) fn only(&mut self, name: &str, value: impl Into<Value>) -> Result<(), FolderError> {
        let only = value.into();
        // 7 is 7.0.
        let same = |other: &Value| *other == only || (other.is_number() && other.as_f64() == only.as_f64());
        match self.take(name) {
            Some(other) if !same(&other) => {
                Err(self.wrong(name, format!("is {}, which is not supported; {only} is", short(&other))))
            }
            _ => Ok(()),
        }
    }

    /// That nothing is left but what changes no answer: fields in `idle`, those that are off, and notes.
    pub(super) fn finish(self, idle: &[&str]) -> Result<(), FolderError> {
        let unknown = self.map.iter().find(|(name, value)| {
            let note = value.is_string() || name.starts_with('_');
            let off = value.is_null() || **value == Value::Bool(false);
            !(note || off || idle.contains(&name.as_str()))
        });
        match unknown {
            None => Ok(()),
            Some((name, value)) => {
                let problem = format!(
                    "is {}, and is not known to this program: if it changes nothing that the model computes, remove it",
                    short(value)
                );
                Err(self.wrong(name, problem))
            }
        }
    }
}

/// A value in an error; of a long one its beginning.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A file's value.
///
/// # Errors
/// It is no JSON, or a name stands twice in an object.
pub(crate) fn strict(bytes: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(bytes).map(|Strict(value)| value)
}

/// What serde says, in one line: names that are not known it quotes as they are.
pub(crate) fn line(error: &serde_json::Error) -> String {
    let mut line = String::new();
    for c in error.to_string().chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

/// JSON in which no name stands twice in an object.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let Strict(value) = entries.next_value()?;
            if map.contains_key(&name) {
                return Err(de::Error::custom(format_args!("{name:?} occurs twice")));
            }
            map.insert(name, value);
        }
        Ok(map.into())
    }
}
