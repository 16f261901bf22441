//! What the parts of a `tokenizer.json` mean.

use super::document::{
    Decoder, Metaspace, Normalizer, Pattern, Piece, PostProcessor, PreTokenizer, PrependScheme,
};
use super::unsupported;
use crate::tokenizer::TokenizerError;
use crate::tokenizer::metaspace::{self, Prepend};
use crate::tokenizer::normalizer::{Change, Form};
use crate::tokenizer::split::{Behaviour, Split};
use crate::tokenizer::vocab::{SPACE, Spelling};

/// GPT-2's words, which `ByteLevel` has built in.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// What `Punctuation` finds: the library's table is of Unicode 8, where two characters had another category.
const PUNCTUATION: &str = r"[[\p{P}&&\p{age:8.0}]\x{166D}\x{111C9}!-/:-@\[-`{-~]";

/// Steps of a tokenizer's part at most; published ones have up to eight. Each takes memory and time of its own.
const MAX_STEPS: usize = 16;
/// How many times as long a normalizer may make a text; published ones put three bytes before it and make three of a space.
const MAX_GROWTH: usize = 256;
/// Tokens before a text, or behind it, at most; published tokenizers have one.
const MAX_AROUND: usize = 64;

/// Expressions of several published tokenizers that are written with possessive quantifiers, and the same without.
const REWRITTEN: [(&str, &str); 2] = [
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    ),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    ),
];

/// The changes in order.
pub(super) fn changes(normalizer: Normalizer) -> Result<Vec<Change>, TokenizerError> {
    let mut changes = Vec::new();
    add_changes(normalizer, &mut changes)?;
    let growth = changes.iter().map(Change::growth).fold(1, usize::saturating_mul);
    if growth > MAX_GROWTH {
        let what = format!("changes that make a text more than {MAX_GROWTH} times as long");
        return Err(unsupported("normalizer", what));
    }
    Ok(changes)
}

fn add_changes(normalizer: Normalizer, changes: &mut Vec<Change>) -> Result<(), TokenizerError> {
    let change = match normalizer {
        Normalizer::Sequence { normalizers } => {
            return normalizers.into_iter().try_for_each(|each| add_changes(each, changes));
        }
        Normalizer::Prepend { prepend } => Change::Prepend(prepend),
        Normalizer::Replace { pattern, content } => match pattern {
            Pattern::String(from) if !from.is_empty() => Change::Replace { from, to: content },
            Pattern::String(from) | Pattern::Regex(from) => {
                return Err(unsupported("normalizer", format!("a replacement of the pattern {from:?}")));
            }
        },
        Normalizer::Nfc {} => Change::Form(Form::Nfc),
        Normalizer::Nfd {} => Change::Form(Form::Nfd),
        Normalizer::Nfkc {} => Change::Form(Form::Nfkc),
        Normalizer::Nfkd {} => Change::Form(Form::Nfkd),
    };
    room_for_one("normalizer", changes.len())?;
    changes.push(change);
    Ok(())
}

/// That a part that has so many steps may have another one.
fn room_for_one(field: &str, steps: usize) -> Result<(), TokenizerError> {
    if steps < MAX_STEPS { Ok(()) } else { Err(unsupported(field, format!("more than {MAX_STEPS} steps"))) }
}

/// How text is split.
pub(super) struct Splitting {
    pub(super) steps: Vec<Split>,
    pub(super) metaspace: Option<metaspace::Metaspace>,
    pub(super) spelling: Spelling,
}

impl Splitting {
    pub(super) fn of(pre_tokenizer: Option<PreTokenizer>) -> Result<Splitting, TokenizerError> {
        let mut splitting = Splitting { steps: Vec::new(), metaspace: None, spelling: Spelling::Characters };
        pre_tokenizer.map_or(Ok(()), |pre_tokenizer| splitting.add(pre_tokenizer))?;
        Ok(splitting)
    }

