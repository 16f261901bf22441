use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::TokenizerError;
use super::vocab::{Kind, Texts, in_alphabet};

/// Byte pair encoding: what a word is made of, and what becomes of it.
#[derive(Debug)]
pub(super) struct Bpe {
    pub(super) units: Units,
    pub(super) merges: Merges,
    /// The tokens of single bytes.
    pub(super) bytes: [Option<u32>; 256],
    /// Stands for a unit that has neither a token nor tokens for its bytes; without one, the unit is left out.
    pub(super) unknown: Option<u32>,
    /// Whether several such units in a row are one token.
    pub(super) fuse_unknown: bool,
}

/// What a word falls apart into before it is merged.
#[derive(Debug)]
pub(super) enum Units {
    /// Bytes, each with its token.
    Bytes,
    /// Characters, with the tokens of those that have one.
    Characters(HashMap<char, u32>),
}

/// Which neighbours merge into which token, and who goes first.
#[derive(Debug)]
pub(super) enum Merges {
    /// Pairs of tokens, in the order they were learnt.
    Pairs(HashMap<(u32, u32), Merge>),
    /// Any two whose text is a token; the highest score goes first (SentencePiece).
    Texts {
        /// The tokens that merging may make.
        by_text: HashMap<Box<[u8]>, Merge>,
        /// Bytes of the longest of them.
        longest: usize,
    },
}

/// What two neighbours become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Merge {
    /// The lowest goes first.
    rank: u32,
    /// The merged token.
    id: u32,
}

impl Units {
    /// Characters, with those tokens that are a single one.
    pub(super) fn characters(texts: &Texts<'_>, kinds: &[Kind]) -> Units {
        let single = texts.iter().filter_map(|(id, text)| {
            let mut characters = text.chars();
            let character = characters.next().filter(|_| kinds[id as usize].is_merged())?;
            characters.next().is_none().then_some((character, id))
        });
        Units::Characters(single.collect())
    }
}

/// The tokens of single bytes, in a vocabulary that is written in the byte alphabet.
pub(super) fn alphabet_bytes(texts: &Texts<'_>, kinds: &[Kind]) -> [Option<u32>; 256] {
    let mut bytes = [None; 256];
    for (id, text) in texts.iter().filter(|&(id, _)| kinds[id as usize].is_merged()) {
        if let Some(&[byte]) = in_alphabet(text).as_deref() {
            bytes[usize::from(byte)] = Some(id);
        }
    }
    bytes
}

impl Merges {
    /// Pairs in the order of their ranks; `key` is where the file has them.
    pub(super) fn pairs<'a>(
        key: &'static str,
        pairs: impl Iterator<Item = Result<(&'a str, &'a str), String>>,
        texts: &Texts<'_>,
        kinds: &[Kind],
    ) -> Result<Merges, TokenizerError> {
        let mut by_pair = HashMap::with_capacity(pairs.size_hint().0);
        let mut joined = String::new();
        for (rank, pair) in (0..).zip(pairs) {
            let invalid = |what| TokenizerError::Invalid { key, fault: format!("merge {rank}, {what}") };
            let (left, right) = pair.map_err(invalid)?;
            joined.clear();
            joined.extend([left, right]);
            let (Some(left), Some(right), Some(id)) = (texts.id(left), texts.id(right), texts.id(&joined))
            else {
                let pair = format!("{left} {right}");
                return Err(invalid(format!(
                    "{pair:?}, has a part or a result that is not in the vocabulary"
                )));
            };
            // A pair that is listed twice keeps its first rank.
            if kinds[id as usize].is_merged() {
                by_pair.entry((left, right)).or_insert(Merge { rank, id });
            }
        }
        Ok(Merges::Pairs(by_pair))
    }

    /// All tokens with their scores; `key` is where the file has these.
    pub(super) fn scored(
        key: &'static str,
        scores: &[f32],
        texts: &Texts<'_>,
        kinds: &[Kind],
    ) -> Result<Merges, TokenizerError> {
        let invalid = |fault| TokenizerError::Invalid { key, fault };
        if scores.len() != texts.len() {
            return Err(invalid(format!("{} scores for {} tokens", scores.len(), texts.len())));
        }
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            return Err(invalid(format!("the score of token {id} is not a number")));
        }
        // Equal scores have the same rank; adding zero makes both zeros one.
        let mut ranks: Vec<f32> = scores.iter().map(|score| score + 0.0).collect();
        ranks.sort_unstable_by(|a, b| b.total_cmp(a));
        ranks.dedup();
        let rank = |score: f32| ranks.partition_point(|&higher| higher > score) as u32;
        let merged = texts.iter().filter(|&(id, text)| !text.is_empty() && kinds[id as usize].is_merged());
        let by_text: HashMap<Box<[u8]>, Merge> = merged
            .map(|(id, text)| (text.as_bytes().into(), Merge { rank: rank(scores[id as usize]), id }))
            .collect();
        let longest = by_text.keys().map(|text| text.len()).max().unwrap_or(0);
        Ok(Merges::Texts { by_text, longest })
    }

    fn find(&self, left: &Symbol, right: &Symbol, word: &[u8]) -> Option<Merge> {
        match self {
            Merges::Pairs(by_pair) => by_pair.get(&(left.id?, right.id?)).copied(),
            Merges::Texts { by_text, longest } if right.end - left.start <= *longest => {
                by_text.get(&word[left.start..right.end]).copied()
            }
            Merges::Texts { .. } => None,
        }
    }
}

