use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::TokenizerError;
use super::vocab::{Texts, Vocab};
use crate::gguf::Gguf;

const MERGES: &str = "tokenizer.ggml.merges";

/// Which pairs of tokens merge into which token, and which pair goes first.
#[derive(Debug)]
pub(super) struct Merges {
    by_pair: HashMap<(u32, u32), Merge>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Merge {
    /// Position in the file's list: the lowest goes first.
    rank: u32,
    /// The merged token.
    id: u32,
}

impl Merges {
    pub(super) fn read(gguf: &Gguf, texts: &Texts<'_>) -> Result<Merges, TokenizerError> {
        let list = gguf.strings(MERGES)?;
        let mut by_pair = HashMap::with_capacity(list.len());
        let mut joined = String::new();
        for (rank, text) in (0..).zip(list) {
            let invalid = |why| TokenizerError::Invalid {
                key: MERGES,
                fault: format!("merge {rank}, {text:?}, {why}"),
            };
            let (left, right) = text.split_once(' ').ok_or_else(|| invalid("is not a pair"))?;
            joined.clear();
            joined.extend([left, right]);
            let (Some(left), Some(right), Some(id)) = (texts.id(left), texts.id(right), texts.id(&joined))
            else {
                return Err(invalid("has a part or a result that is not in the vocabulary"));
            };
            // A pair that is listed twice keeps its first rank.
            by_pair.entry((left, right)).or_insert(Merge { rank, id });
        }
        Ok(Merges { by_pair })
    }
}

/// A word while its bytes are being merged. Kept from word to word for its memory.
#[derive(Debug, Default)]
pub(super) struct Word {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

/// An element of a doubly linked list in an array.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    /// `None` for a byte the vocabulary lacks, and after being merged into its left neighbour.
    id: Option<u32>,
    prev: Option<usize>,
    next: Option<usize>,
}

/// A pair that could be merged. Of equal ranks the leftmost goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    merge: Merge,
    left: usize,
    /// The pair that was seen; by the time its turn comes, one of the two may have been merged away.
    pair: (u32, u32),
}

impl Word {
    /// Appends the ids of a word, in time n log n of its length.
    pub(super) fn encode(&mut self, word: &[u8], vocab: &Vocab, merges: &Merges, ids: &mut Vec<u32>) {
        self.symbols.clear();
        self.symbols.extend(word.iter().enumerate().map(|(i, &byte)| Symbol {
            id: vocab.byte_id(byte),
            prev: i.checked_sub(1),
            next: Some(i + 1).filter(|&next| next < word.len()),
        }));
        for left in 0..word.len() {
            self.offer(Some(left), merges);
        }
        while let Some(Reverse(candidate)) = self.queue.pop() {
            self.apply(candidate, merges);
        }
        let mut at = self.symbols.first();
        while let Some(symbol) = at {
            ids.extend(symbol.id);
            at = symbol.next.map(|next| &self.symbols[next]);
        }
    }

    /// Queues the pair that begins at `left`, if it is one that merges.
    fn offer(&mut self, left: Option<usize>, merges: &Merges) {
        if let Some(left) = left
            && let Some(pair) = self.pair(left)
            && let Some(&merge) = merges.by_pair.get(&pair)
        {
            self.queue.push(Reverse(Candidate { merge, left, pair }));
        }
    }

    fn apply(&mut self, Candidate { merge, left, pair }: Candidate, merges: &Merges) {
        if self.pair(left) != Some(pair) {
            return;
        }
        let Some(right) = self.symbols[left].next else { return };
        let next = self.symbols[right].next;
        self.symbols[right].id = None;
        self.symbols[left].id = Some(merge.id);
        self.symbols[left].next = next;
        if let Some(next) = next {
            self.symbols[next].prev = Some(left);
        }
        self.offer(self.symbols[left].prev, merges);
        self.offer(Some(left), merges);
    }

    fn pair(&self, left: usize) -> Option<(u32, u32)> {
        let symbol = self.symbols[left];
        Some((symbol.id?, self.symbols[symbol.next?].id?))
    }
}