    fn add(&mut self, pre_tokenizer: PreTokenizer) -> Result<(), TokenizerError> {
        if self.spelling == Spelling::Alphabet {
            let what = "a step after ByteLevel, which would see bytes in its alphabet".to_owned();
            return Err(unsupported("pre_tokenizer", what));
        }
        match pre_tokenizer {
            PreTokenizer::Sequence { pretokenizers } => {
                return pretokenizers.into_iter().try_for_each(|each| self.add(each));
            }
            PreTokenizer::ByteLevel { add_prefix_space, use_regex, .. } => {
                if add_prefix_space {
                    self.changes_spaces(metaspace::Metaspace { space: ' ', prepend: Prepend::Always })?;
                }
                if use_regex {
                    self.split(WORDS, Behaviour::Isolated, false)?;
                }
                self.spelling = Spelling::Alphabet;
            }
            PreTokenizer::Split { pattern, behavior, invert } => {
                let expression = match pattern {
                    Pattern::String(text) => literal(&text),
                    Pattern::Regex(expression) => readable(expression)?,
                };
                self.split(&expression, behavior, invert)?;
            }
            PreTokenizer::Digits { individual_digits } => {
                let behaviour = if individual_digits { Behaviour::Isolated } else { Behaviour::Contiguous };
                self.split(r"\p{N}", behaviour, false)?;
            }
            PreTokenizer::Punctuation { behavior } => {
                self.split(PUNCTUATION, behavior, false)?;
            }
            PreTokenizer::WhitespaceSplit {} => self.split(r"\s", Behaviour::Removed, false)?,
            PreTokenizer::Metaspace(Metaspace {
                replacement,
                add_prefix_space,
                prepend_scheme,
                split: splits,
                ..
            }) => {
                let prepend = match prepend_scheme {
                    _ if add_prefix_space == Some(false) => Prepend::Never,
                    PrependScheme::Never => Prepend::Never,
                    PrependScheme::First => Prepend::First,
                    PrependScheme::Always => Prepend::Always,
                };
                self.changes_spaces(metaspace::Metaspace { space: replacement, prepend })?;
                if splits.unwrap_or(true) {
                    let space = literal(replacement.encode_utf8(&mut [0; 4]));
                    self.split(&space, Behaviour::MergedWithNext, false)?;
                }
            }
        }
        Ok(())
    }

    /// The text's spaces are changed once, before it is split.
    fn changes_spaces(&mut self, metaspace: metaspace::Metaspace) -> Result<(), TokenizerError> {
        if !self.steps.is_empty() || self.metaspace.is_some() {
            return Err(unsupported("pre_tokenizer", "a space put before each piece".to_owned()));
        }
        self.metaspace = Some(metaspace);
        Ok(())
    }

    fn split(&mut self, expression: &str, behaviour: Behaviour, invert: bool) -> Result<(), TokenizerError> {
        room_for_one("pre_tokenizer", self.steps.len())?;
        let step = Split::new(expression, behaviour, invert).map_err(|fault| {
            unsupported("pre_tokenizer", format!("a split by the expression {expression:?} ({fault})"))
        })?;
        self.steps.push(step);
        Ok(())
    }
}

/// An expression that matches just this text.
fn literal(text: &str) -> String {
    text.chars().map(|character| format!(r"\x{{{:X}}}", character as u32)).collect()
}

/// An expression that means here what it means to its authors.
fn readable(expression: String) -> Result<String, TokenizerError> {
    if let Some((_, same)) = REWRITTEN.iter().find(|(published, _)| *published == expression) {
        return Ok((*same).to_owned());
    }
    if let Some(foreign) = foreign(&expression) {
        let what = format!("a split by the expression {expression:?} (with {foreign:?})");
        return Err(unsupported("pre_tokenizer", what));
    }
    Ok(expression)
}

