use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex_automata::meta::Regex;

use super::TokenizerError;

/// Bytes of tokens up to which each may take a row of a table, of up to a kilobyte; published tokenizers have some thousand.
const DENSE: usize = 16 << 10;

/// A token that stands in a text as it is, outside of words and merges.
#[derive(Debug, Clone, Default)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) text: String,
    /// A control token: recognised only in text that is to be trusted.
    pub(super) control: bool,
    /// Takes the white space before it along.
    pub(super) lstrip: bool,
    /// Takes the white space behind it along.
    pub(super) rstrip: bool,
    /// Stands for itself only between characters that belong to no word.
    pub(super) single_word: bool,
}

/// Finds such tokens. Where two begin at the same place, the longer one is meant.
#[derive(Debug)]
pub(super) struct Special {
    all: Finder,
    /// Those that stay tokens even in text that is not to be trusted.
    user_defined: Finder,
}

#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    /// The token of each pattern.
    tokens: Vec<Added>,
}

impl Special {
    /// `key` is where the file has them.
    pub(super) fn new(key: &'static str, tokens: Vec<Added>) -> Result<Special, TokenizerError> {
        let user_defined = tokens.iter().filter(|token| !token.control).cloned().collect();
        Ok(Special { user_defined: Finder::new(key, user_defined)?, all: Finder::new(key, tokens)? })
    }

    /// Calls `each` with the parts of `text`, in order: `Ok` is a special token, `Err` the text before, between and after
    /// them; and with whether nothing is before the part. `parse_special`: control tokens count.
    pub(super) fn divide<'t>(
        &self,
        text: &'t str,
        parse_special: bool,
        mut each: impl FnMut(Result<u32, &'t str>, bool),
    ) {
        let mut at = 0;
        for (range, id) in self.find(text, parse_special) {
            if at < range.start {
                each(Err(&text[at..range.start]), at == 0);
            }
            each(Ok(id), range.start == 0);
            at = range.end;
        }
        if at < text.len() {
            each(Err(&text[at..]), at == 0);
        }
    }

    /// Where special tokens are, with the white space they take.
    fn find(&self, text: &str, parse_special: bool) -> impl Iterator<Item = (Range<usize>, u32)> {
        let finder = if parse_special { &self.all } else { &self.user_defined };
        let mut end = 0;
        finder.automaton.find_iter(text).filter_map(move |found| {
            let token = &finder.tokens[found.pattern()];
            let range = token.with_space(text, found.range(), end)?;
            end = range.end;
            Some((range, token.id))
        })
    }
}

impl Finder {
    fn new(key: &'static str, tokens: Vec<Added>) -> Result<Finder, TokenizerError> {
        let tokens: Vec<Added> = tokens.into_iter().filter(|token| !token.text.is_empty()).collect();
        let bytes: usize = tokens.iter().map(|token| token.text.len()).sum();
        let kind = (bytes > DENSE).then_some(AhoCorasickKind::ContiguousNFA);
        let patterns = tokens.iter().map(|token| &token.text);
        let automaton =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).kind(kind).build(patterns);
        let automaton = automaton.map_err(|error| TokenizerError::Invalid {
            key,
            fault: format!("{} special tokens are too many: {error}", tokens.len()),
        })?;
        Ok(Finder { automaton, tokens })
    }
}

impl Added {
    /// The place of a match with the white space that belongs to it, but nothing before `from`, which is taken.
    fn with_space(&self, text: &str, found: Range<usize>, from: usize) -> Option<Range<usize>> {
        let (before, behind) = (text.get(from..found.start)?, &text[found.end..]);
        let inside_word =
            self.single_word && (text[..found.start].ends_with(is_of_word) || behind.starts_with(is_of_word));
        if inside_word {
            return None;
        }
        let start = if self.lstrip { from + before.trim_end().len() } else { found.start };
        let end = if self.rstrip { text.len() - behind.trim_start().len() } else { found.end };
        Some(start..end)
    }
}

/// Whether a character is one of a word, `\w` of regular expressions.
fn is_of_word(character: char) -> bool {
    static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\w").expect("it is a class"));
    WORD.is_match(&*character.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_automaton_takes_memory_in_proportion_to_its_tokens() {
        let letter = |i: usize| char::from(b' ' + (i % 95) as u8);
        let text =
            |i: u32| format!("{i}{}", (0..2000).map(|j| letter(i as usize + 7 * j)).collect::<String>());
        let tokens: Vec<Added> =
            (0..100).map(|id| Added { id, text: text(id), ..Added::default() }).collect();
        let bytes: usize = tokens.iter().map(|token| token.text.len()).sum();
        let special = Special::new("added_tokens", tokens).expect("tokens");
        let taken = special.all.automaton.memory_usage();
        assert!(taken <= 64 * bytes, "{taken} bytes for {bytes}");
        let found: Vec<_> = special.find(&format!("a{}b", text(7)), true).collect();
        assert_eq!(found, [(1..1 + text(7).len(), 7)]);
    }
}
