use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use super::TokenizerError;
use super::vocab::{Kind, Texts};

/// Finds the tokens that stand in a text as they are, outside of words and merges. Where two begin at the same place,
/// the longer one is meant.
#[derive(Debug)]
pub(super) struct Special {
    all: Finder,
    /// Those that stay tokens even in text that is not to be trusted.
    user_defined: Finder,
}

#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    /// Token of each pattern.
    ids: Vec<u32>,
}

impl Special {
    pub(super) fn new(texts: &Texts<'_>, kinds: &[Kind]) -> Result<Special, TokenizerError> {
        let all = [Kind::Control, Kind::Unknown, Kind::UserDefined];
        Ok(Special {
            all: Finder::new(texts, kinds, &all)?,
            user_defined: Finder::new(texts, kinds, &[Kind::UserDefined])?,
        })
    }

    /// Where in `text` special tokens are, in order; `parse_special`: control tokens too.
    pub(super) fn find(&self, text: &str, parse_special: bool) -> impl Iterator<Item = (Range<usize>, u32)> {
        let finder = if parse_special { &self.all } else { &self.user_defined };
        finder.automaton.find_iter(text).map(|found| (found.range(), finder.ids[found.pattern()]))
    }
}

impl Finder {
    fn new(texts: &Texts<'_>, kinds: &[Kind], wanted: &[Kind]) -> Result<Finder, TokenizerError> {
        let chosen =
            texts.iter().filter(|&(id, text)| !text.is_empty() && wanted.contains(&kinds[id as usize]));
        let (ids, patterns): (Vec<u32>, Vec<&str>) = chosen.unzip();
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns);
        let automaton = automaton.map_err(|error| TokenizerError::Invalid {
            key: "tokenizer.ggml.token_type",
            fault: format!("{} special tokens are too many: {error}", ids.len()),
        })?;
        Ok(Finder { automaton, ids })
    }
}