/// A word while its units are being merged. Kept from word to word for its memory.
#[derive(Debug, Default)]
pub(super) struct Word {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

/// A part of the word, an element of a doubly linked list in an array.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    /// `None` for what the vocabulary lacks.
    id: Option<u32>,
    /// Where in the word it is; nowhere after being merged into its left neighbour.
    start: usize,
    end: usize,
    prev: Option<usize>,
    next: Option<usize>,
}

/// A pair that could be merged. Of equal ranks the leftmost goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: usize,
    id: u32,
    /// Where the two met and ended; by the time their turn comes, one of them may have been merged.
    middle: usize,
    end: usize,
}

impl Word {
    /// Appends the ids of a word, in time n log n of its length.
    pub(super) fn encode(&mut self, word: &str, bpe: &Bpe, ids: &mut Vec<u32>) {
        let bytes = word.as_bytes();
        self.symbols.clear();
        match &bpe.units {
            Units::Bytes => {
                (0..bytes.len()).for_each(|at| self.push(bpe.bytes[usize::from(bytes[at])], at, at + 1))
            }
            Units::Characters(tokens) => {
                for (start, character) in word.char_indices() {
                    let (id, end) = (tokens.get(&character).copied(), start + character.len_utf8());
                    let in_bytes = id.is_none() && matches!(bpe.merges, Merges::Pairs(_));
                    if in_bytes && let Some(each) = bpe.all_bytes(&bytes[start..end]) {
                        (start..end).zip(each).for_each(|(at, id)| self.push(Some(id), at, at + 1));
                    } else {
                        self.push(id, start, end);
                    }
                }
            }
        }
        for left in 0..self.symbols.len() {
            self.offer(Some(left), bytes, bpe);
        }
        while let Some(Reverse(candidate)) = self.queue.pop() {
            self.apply(candidate, bytes, bpe);
        }
        let mut at = self.symbols.first();
        let mut after_unknown = false;
        while let Some(symbol) = at {
            if let Some(id) = symbol.id {
                ids.push(id);
                after_unknown = false;
            } else if let Some(each) = bpe.all_bytes(&bytes[symbol.start..symbol.end]) {
                ids.extend(each);
                after_unknown = false;
            } else {
                ids.extend(bpe.unknown.filter(|_| !(after_unknown && bpe.fuse_unknown)));
                after_unknown = true;
            }
            at = symbol.next.map(|next| &self.symbols[next]);
        }
    }

    fn push(&mut self, id: Option<u32>, start: usize, end: usize) {
        let this = self.symbols.len();
        let prev = this.checked_sub(1);
        if let Some(prev) = prev {
            self.symbols[prev].next = Some(this);
        }
        self.symbols.push(Symbol { id, start, end, prev, next: None });
    }

    /// Queues the pair that begins at `left`, if it is one that merges.
    fn offer(&mut self, left: Option<usize>, word: &[u8], bpe: &Bpe) {
        if let Some(left) = left
            && let symbol = self.symbols[left]
            && let Some(next) = symbol.next
            && let right = self.symbols[next]
            && let Some(Merge { rank, id }) = bpe.merges.find(&symbol, &right, word)
        {
            self.queue.push(Reverse(Candidate { rank, left, id, middle: symbol.end, end: right.end }));
        }
    }

    fn apply(&mut self, candidate: Candidate, word: &[u8], bpe: &Bpe) {
        let Candidate { left, id, middle, end, .. } = candidate;
        let Some(next) = self.symbols[left].next else { return };
        let (symbol, right) = (self.symbols[left], self.symbols[next]);
        if symbol.start == symbol.end || symbol.end != middle || right.end != end {
            return;
        }
        self.symbols[left] = Symbol { id: Some(id), end, next: right.next, ..symbol };
        self.symbols[next].start = end;
        if let Some(after) = right.next {
            self.symbols[after].prev = Some(left);
        }
        self.offer(symbol.prev, word, bpe);
        self.offer(Some(left), word, bpe);
    }
}

impl Bpe {
    /// The tokens of these bytes, if each has one.
    fn all_bytes(&self, bytes: &[u8]) -> Option<impl Iterator<Item = u32>> {
        let id = |&byte: &u8| self.bytes[usize::from(byte)];
        bytes.iter().all(|byte| id(byte).is_some()).then(|| bytes.iter().filter_map(id))
    }
}
