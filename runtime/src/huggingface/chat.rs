//! The chat template of a folder, and the texts of the special tokens that it may name.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::error::{FolderError, FolderProblem};
use super::json::{self, Fields};
use crate::chat_template::ChatTemplate;

/// Settings of the tokenizer, which older folders have the template in.
const SETTINGS: &str = "tokenizer_config.json";
/// The template in a file of its own.
const TEMPLATE: &str = "chat_template.jinja";

/// Bytes of that file; what may be run is less.
const MAX_TEMPLATE: u64 = 1 << 20;

/// The chat template, if the folder has one.
///
/// # Errors
/// A file that cannot be read, or settings of the wrong type.
pub fn chat_template(folder: &Path) -> Result<Option<ChatTemplate>, FolderError> {
    let (mut special, mut source) = (Vec::new(), None);
    if let Some(mut fields) = Fields::of_file(&folder.join(SETTINGS))? {
        for role in ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token"] {
            special.extend(fields.optional(role, "a token", text)?.map(|text| (role, text)));
        }
        source = fields.optional("chat_template", "a template, or several by name", template)?;
    }
    let path = folder.join(TEMPLATE);
    if let Some(bytes) = json::read(&path, MAX_TEMPLATE)? {
        let no_text = |_| FolderProblem::from(io::Error::from(io::ErrorKind::InvalidData)).at(&path);
        source = Some(String::from_utf8(bytes).map_err(no_text)?);
    }
    Ok(source.map(|source| ChatTemplate::new(&source, special)))
}

/// A token's text, by itself or in an object that says how it is found.
fn text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// The template, or the one called `default`.
fn template(value: &Value) -> Option<String> {
    let is_default = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
    let template = match value.as_array() {
        Some(list) => list.iter().find(is_default)?.get("template")?,
        None => value,
    };
    template.as_str().map(str::to_owned)
}
