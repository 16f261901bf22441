//! A tokenizer from a `tokenizer.json`, the format of the Hugging Face tokenizers library.

mod document;
mod parts;
mod settings;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use settings::Settings;

use super::bpe::{Bpe, Merges, Units, alphabet_bytes};
use super::normalizer::Normalizer;
use super::pre_tokenizer::PreTokenizer;
use super::special::{Added, Special};
use super::vocab::{Kind, Spelling, Texts, Vocab, byte_named};
use super::{Tokenizer, TokenizerError, end_tokens};
use crate::file;
use crate::huggingface::line;
use document::{Document, Merge, Model, Outline};
use parts::{Around, Splitting};

const FILE: &str = "tokenizer.json";
/// Bytes of it; the largest vocabularies take some ten million.
const MAX_FILE: u64 = 256 << 20;
const VOCAB: &str = "model.vocab";
const ADDED: &str = "added_tokens";

impl Tokenizer {
    /// The tokenizer of a Hugging Face folder: `tokenizer.json`, and what the files beside it say.
    ///
    /// # Errors
    /// A file that cannot be read, and what [`from_json`](Self::from_json) does not take.
    pub fn from_folder(folder: &Path) -> Result<Tokenizer, TokenizerError> {
        let path = folder.join(FILE);
        let json = file::read(&path, MAX_FILE).map_err(|error| TokenizerError::File { path, error })?;
        Tokenizer::from_json(&json, &Settings::read(folder)?)
    }

    /// The tokenizer that the bytes of a `tokenizer.json` describe: byte pair encoding of bytes, or of characters with
    /// bytes for the rest.
    ///
    /// # Errors
    /// A [`TokenizerError`] that names the field: JSON of another shape, a model or a step that is not supported, or what
    /// contradicts itself.
    pub fn from_json(json: &[u8], settings: &Settings) -> Result<Tokenizer, TokenizerError> {
        let fault = |error| TokenizerError::Json { file: FILE, fault: line(&error) };
        let Outline { model } = serde_json::from_slice(json).map_err(fault)?;
        match model.kind.as_deref() {
            Some("BPE") => {}
            None if model.merges.is_some() => {}
            kind => {
                let what = format!("{:?}", kind.unwrap_or("missing"));
                let hint = ": \"BPE\" is";
                return Err(TokenizerError::Unsupported { field: "model.type".to_owned(), what, hint });
            }
        }
        let Document { mut added_tokens, normalizer, pre_tokenizer, post_processor, decoder, model, .. } =
            serde_json::from_slice(json).map_err(fault)?;
        let known: HashMap<String, u32> =
            added_tokens.iter().map(|token| (token.content.clone(), token.id)).collect();
        added_tokens
            .extend(settings.added.iter().filter(|token| !known.contains_key(&token.content)).cloned());

        let Splitting { steps, metaspace, spelling } = Splitting::of(part("pre_tokenizer", pre_tokenizer)?)?;
        let byte_fallback = model.byte_fallback.unwrap_or(false);
        parts::check_decoder(part("decoder", decoder)?, spelling, byte_fallback)?;
        let changes = part("normalizer", normalizer)?.map_or(Ok(Vec::new()), parts::changes)?;
        let normalizer = Normalizer(changes);
        let around = part("post_processor", post_processor)?.map_or(Ok(Around::default()), Around::of)?;
        check(&model)?;

        let by_id = by_id(&model, &added_tokens)?;
        let texts = Texts::new(VOCAB, by_id)?;
        let mut kinds = vec![Kind::Normal; texts.len()];
        if byte_fallback {
            for (id, _) in texts.iter().filter(|(_, text)| byte_named(text).is_some()) {
                kinds[id as usize] = Kind::Byte;
            }
        }
        let unknown =
            model.unk_token.as_deref().map(|text| id_of(&texts, "model.unk_token", text)).transpose()?;
        kinds
            .iter_mut()
            .zip(0..)
            .filter(|&(_, id)| Some(id) == unknown)
            .for_each(|(kind, _)| *kind = Kind::Unknown);
        // One that the model has as well stays what it is there, in the model's spelling.
        let of_model: HashSet<u32> = model.vocab.iter().map(|&(_, id)| id).collect();
        for token in &added_tokens {
            let kind = &mut kinds[token.id as usize];
            *kind = match token.special {
                true => Kind::Control,
                false if of_model.contains(&token.id) => *kind,
                false => Kind::UserDefined,
            };
        }

        let mut declared = settings.ends.clone();
        declared.extend(settings.eos_token.as_deref().and_then(|text| texts.id(text)));
        if let Some(id) = declared.iter().find(|&&id| id as usize >= texts.len()) {
            let fault = format!("token {id} is outside the vocabulary of {}", texts.len());
            return Err(TokenizerError::Invalid { key: "eos_token_id", fault });
        }
        let mut ends = end_tokens::find(&texts, |_| Ok(None))?;
        ends.retain(|id| added_tokens.iter().any(|token| token.id == *id));
        ends.extend(declared);
        ends.sort_unstable();
        ends.dedup();
        for &id in &ends {
            kinds[id as usize] = Kind::Control;
        }

        let side = |add: Option<bool>, key, text: &Option<String>, template| match add {
            None => Ok(template),
            Some(false) => Ok(Vec::new()),
            Some(true) => id_of(&texts, key, text.as_deref().unwrap_or_default()).map(|id| vec![id]),
        };
        let prefix = side(settings.add_bos, "bos_token", &settings.bos_token, around.prefix)?;
        let suffix = side(settings.add_eos, "eos_token", &settings.eos_token, around.suffix)?;
        if let Some(id) = prefix.iter().chain(&suffix).find(|&&id| id as usize >= texts.len()) {
            let fault = format!("token {id} is outside the vocabulary of {}", texts.len());
            return Err(TokenizerError::Invalid { key: "post_processor", fault });
        }

        let (mut raw, mut normalized) = (Vec::new(), Vec::new());
        for token in &added_tokens {
            let in_normalized = token.normalized.unwrap_or(!token.special);
            let text = match in_normalized {
                true => normalizer.apply(&token.content).into_owned(),
                false => token.content.clone(),
            };
            let control = kinds[token.id as usize] == Kind::Control;
            let (id, lstrip, rstrip, single_word) = (token.id, token.lstrip, token.rstrip, token.single_word);
            let side = if in_normalized { &mut normalized } else { &mut raw };
            side.push(Added { id, text, control, lstrip, rstrip, single_word });
        }

        let merges = Merges::pairs("model.merges", model.merges.iter().map(pair_of), &texts, &kinds)?;
        let (units, bytes) = match spelling {
            Spelling::Alphabet => (Units::Bytes, alphabet_bytes(&texts, &kinds)),
            Spelling::Characters => (Units::characters(&texts, &kinds), bytes(&texts, &kinds)),
        };
        let vocab = Vocab::new(&texts, kinds, spelling);
        let words = match (model.ignore_merges.unwrap_or(false), spelling) {
            (false, _) => HashMap::new(),
            (true, Spelling::Alphabet) => vocab.words(),
            (true, Spelling::Characters) => {
                texts.iter().map(|(id, text)| (text.as_bytes().into(), id)).collect()
            }
        };
        Ok(Tokenizer {
            kind: "tokenizer.json".to_owned(),
            vocab,
            special: Special::new(ADDED, raw)?,
            normalizer,
            normalized_special: Special::new(ADDED, normalized)?,
            metaspace,
            pre: PreTokenizer(steps),
            words,
            bpe: Bpe { units, merges, bytes, unknown, fuse_unknown: model.fuse_unk.unwrap_or(false) },
            ends,
            prefix,
            suffix,
        })
    }
}

