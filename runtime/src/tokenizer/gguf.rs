//! A tokenizer from the metadata of a GGUF file.

use std::collections::HashMap;

use super::bpe::{Bpe, Merges, Units, alphabet_bytes};
use super::normalizer::{Change, Normalizer};
use super::pre_tokenizer::{DEFAULT, Family, PreTokenizer};
use super::special::{Added, Special};
use super::vocab::{Kind, SPACE, Spelling, Texts, Vocab, byte_named};
use super::{Tokenizer, TokenizerError, end_tokens};
use crate::gguf::{Gguf, Optional};

const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";

impl Tokenizer {
    /// The tokenizer that a model file describes under `tokenizer.ggml.`.
    ///
    /// # Errors
    /// A [`TokenizerError`] naming the key: missing, of the wrong type, inconsistent, or a tokenizer model or
    /// pre-tokenizer that is not supported.
    pub fn from_gguf(gguf: &Gguf) -> Result<Tokenizer, TokenizerError> {
        let model = Model::of(gguf)?;
        let texts = Texts::new(TOKENS, gguf.strings(TOKENS)?.collect())?;
        let mut kinds = kinds(gguf, &texts)?;
        let id_at = |key| id_at(gguf, &texts, key);
        let ends = end_tokens::find(&texts, |key| optional(gguf, &texts, key))?;
        for &id in &ends {
            kinds[id as usize] = Kind::Control;
        }
        let around = |add_key, id_key, default| match gguf.bool(add_key).optional()?.unwrap_or(default) {
            true => id_at(id_key).map(|id| vec![id]),
            false => Ok(Vec::new()),
        };
        let prefix = around("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", model.adds_bos())?;
        let suffix = around("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id", false)?;
        let unknown = optional(gguf, &texts, UNKNOWN)?;
        let special = Special::new(TYPES, added(gguf, &model, &texts, &kinds))?;
        let bpe = model.bpe(gguf, &texts, &kinds, unknown)?;
        let (kind, normalizer, pre) = (model.kind(), model.normalizer(gguf)?, model.pre_tokenizer());
        let spelling = model.spelling();
        let vocab = Vocab::new(&texts, kinds, spelling);
        let words = model.words(&vocab, &texts);
        Ok(Tokenizer {
            kind,
            vocab,
            special,
            normalizer,
            normalized_special: Special::new(TYPES, Vec::new())?,
            metaspace: None,
            pre,
            words,
            bpe,
            ends,
            prefix,
            suffix,
        })
    }
}

