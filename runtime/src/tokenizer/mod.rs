//! Text to token ids and back, from a GGUF's own metadata or a `tokenizer.json`.
//!
//! Byte pair encoding (Sennrich et al. 2016), of bytes (Radford et al. 2019) or of characters with bytes for the rest
//! (SentencePiece, Kudo and Richardson 2018): special tokens are cut out of the text, the rest is normalized and split into
//! words, and each word's units are merged pair by pair in the order the vocabulary learnt.

mod bpe;
pub(crate) mod byte_alphabet;
mod detokenizer;
mod end_tokens;
mod error;
mod gguf;
mod json;
mod metaspace;
mod normalizer;
mod pre_tokenizer;
mod special;
mod split;
mod vocab;

use std::collections::HashMap;

pub use detokenizer::Detokenizer;
pub use error::TokenizerError;
pub use json::Settings;

use bpe::{Bpe, Word};
use metaspace::Metaspace;
use normalizer::Normalizer;
use pre_tokenizer::PreTokenizer;
use special::Special;
use vocab::Vocab;

/// A model's tokenizer. Immutable: share one among all threads.
#[derive(Debug)]
pub struct Tokenizer {
    kind: String,
    vocab: Vocab,
    /// Special tokens that are looked for in the text as it is.
    special: Special,
    normalizer: Normalizer,
    /// Those that are looked for in normalized text.
    normalized_special: Special,
    metaspace: Option<Metaspace>,
    pre: PreTokenizer,
    /// Whole words that are taken as they are, before any merging; empty unless the model wants that.
    words: HashMap<Box<[u8]>, u32>,
    bpe: Bpe,
    /// Sorted.
    ends: Vec<u32>,
    /// Tokens around every text.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
}

/// How a text is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Put the tokens around the text that the file asks for, such as the beginning-of-sequence token.
    pub add_special: bool,
    /// Recognise control tokens, such as `<|im_start|>`, in the text; otherwise they are text like any other.
    pub parse_special: bool,
}

impl Tokenizer {
    /// Ids of a prompt: special tokens added where the file asks for them, and recognised in the text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_with(text, Options { add_special: true, parse_special: true })
    }

    /// Ids of a text.
    ///
    /// Takes time in proportion to the text's length, times the logarithm of its longest word's. A byte for which a
    /// byte-level vocabulary has no token is left out, as by the tokenizers such vocabularies were made with; the common
    /// ones lack only a few control characters and bytes that are rare or never occur in UTF-8.
    pub fn encode_with(&self, text: &str, options: Options) -> Vec<u32> {
        let Options { add_special, parse_special } = options;
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        let mut word = Word::default();
        if add_special {
            ids.extend(&self.prefix);
        }
        self.special.divide(text, parse_special, |part, first| match part {
            Ok(id) => ids.push(id),
            Err(text) => {
                let text = self.normalizer.apply(text);
                self.normalized_special.divide(&text, parse_special, |part, first_here| match part {
                    Ok(id) => ids.push(id),
                    Err(text) => self.encode_plain(text, first && first_here, &mut word, &mut ids),
                });
            }
        });
        if add_special {
            ids.extend(&self.suffix);
        }
        ids
    }

    /// A normalized text without special tokens; `first`: nothing is before it.
    fn encode_plain(&self, text: &str, first: bool, word: &mut Word, ids: &mut Vec<u32>) {
        let text = Metaspace::apply(self.metaspace.as_ref(), text, first);
        self.pre.split(&text, |piece| match self.words.get(piece.as_bytes()) {
            Some(&id) => ids.push(id),
            None => word.encode(piece, &self.bpe, ids),
        });
    }

    /// The bytes of a completion. Control tokens have none, nor has an id outside the vocabulary.
    ///
    /// The beginning is as it is anywhere else: a space that the tokenizer puts before a text stays.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|&id| self.visible(id)).copied().collect()
    }

    /// [`decode`](Self::decode) as text; what is not UTF-8 becomes U+FFFD.
    pub fn decode_string(&self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode(ids)).into_owned()
    }

    /// The bytes a token stands for, a control token's name included; `None` outside the vocabulary.
    pub fn piece(&self, id: u32) -> Option<&[u8]> {
        self.vocab.bytes(id)
    }

    /// Whether generation is over when the model chooses this token.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// The tokens that end a completion, sorted.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// Tokenizer model and pre-tokenizer as the file names them, such as `gpt2/smollm`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What a token adds to a completion's text.
    fn visible(&self, id: u32) -> &[u8] {
        self.vocab.visible(id)
    }
}
