use std::collections::HashMap;

use super::{TokenizerError, byte_alphabet};

/// What stands for a space in vocabularies whose tokens are characters.
pub(super) const SPACE: &str = "\u{2581}";

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes or characters, written as the vocabulary's [`Spelling`] says.
    Normal,
    /// Stands for what the vocabulary lacks.
    Unknown,
    /// Directs the model and has no text.
    Control,
    /// Plain text that is always one token.
    UserDefined,
    /// Fills up the vocabulary.
    Unused,
    /// One byte, written `<0x0A>`, for characters that have no token.
    Byte,
}

impl Kind {
    /// Whether merging may end in such a token. A text that spells a control token or a byte's name does not become it.
    pub(super) fn is_merged(self) -> bool {
        matches!(self, Kind::Normal | Kind::UserDefined | Kind::Unused)
    }
}

/// How normal tokens are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// A character of the byte alphabet for each byte.
    Alphabet,
    /// As they read, with [`SPACE`] for a space.
    Characters,
}

/// The tokens as the file writes them, while the tokenizer is being made.
pub(super) struct Texts<'a> {
    by_id: Vec<&'a str>,
    ids: HashMap<&'a str, u32>,
}

impl<'a> Texts<'a> {
    /// `key` is where the file has them. Empty texts fill up the vocabulary; nothing can mean one of them.
    pub(super) fn new(key: &'static str, by_id: Vec<&'a str>) -> Result<Texts<'a>, TokenizerError> {
        let invalid = |fault| TokenizerError::Invalid { key, fault };
        let mut ids = HashMap::with_capacity(by_id.len());
        for (id, &text) in by_id.iter().enumerate() {
            let id = u32::try_from(id).map_err(|_| invalid("there are more than 2^32 tokens".to_owned()))?;
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
}

/// The tokens' bytes.
#[derive(Debug)]
pub(super) struct Vocab {
    kinds: Vec<Kind>,
    /// The bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Where in `bytes` each token ends.
    ends: Vec<usize>,
}

impl Vocab {
    pub(super) fn new(texts: &Texts<'_>, kinds: Vec<Kind>, spelling: Spelling) -> Vocab {
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(texts.len()));
        for (id, text) in texts.iter() {
            match (spelling, kinds[id as usize]) {
                (_, Kind::Byte) => bytes.extend(byte_named(text)),
                (Spelling::Alphabet, Kind::Normal) => match in_alphabet(text) {
                    Some(decoded) => bytes.extend(decoded),
                    // A few normal tokens of some converters are written as they read.
                    None => bytes.extend(text.as_bytes()),
                },
                (Spelling::Characters, kind) if kind.is_merged() => {
                    bytes.extend(text.replace(SPACE, " ").into_bytes());
                }
                _ => bytes.extend(text.as_bytes()),
            }
            ends.push(bytes.len());
        }
        Vocab { kinds, bytes, ends }
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
            Some(Kind::Normal | Kind::UserDefined | Kind::Byte) => self.bytes(id).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Normal tokens by their bytes.
    pub(super) fn words(&self) -> HashMap<Box<[u8]>, u32> {
        let normal = (0..).zip(&self.kinds).filter(|(_, kind)| **kind == Kind::Normal);
        normal.filter_map(|(id, _)| Some((self.bytes(id)?.into(), id))).collect()
    }
}

/// The bytes of a text that is written in the byte alphabet.
pub(super) fn in_alphabet(text: &str) -> Option<Vec<u8>> {
    text.chars().map(byte_alphabet::byte).collect()
}

/// The byte of a name such as `<0x0A>`.
pub(super) fn byte_named(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if hexadecimal { u8::from_str_radix(digits, 16).ok() } else { None }
}
