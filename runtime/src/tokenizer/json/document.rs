//! The parts of a `tokenizer.json` that are understood. A part of another kind, or with a field that is not listed here, is an
//! error that names it.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::tokenizer::split::Behaviour;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedToken>,
    pub(super) normalizer: Option<Value>,
    pub(super) pre_tokenizer: Option<Value>,
    pub(super) post_processor: Option<Value>,
    pub(super) decoder: Option<Value>,
    pub(super) model: Model,
    #[serde(rename = "version")]
    _version: Option<IgnoredAny>,
    // How texts are cut and filled up in training.
    #[serde(rename = "truncation")]
    _truncation: Option<IgnoredAny>,
    #[serde(rename = "padding")]
    _padding: Option<IgnoredAny>,
}

/// What is needed to say that a model is none that is known.
#[derive(Deserialize)]
pub(super) struct Outline {
    pub(super) model: ModelOutline,
}

#[derive(Deserialize)]
pub(super) struct ModelOutline {
    /// Old files leave it out.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) merges: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    #[serde(rename = "type")]
    _kind: Option<IgnoredAny>,
    pub(super) dropout: Option<f32>,
    pub(super) unk_token: Option<String>,
    pub(super) continuing_subword_prefix: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    pub(super) fuse_unk: Option<bool>,
    pub(super) byte_fallback: Option<bool>,
    pub(super) ignore_merges: Option<bool>,
    #[serde(deserialize_with = "entries")]
    pub(super) vocab: Vec<(String, u32)>,
    pub(super) merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Merge {
    Joined(String),
    Pair([String; 2]),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    pub(super) normalized: Option<bool>,
    #[serde(default)]
    pub(super) special: bool,
}

#[derive(Deserialize)]
pub(super) enum Pattern {
    String(String),
    Regex(String),
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum Normalizer {
    Sequence { normalizers: Vec<Normalizer> },
    Prepend { prepend: String },
    Replace { pattern: Pattern, content: String },
    NFC {},
    NFD {},
    NFKC {},
    NFKD {},
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum PreTokenizer {
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
    ByteLevel {
        #[serde(default = "yes")]
        add_prefix_space: bool,
        #[serde(default = "yes")]
        use_regex: bool,
        #[serde(rename = "trim_offsets")]
        _trim_offsets: Option<bool>,
    },
    Split {
        pattern: Pattern,
        behavior: Behaviour,
        #[serde(default)]
        invert: bool,
    },
    Digits {
        #[serde(default)]
        individual_digits: bool,
    },
    Punctuation {
        #[serde(default = "isolated")]
        behavior: Behaviour,
    },
    WhitespaceSplit {},
    Metaspace(Metaspace),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metaspace {
    pub(super) replacement: char,
    pub(super) add_prefix_space: Option<bool>,
    #[serde(default)]
    pub(super) prepend_scheme: PrependScheme,
    pub(super) split: Option<bool>,
    #[serde(rename = "str_rep")]
    _str_rep: Option<IgnoredAny>,
}

#[derive(Default, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum PrependScheme {
    First,
    Never,
    #[default]
    Always,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum PostProcessor {
    Sequence {
        processors: Vec<PostProcessor>,
    },
    ByteLevel {
        #[serde(rename = "add_prefix_space")]
        _add_prefix_space: Option<bool>,
        #[serde(rename = "trim_offsets")]
        _trim_offsets: Option<bool>,
        #[serde(rename = "use_regex")]
        _use_regex: Option<bool>,
    },
    TemplateProcessing {
        single: Vec<Piece>,
        #[serde(rename = "pair")]
        _pair: Option<IgnoredAny>,
        special_tokens: BTreeMap<String, TemplateToken>,
    },
}

#[derive(Deserialize)]
pub(super) enum Piece {
    Sequence {
        #[serde(rename = "id")]
        _id: IgnoredAny,
    },
    SpecialToken {
        id: String,
    },
}

#[derive(Deserialize)]
pub(super) struct TemplateToken {
    pub(super) ids: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum Decoder {
    Sequence {
        decoders: Vec<Decoder>,
    },
    ByteLevel {
        #[serde(rename = "add_prefix_space")]
        _add_prefix_space: Option<bool>,
        #[serde(rename = "trim_offsets")]
        _trim_offsets: Option<bool>,
        #[serde(rename = "use_regex")]
        _use_regex: Option<bool>,
    },
    Replace {
        pattern: Pattern,
        content: String,
    },
    ByteFallback {},
    Fuse {},
    Strip {
        content: char,
        start: usize,
        stop: usize,
    },
    Metaspace(Metaspace),
}

fn yes() -> bool {
    true
}

fn isolated() -> Behaviour {
    Behaviour::Isolated
}

/// A map as a list, so that a key that is there twice is not lost.
fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, u32)>, D::Error> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, u32)>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a map of tokens to ids")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_map(Entries)
}
