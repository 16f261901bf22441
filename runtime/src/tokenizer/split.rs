use std::ops::Range;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use serde::Deserialize;

/// One step of splitting text: what a pattern matches, and what becomes of it. Searching takes time in proportion to the
/// text, for ordinary patterns.
#[derive(Debug)]
pub(super) struct Split {
    /// Pattern 0 is the expression; pattern 1, where there is one, a run of white space that leaves its last character to
    /// what follows.
    pattern: Regex,
    behaviour: Behaviour,
    /// What does not match is treated as if it did, and the other way round.
    invert: bool,
}

/// What becomes of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Behaviour {
    /// It is a piece.
    Isolated,
    /// It is left out.
    Removed,
    /// It ends the piece before it.
    MergedWithPrevious,
    /// It begins the piece behind it.
    MergedWithNext,
    /// It is a piece together with the matches beside it.
    Contiguous,
}

/// How the expressions of most models end. Said with a pattern of its own, white space needs no lookahead.
const LEAVES_LAST_SPACE: &str = r"|\s+(?!\S)|\s+";

/// More than any real expression needs.
const MAX_AUTOMATON: usize = 16 << 20;

impl Split {
    /// Matches and what is between them are pieces.
    pub(super) fn isolated(expression: &str) -> Result<Split, String> {
        Split::new(expression, Behaviour::Isolated, false)
    }

    pub(super) fn new(expression: &str, behaviour: Behaviour, invert: bool) -> Result<Split, String> {
        let words = expression.strip_suffix(LEAVES_LAST_SPACE);
        let patterns = words.map_or_else(|| vec![expression], |words| vec![words, r"\s+"]);
        // `^` and `$` are of lines, as the expressions' authors had them.
        let syntax = syntax::Config::new().multi_line(true);
        let config = Regex::config().nfa_size_limit(Some(MAX_AUTOMATON));
        let pattern = Regex::builder().syntax(syntax).configure(config).build_many(&patterns);
        let pattern = pattern.map_err(|error| {
            let detail = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
            detail.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })?;
        Ok(Split { pattern, behaviour, invert })
    }

    /// The pieces of a text, in order; none is empty.
    pub(super) fn pieces<'t>(&self, text: &'t str, each: &mut dyn FnMut(&'t str)) {
        let mut piece = |range: Range<usize>| {
            if !range.is_empty() {
                each(&text[range]);
            }
        };
        match self.behaviour {
            Behaviour::Isolated => self.parts(text, |range, _| piece(range)),
            Behaviour::Removed => self.parts(text, |range, matches| {
                if !matches {
                    piece(range);
                }
            }),
            Behaviour::MergedWithPrevious | Behaviour::MergedWithNext | Behaviour::Contiguous => {
                let (mut open, mut last) = (0..0, false);
                self.parts(text, |range, matches| {
                    let joins = match self.behaviour {
                        Behaviour::MergedWithPrevious => matches && !last,
                        Behaviour::MergedWithNext => !matches && last,
                        _ => matches == last,
                    };
                    if joins {
                        open.end = range.end;
                    } else {
                        piece(std::mem::replace(&mut open, range));
                    }
                    last = matches;
                });
                piece(open);
            }
        }
    }

    /// All parts of a text, in order, none empty, and whether each counts as a match.
    fn parts(&self, text: &str, mut each: impl FnMut(Range<usize>, bool)) {
        let mut at = 0;
        while at < text.len() {
            let found = self.find(text, at).unwrap_or(text.len()..text.len());
            if at < found.start {
                each(at..found.start, self.invert);
            }
            if !found.is_empty() {
                each(found.clone(), !self.invert);
            }
            at = found.end;
        }
    }

    /// The first match from `from` on; none is empty.
    fn find(&self, text: &str, from: usize) -> Option<Range<usize>> {
        let mut at = from;
        loop {
            let input = Input::new(text).range(at..);
            let here = self.pattern.search(&input.clone().anchored(Anchored::Yes));
            let found = here.or_else(|| self.pattern.search(&input))?;
            let range = found.range();
            if range.is_empty() {
                at = range.end + text[range.end..].chars().next()?.len_utf8();
                continue;
            }
            if found.pattern().as_usize() == 0 || range.end == text.len() {
                return Some(range);
            }
            let space = &text[range.clone()];
            let last = space.char_indices().next_back().map_or(0, |(last, _)| last);
            return Some(range.start..if last == 0 { range.end } else { range.start + last });
        }
    }
}