fn unsupported(field: &str, what: String) -> TokenizerError {
    TokenizerError::Unsupported { field: field.to_owned(), what, hint: "" }
}

/// A part of the document, if it is there.
fn part<T: DeserializeOwned>(field: &'static str, value: Option<Value>) -> Result<Option<T>, TokenizerError> {
    let fault = |error| TokenizerError::Json { file: FILE, fault: format!("{field}: {}", line(&error)) };
    serde_json::from_value(value.unwrap_or_default()).map_err(fault)
}

/// Whether the model asks for something that is not known here.
fn check(model: &Model) -> Result<(), TokenizerError> {
    if let Some(dropout) = model.dropout.filter(|&dropout| dropout != 0.0) {
        return Err(unsupported("model.dropout", dropout.to_string()));
    }
    let affixes = [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ];
    for (field, affix) in affixes {
        if let Some(affix) = affix.as_deref().filter(|affix| !affix.is_empty()) {
            return Err(unsupported(field, format!("{affix:?}")));
        }
    }
    Ok(())
}

/// The texts of all tokens by their ids; empty where there is none.
fn by_id<'a>(model: &'a Model, added: &'a [document::AddedToken]) -> Result<Vec<&'a str>, TokenizerError> {
    let invalid = |key, fault| TokenizerError::Invalid { key, fault };
    let of_model = model.vocab.iter().map(|(text, id)| (VOCAB, text.as_str(), *id));
    let of_added = added.iter().map(|token| (ADDED, token.content.as_str(), token.id));
    // Files leave gaps, but no large ones.
    let most = 2 * (model.vocab.len() + added.len()) + 1024;
    let mut by_id: Vec<&str> = Vec::new();
    for (key, text, id) in of_model.chain(of_added) {
        let at = id as usize;
        if at >= most {
            return Err(invalid(key, format!("token {id} is far outside of a vocabulary of {}", most / 2)));
        }
        if by_id.len() <= at {
            by_id.resize(at + 1, "");
        }
        if !by_id[at].is_empty() && (by_id[at] != text || key == VOCAB) {
            return Err(invalid(key, format!("token {id} is both {:?} and {text:?}", by_id[at])));
        }
        by_id[at] = text;
    }
    Ok(by_id)
}

fn id_of(texts: &Texts<'_>, key: &'static str, text: &str) -> Result<u32, TokenizerError> {
    let fault = || format!("{text:?} is not in the vocabulary");
    texts.id(text).ok_or_else(|| TokenizerError::Invalid { key, fault: fault() })
}

fn pair_of(merge: &Merge) -> Result<(&str, &str), String> {
    match merge {
        Merge::Pair([left, right]) => Ok((left, right)),
        Merge::Joined(text) => {
            let pair = text.split_once(' ').filter(|(_, right)| !right.contains(' '));
            pair.ok_or_else(|| format!("{text:?}, is not a pair"))
        }
    }
}

/// The tokens of single bytes, which are named after them.
fn bytes(texts: &Texts<'_>, kinds: &[Kind]) -> [Option<u32>; 256] {
    let mut bytes = [None; 256];
    for (id, text) in texts.iter().filter(|&(id, _)| kinds[id as usize] == Kind::Byte) {
        if let Some(byte) = byte_named(text) {
            bytes[usize::from(byte)] = Some(id);
        }
    }
    bytes
}
