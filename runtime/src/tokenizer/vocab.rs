use std::collections::HashMap;

use super::{TokenizerError, byte_alphabet};
use crate::gguf::{Gguf, Optional};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";

/// What a token is for; the metadata's numbers are 1 to 5 in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes, written in the byte alphabet.
    Normal,
    /// Stands for what the vocabulary lacks.
    Unknown,
    /// Directs the model and has no text.
    Control,
    /// Plain text that is always one token.
    UserDefined,
    /// Fills up the vocabulary.
    Unused,
}

/// The tokens as the file writes them, while the tokenizer is being made.
pub(super) struct Texts<'a> {
    by_id: Vec<&'a str>,
    ids: HashMap<&'a str, u32>,
}

impl<'a> Texts<'a> {
    pub(super) fn read(gguf: &'a Gguf) -> Result<Texts<'a>, TokenizerError> {
        let invalid = |fault| TokenizerError::Invalid { key: TOKENS, fault };
        let by_id: Vec<&str> = gguf.strings(TOKENS)?.collect();
        let mut ids = HashMap::with_capacity(by_id.len());
        for (id, &text) in by_id.iter().enumerate() {
            let id = u32::try_from(id).map_err(|_| invalid("there are more than 2^32 tokens".to_owned()))?;
            // Files pad their vocabulary with empty tokens; nothing can mean one of them.
            if !text.is_empty()
                && let Some(first) = ids.insert(text, id)
            {
                return Err(invalid(format!("tokens {first} and {id} are both {text:?}")));
            }
        }
        Ok(Texts { by_id, ids })
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Texts with their ids, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &'a str)> {
        (0..).zip(self.by_id.iter().copied())
    }

    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// The id that the metadata have under `key`, which the vocabulary must have.
    pub(super) fn id_at(&self, gguf: &Gguf, key: &'static str) -> Result<u32, TokenizerError> {
        let id = gguf.u32(key)?;
        if id as usize >= self.len() {
            let fault = format!("token {id} is outside the vocabulary of {}", self.len());
            return Err(TokenizerError::Invalid { key, fault });
        }
        Ok(id)
    }
}

/// The kind of every token; all are normal in a file that does not say.
pub(super) fn kinds(gguf: &Gguf, texts: &Texts<'_>) -> Result<Vec<Kind>, TokenizerError> {
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
        other => {
            Err(invalid(format!("type {other} of token {id} does not occur in a byte-level vocabulary")))
        }
    };
    types.into_iter().enumerate().map(kind).collect()
}

/// The tokens' bytes.
#[derive(Debug)]
pub(super) struct Vocab {
    kinds: Vec<Kind>,
    /// The bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Where in `bytes` each token ends.
    ends: Vec<usize>,
    /// The token of each single byte.
    byte_ids: [Option<u32>; 256],
}

impl Vocab {
    pub(super) fn new(texts: &Texts<'_>, kinds: Vec<Kind>) -> Vocab {
        let (mut bytes, mut ends, mut byte_ids) = (Vec::new(), Vec::with_capacity(texts.len()), [None; 256]);
        for (id, text) in texts.iter() {
            let start = bytes.len();
            let in_alphabet: Option<Vec<u8>> = text.chars().map(byte_alphabet::byte).collect();
            match in_alphabet {
                Some(decoded) if kinds[id as usize] == Kind::Normal => bytes.extend(decoded),
                // Every other kind is written as it reads, and so are a few normal tokens of some converters.
                _ => bytes.extend(text.as_bytes()),
            }
            if let &[byte] = &bytes[start..]
                && kinds[id as usize] == Kind::Normal
            {
                byte_ids[usize::from(byte)] = Some(id);
            }
            ends.push(bytes.len());
        }
        Vocab { kinds, bytes, ends, byte_ids }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        Some(&self.bytes[start..end])
    }

    /// The bytes that a token adds to a text; none for a control token or an id outside the vocabulary.
    pub(super) fn visible(&self, id: u32) -> &[u8] {
        match self.kinds.get(id as usize) {
            Some(Kind::Normal | Kind::UserDefined) => self.bytes(id).unwrap_or_default(),
            _ => &[],
        }
    }

    pub(super) fn byte_id(&self, byte: u8) -> Option<u32> {
        self.byte_ids[usize::from(byte)]
    }

    /// Normal tokens by their bytes.
    pub(super) fn words(&self) -> HashMap<Box<[u8]>, u32> {
        let normal = (0..).zip(&self.kinds).filter(|(_, kind)| **kind == Kind::Normal);
        normal.filter_map(|(id, _)| Some((self.bytes(id)?.into(), id))).collect()
    }
}
