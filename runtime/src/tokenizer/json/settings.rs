use std::path::Path;

use serde_json::Value;

use super::document::AddedToken;
use crate::file;
use crate::huggingface::{line, strict};
use crate::tokenizer::TokenizerError;

const CONFIG: &str = "tokenizer_config.json";

/// What a Hugging Face folder says about its tokenizer outside of `tokenizer.json`.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Whether a text begins with the beginning-of-sequence token; `None` leaves it to `tokenizer.json`.
    pub add_bos: Option<bool>,
    /// Whether a text ends with the end-of-sequence token.
    pub add_eos: Option<bool>,
    /// The beginning-of-sequence token's text.
    pub bos_token: Option<String>,
    /// The end-of-sequence token's text.
    pub eos_token: Option<String>,
    /// Ids that end a completion, beside those whose text says so.
    pub ends: Vec<u32>,
    /// Tokens that are perhaps not in `tokenizer.json`.
    pub(super) added: Vec<AddedToken>,
}

impl Settings {
    /// Of the files `tokenizer_config.json`, `generation_config.json` and `config.json`; one that is missing says nothing.
    ///
    /// # Errors
    /// A file that cannot be read, is no JSON object, has a name twice in one, or has a field of the wrong type.
    pub fn read(folder: &Path) -> Result<Settings, TokenizerError> {
        let mut settings = match read(folder, CONFIG)? {
            Some(config) => Settings::of(&config)?,
            None => Settings::default(),
        };
        for file in ["generation_config.json", "config.json"] {
            let ids = read(folder, file)?.map_or(Value::Null, |mut config| config["eos_token_id"].take());
            let ids = match ids {
                Value::Null => Vec::new(),
                Value::Array(ids) => ids,
                id => vec![id],
            };
            for id in ids {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                settings.ends.push(id.ok_or_else(|| wrong(file, "eos_token_id", "a token's id"))?);
            }
        }
        Ok(settings)
    }

    fn of(config: &Value) -> Result<Settings, TokenizerError> {
        let flag = |key: &'static str| match &config[key] {
            Value::Null => Ok(None),
            Value::Bool(flag) => Ok(Some(*flag)),
            _ => Err(wrong(CONFIG, key, "a bool")),
        };
        // A token is a text, or a map in which the text is one of several fields.
        let token = |key: &'static str| match &config[key] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            token => match &token["content"] {
                Value::String(text) => Ok(Some(text.clone())),
                _ => Err(wrong(CONFIG, key, "a token")),
            },
        };
        let mut added = Vec::new();
        for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
            let wrong = || wrong(CONFIG, "added_tokens_decoder", "a map of ids to tokens");
            let mut token = token.clone();
            let fields = token.as_object_mut().ok_or_else(wrong)?;
            fields.insert("id".to_owned(), id.parse::<u32>().map_err(|_| wrong())?.into());
            added.push(serde_json::from_value(token).map_err(|_| wrong())?);
        }
        Ok(Settings {
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            bos_token: token("bos_token")?,
            eos_token: token("eos_token")?,
            ends: Vec::new(),
            added,
        })
    }
}

fn wrong(file: &'static str, key: &str, wanted: &str) -> TokenizerError {
    TokenizerError::Json { file, fault: format!("{key} is not {wanted}") }
}

fn read(folder: &Path, name: &'static str) -> Result<Option<Value>, TokenizerError> {
    let path = folder.join(name);
    match file::read(&path, file::MAX_SETTINGS) {
        Ok(bytes) => {
            let fault = |fault| TokenizerError::Json { file: name, fault };
            let value = strict(&bytes).map_err(|error| fault(line(&error)))?;
            if value.is_object() { Ok(Some(value)) } else { Err(fault("it is no object".to_owned())) }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TokenizerError::File { path, error }),
    }
}