/// What `tokenizer.ggml.model` and `tokenizer.ggml.pre` name.
enum Model {
    /// Byte-level BPE with words of this family; the name.
    Bytes(&'static Family, String),
    /// SentencePiece's BPE.
    SentencePiece,
    /// BPE of characters, with bytes for those that have no token.
    Gemma4(&'static Family),
}

impl Model {
    fn of(gguf: &Gguf) -> Result<Model, TokenizerError> {
        match gguf.str("tokenizer.ggml.model")? {
            "gpt2" => {
                let pre = gguf.str(PRE).optional()?.filter(|name| !name.is_empty()).unwrap_or(DEFAULT);
                if pre == DEFAULT {
                    let path = gguf.path().display();
                    tracing::warn!(
                        event = "startup",
                        "{path}: {PRE} does not say how words are split: they are as llama.cpp splits them then, which is probably not what the model was trained with; convert it anew"
                    );
                }
                Ok(Model::Bytes(Family::named(pre)?, pre.to_owned()))
            }
            "llama" => {
                for key in ["tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.precompiled_charsmap"]
                {
                    if gguf.get(key).is_some_and(|_| !matches!(gguf.bool(key), Ok(false))) {
                        let fault = "this way of normalizing text is not supported".to_owned();
                        return Err(TokenizerError::Invalid { key, fault });
                    }
                }
                Ok(Model::SentencePiece)
            }
            "gemma4" => Ok(Model::Gemma4(Family::named("gemma4")?)),
            other => Err(TokenizerError::Model(other.to_owned())),
        }
    }

    fn kind(&self) -> String {
        match self {
            Model::Bytes(_, pre) => format!("gpt2/{pre}"),
            Model::SentencePiece => "llama".to_owned(),
            Model::Gemma4(_) => "gemma4".to_owned(),
        }
    }

    fn adds_bos(&self) -> bool {
        match self {
            Model::Bytes(family, _) | Model::Gemma4(family) => family.adds_bos,
            Model::SentencePiece => true,
        }
    }

    fn spelling(&self) -> Spelling {
        match self {
            Model::Bytes(..) => Spelling::Alphabet,
            Model::SentencePiece | Model::Gemma4(_) => Spelling::Characters,
        }
    }

    fn pre_tokenizer(&self) -> PreTokenizer {
        match self {
            Model::Bytes(family, _) | Model::Gemma4(family) => family.pre_tokenizer(),
            Model::SentencePiece => PreTokenizer::default(),
        }
    }

    fn normalizer(&self, gguf: &Gguf) -> Result<Normalizer, TokenizerError> {
        let mut changes = Vec::new();
        if self.spelling() == Spelling::Characters {
            let default = matches!(self, Model::SentencePiece);
            if gguf.bool("tokenizer.ggml.add_space_prefix").optional()?.unwrap_or(default) {
                changes.push(Change::Prepend(SPACE.to_owned()));
            }
            changes.push(Change::Replace { from: " ".to_owned(), to: SPACE.to_owned() });
        }
        Ok(Normalizer(changes))
    }

    fn bpe(
        &self,
        gguf: &Gguf,
        texts: &Texts<'_>,
        kinds: &[Kind],
        unknown: Option<u32>,
    ) -> Result<Bpe, TokenizerError> {
        let pairs = || Merges::pairs(MERGES, gguf.strings(MERGES)?.map(pair_of), texts, kinds);
        if let Model::Bytes(..) = self {
            let bytes = alphabet_bytes(texts, kinds);
            return Ok(Bpe {
                units: Units::Bytes,
                merges: pairs()?,
                bytes,
                unknown: None,
                fuse_unknown: false,
            });
        }
        let mut bytes = [None; 256];
        for (id, text) in texts.iter().filter(|&(id, _)| kinds[id as usize] == Kind::Byte) {
            let fault = || format!("token {id}, {text:?}, is no byte");
            let byte =
                byte_named(text).ok_or_else(|| TokenizerError::Invalid { key: TYPES, fault: fault() })?;
            bytes[usize::from(byte)] = Some(id);
        }
        let merges = match self {
            Model::SentencePiece => Merges::scored(SCORES, &gguf.f32s(SCORES)?, texts, kinds)?,
            _ => pairs()?,
        };
        if unknown.is_none() && bytes.contains(&None) {
            let fault = "it is missing, and so are tokens of some bytes".to_owned();
            return Err(TokenizerError::Invalid { key: UNKNOWN, fault });
        }
        let units = Units::characters(texts, kinds);
        Ok(Bpe { units, merges, bytes, unknown, fuse_unknown: true })
    }

    /// The words that are taken whole, as they are in the text.
    fn words(&self, vocab: &Vocab, texts: &Texts<'_>) -> HashMap<Box<[u8]>, u32> {
        match self {
            Model::Bytes(family, _) if family.whole_words => vocab.words(),
            // Its merges do not make newlines, though it has tokens of them.
            Model::Gemma4(_) => {
                let newlines = texts.iter().filter(|(_, text)| text.bytes().all(|byte| byte == b'\n'));
                newlines.map(|(id, text)| (text.as_bytes().into(), id)).collect()
            }
            _ => HashMap::new(),
        }
    }
}

/// The two parts of a merge; the left one may begin with a space.
fn pair_of(text: &str) -> Result<(&str, &str), String> {
    let first = text.chars().next().map_or(0, char::len_utf8);
    let space = text[first..].find(' ').map(|at| first + at);
    let pair = space.map(|at| (&text[..at], &text[at + 1..])).filter(|(_, right)| !right.is_empty());
    pair.ok_or_else(|| format!("{text:?}, is not a pair"))
}

/// The kind of every token; all are normal in a file that does not say.
fn kinds(gguf: &Gguf, texts: &Texts<'_>) -> Result<Vec<Kind>, TokenizerError> {
    let invalid = |fault| TokenizerError::Invalid { key: TYPES, fault };
    let Some(types) = gguf.i32s(TYPES).optional()? else {
        return Ok(vec![Kind::Normal; texts.len()]);
    };
    if types.len() != texts.len() {
        return Err(invalid(format!("{} types for {} tokens", types.len(), texts.len())));
    }
    let kind = |(id, ty)| match ty {
        1 => Ok(Kind::Normal),
        2 => Ok(Kind::Unknown),
        3 => Ok(Kind::Control),
        4 => Ok(Kind::UserDefined),
        5 => Ok(Kind::Unused),
        6 => Ok(Kind::Byte),
        other => Err(invalid(format!("type {other} of token {id} is none of 1 to 6"))),
    };
    types.into_iter().enumerate().map(kind).collect()
}

/// The tokens that stand in a text as they are.
fn added(gguf: &Gguf, model: &Model, texts: &Texts<'_>, kinds: &[Kind]) -> Vec<Added> {
    // Phi-3's take the white space behind them along; its files do not say so, nor does any file have a field for it.
    let named = |key| gguf.str(key).unwrap_or_default().to_lowercase();
    let is_phi3 = named("general.architecture") == "phi3"
        || ["phi-3", "phi3"].iter().any(|name| named("general.name").contains(name));
    let strips = matches!(model, Model::SentencePiece) && is_phi3;
    let special = texts.iter().filter_map(|(id, text)| {
        let kind = kinds[id as usize];
        let is_special = matches!(kind, Kind::Control | Kind::Unknown | Kind::UserDefined);
        is_special.then(|| Added {
            id,
            text: text.to_owned(),
            control: kind != Kind::UserDefined,
            rstrip: strips && !["<unk>", "<s>", "<|endoftext|>"].contains(&text),
            ..Added::default()
        })
    });
    special.collect()
}

/// The id that the metadata have under `key`, which the vocabulary must have.
fn id_at(gguf: &Gguf, texts: &Texts<'_>, key: &'static str) -> Result<u32, TokenizerError> {
    let id = gguf.u32(key)?;
    if id as usize >= texts.len() {
        let fault = format!("token {id} is outside the vocabulary of {}", texts.len());
        return Err(TokenizerError::Invalid { key, fault });
    }
    Ok(id)
}

/// The id that the metadata have under `key`, if they have one of the vocabulary: some converters write others for none.
fn optional(gguf: &Gguf, texts: &Texts<'_>, key: &str) -> Result<Option<u32>, TokenizerError> {
    let Some(id) = gguf.u32(key).optional()? else { return Ok(None) };
    if id as usize >= texts.len() {
        let (path, len) = (gguf.path().display(), texts.len());
        tracing::warn!(
            event = "startup",
            "{path}: {key}: token {id} is outside the vocabulary of {len}: there is none"
        );
        return Ok(None);
    }
    Ok(Some(id))
}
