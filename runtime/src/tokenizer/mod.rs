//! Text to token ids and back, from a GGUF's own metadata.
//!
//! Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019): special tokens are cut out of the text, the rest is
//! split into words, and the bytes of each word are merged pair by pair in the order the vocabulary learnt.

mod bpe;
pub(crate) mod byte_alphabet;
mod detokenizer;
mod end_tokens;
mod error;
mod pre_tokenizer;
mod special;
mod vocab;

use std::collections::HashMap;

use crate::gguf::{Gguf, Optional};

pub use detokenizer::Detokenizer;
pub use error::TokenizerError;

use bpe::{Merges, Word};
use pre_tokenizer::PreTokenizer;
use special::Special;
use vocab::{Kind, Texts, Vocab};

/// A model's tokenizer. Immutable: share one among all threads.
#[derive(Debug)]
pub struct Tokenizer {
    kind: String,
    vocab: Vocab,
    merges: Merges,
    pre: PreTokenizer,
    special: Special,
    /// Whole words that are taken as they are, before any merging; empty unless the model wants that.
    words: HashMap<Box<[u8]>, u32>,
    /// Sorted.
    ends: Vec<u32>,
    /// Tokens around every text.
    prefix: Option<u32>,
    suffix: Option<u32>,
}

/// How a text is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Put the tokens around the text that the metadata ask for, such as the beginning-of-sequence token.
    pub add_special: bool,
    /// Recognise control tokens, such as `<|im_start|>`, in the text; otherwise they are text like any other.
    pub parse_special: bool,
}

impl Tokenizer {
    /// The tokenizer that a model file describes under `tokenizer.ggml.`.
    ///
    /// # Errors
    /// A [`TokenizerError`] naming the key: missing, of the wrong type, inconsistent, or a tokenizer model or
    /// pre-tokenizer that is not supported.
    pub fn from_gguf(gguf: &Gguf) -> Result<Tokenizer, TokenizerError> {
        let model = gguf.str("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(TokenizerError::Model(model.to_owned()));
        }
        let pre_name = gguf.str("tokenizer.ggml.pre")?;
        let pre = PreTokenizer::named(pre_name)?;
        let texts = Texts::read(gguf)?;
        let mut kinds = vocab::kinds(gguf, &texts)?;
        let ends = end_tokens::find(gguf, &texts)?;
        for &id in &ends {
            kinds[id as usize] = Kind::Control;
        }
        let around = |add_key, id_key, default| match gguf.bool(add_key).optional()?.unwrap_or(default) {
            true => texts.id_at(gguf, id_key).map(Some),
            false => Ok(None),
        };
        let prefix = around("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", pre.adds_bos())?;
        let suffix = around("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id", false)?;
        let merges = Merges::read(gguf, &texts)?;
        let special = Special::new(&texts, &kinds)?;
        let vocab = Vocab::new(&texts, kinds);
        let words = if pre.prefers_whole_words() { vocab.words() } else { HashMap::new() };
        Ok(Tokenizer {
            kind: format!("{model}/{pre_name}"),
            vocab,
            merges,
            pre,
            special,
            words,
            ends,
            prefix,
            suffix,
        })
    }

    /// Ids of a prompt: special tokens added where the metadata ask for them, and recognised in the text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_with(text, Options { add_special: true, parse_special: true })
    }

    /// Ids of a text.
    ///
    /// Takes time in proportion to the text's length, times the logarithm of its longest word's. A byte for which
    /// the vocabulary has no token is left out, as by the tokenizers such vocabularies were made with; the common
    /// ones lack only a few control characters and bytes that are rare or never occur in UTF-8.
    pub fn encode_with(&self, text: &str, options: Options) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        let mut word = Word::default();
        if options.add_special {
            ids.extend(self.prefix);
        }
        let mut at = 0;
        for (range, id) in self.special.find(text, options.parse_special) {
            self.encode_plain(&text[at..range.start], &mut word, &mut ids);
            ids.push(id);
            at = range.end;
        }
        self.encode_plain(&text[at..], &mut word, &mut ids);
        if options.add_special {
            ids.extend(self.suffix);
        }
        ids
    }

    /// A text without special tokens.
    fn encode_plain(&self, text: &str, word: &mut Word, ids: &mut Vec<u32>) {
        for piece in self.pre.split(text) {
            match self.words.get(piece.as_bytes()) {
                Some(&id) => ids.push(id),
                None => word.encode(piece.as_bytes(), &self.vocab, &self.merges, ids),
            }
        }
    }

    /// The bytes of a completion. Control tokens have none, nor has an id outside the vocabulary.
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