/// The first thing in an expression that means something else in other engines: a possessive quantifier, a named class, a
/// difference of classes.
fn foreign(expression: &str) -> Option<&str> {
    let mut classes = 0_usize;
    let mut at = 0;
    while let Some(rest) = expression.get(at..).filter(|rest| !rest.is_empty()) {
        let two = rest.get(..2).unwrap_or_default();
        match (two, classes) {
            ("?+" | "*+" | "++", 0) => return Some(two),
            ("[:" | "--" | "~~", 1..) => return Some(two),
            _ => {}
        }
        let mut characters = rest.chars();
        let first = characters.next()?;
        at += first.len_utf8();
        match first {
            '\\' => at += characters.next().map_or(0, char::len_utf8),
            '[' => classes += 1,
            ']' => classes = classes.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The tokens around a text.
#[derive(Default)]
pub(super) struct Around {
    pub(super) prefix: Vec<u32>,
    pub(super) suffix: Vec<u32>,
}

impl Around {
    pub(super) fn of(post_processor: PostProcessor) -> Result<Around, TokenizerError> {
        match post_processor {
            PostProcessor::Sequence { processors } => {
                let mut around = Around::default();
                for each in processors {
                    let Around { prefix, suffix } = Around::of(each)?;
                    around.prefix.splice(0..0, prefix);
                    around.suffix.extend(suffix);
                    around.check()?;
                }
                Ok(around)
            }
            PostProcessor::ByteLevel { .. } => Ok(Around::default()),
            PostProcessor::TemplateProcessing { single, special_tokens, .. } => {
                let mut around = Around::default();
                let mut texts = 0;
                for piece in single {
                    match piece {
                        Piece::Sequence { .. } => texts += 1,
                        Piece::SpecialToken { id } => {
                            let token = special_tokens.get(&id).ok_or_else(|| {
                                unsupported(
                                    "post_processor",
                                    format!("a template with {id:?}, which it does not define"),
                                )
                            })?;
                            let side = if texts == 0 { &mut around.prefix } else { &mut around.suffix };
                            side.extend(&token.ids);
                            around.check()?;
                        }
                    }
                }
                match texts {
                    1 => Ok(around),
                    _ => Err(unsupported("post_processor", format!("a template with {texts} texts"))),
                }
            }
        }
    }

    /// That neither side has too many.
    fn check(&self) -> Result<(), TokenizerError> {
        match self.prefix.len().max(self.suffix.len()) {
            0..=MAX_AROUND => Ok(()),
            _ => Err(unsupported("post_processor", format!("more than {MAX_AROUND} tokens beside a text"))),
        }
    }
}

/// Whether the decoder makes of tokens what they are here taken for: the bytes of the alphabet, or characters with
/// [`SPACE`] for a space, and bytes in `<0x0A>`. A space that is cut off the beginning of a text stays here.
pub(super) fn check_decoder(
    decoder: Option<Decoder>,
    spelling: Spelling,
    byte_fallback: bool,
) -> Result<(), TokenizerError> {
    let mut found = Found::default();
    if let Some(decoder) = decoder {
        found.look(decoder)?;
    }
    let wanted = match spelling {
        Spelling::Alphabet => Found { alphabet: true, ..Found::default() },
        Spelling::Characters => Found { alphabet: false, spaces: true, bytes: byte_fallback },
    };
    if found == wanted {
        return Ok(());
    }
    Err(unsupported("decoder", "one that does not undo what pre_tokenizer and model do".to_owned()))
}

#[derive(Default, PartialEq, Eq)]
struct Found {
    alphabet: bool,
    spaces: bool,
    bytes: bool,
}

impl Found {
    fn look(&mut self, decoder: Decoder) -> Result<(), TokenizerError> {
        match decoder {
            Decoder::Sequence { decoders } => decoders.into_iter().try_for_each(|each| self.look(each))?,
            Decoder::ByteLevel { .. } => self.alphabet = true,
            Decoder::Replace { pattern: Pattern::String(from), content }
                if from == SPACE && content == " " =>
            {
                self.spaces = true;
            }
            Decoder::Metaspace(Metaspace { replacement, .. }) if SPACE.starts_with(replacement) => {
                self.spaces = true;
            }
            Decoder::ByteFallback {} => self.bytes = true,
            Decoder::Fuse {} | Decoder::Strip { content: ' ', start: 0 | 1, stop: 0 } => {}
            Decoder::Replace { .. } | Decoder::Metaspace(_) | Decoder::Strip { .. } => {
                return Err(unsupported("decoder", "one that changes other text than spaces".to_owned()));
            }
        }
        Ok(())
    }
}
