//! Which pages of the KV cache belong to whom, and which of them hold keys and values that others can use. The pages
//! themselves are the model's.
//!
//! A full page is known by the tokens up to its end: a hash of its own tokens and of the page before it. Sequences that begin
//! alike hold the same pages, which nobody writes to again. A page that nobody holds keeps its content until it is needed; of
//! such pages the one goes first that was let go first, which is never before those that follow it in its sequence.

use std::collections::{BTreeMap, HashMap};

use kernels::kv::PAGE;

/// Pages for `tokens` tokens.
pub fn pages_for(tokens: usize) -> usize {
    tokens.div_ceil(PAGE)
}

/// Stands for all tokens from a sequence's beginning to a page's end.
type Hash = [u8; 32];

/// A sequence's tokens as the cache knows them: a hash for each full page, and the tokens after these.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    full: Vec<Hash>,
    /// Fewer than a page.
    rest: Vec<u32>,
}

impl Chain {
    /// Of these tokens.
    pub fn new(tokens: &[u32]) -> Self {
        let mut chain =
            Self { full: Vec::with_capacity(tokens.len() / PAGE), rest: Vec::with_capacity(PAGE) };
        for &token in tokens {
            chain.push(token);
        }
        chain
    }

    /// One token more.
    pub fn push(&mut self, token: u32) {
        self.rest.push(token);
        if self.rest.len() < PAGE {
            return;
        }
        let mut hasher = blake3::Hasher::new();
        // The first page follows nothing.
        hasher.update(self.full.last().unwrap_or(&[0; 32]));
        let mut bytes = [0; 4 * PAGE];
        for (to, token) in bytes.chunks_exact_mut(4).zip(&self.rest) {
            to.copy_from_slice(&token.to_le_bytes());
        }
        hasher.update(&bytes);
        self.full.push(*hasher.finalize().as_bytes());
        self.rest.clear();
    }

    /// Tokens.
    pub fn len(&self) -> usize {
        self.full.len() * PAGE + self.rest.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pages that may come from the cache: not the last token, whose logits are to be computed.
    fn reusable(&self) -> &[Hash] {
        &self.full[..self.len().saturating_sub(1) / PAGE]
    }
}

/// All pages, and who has them.
#[derive(Debug)]
pub struct PagePool {
    /// Held by nobody, without content.
    free: Vec<u32>,
    /// Held by nobody, with content; by when they were let go.
    idle: BTreeMap<u64, u32>,
    /// All pages with content.
    cached: HashMap<Hash, u32>,
    pages: Vec<Page>,
    /// Counts what becomes idle.
    clock: u64,
    hits: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Page {
    holders: u32,
    /// What others can find in it.
    content: Option<Hash>,
    /// Its key in `idle`, while nobody holds it.
    since: u64,
}

/// Pages that a sequence holds; given back with [`PagePool::release`].
#[derive(Debug, Default)]
#[must_use = "pages that are dropped are lost"]
pub struct Pages(Vec<u32>);

impl Pages {
    /// Their numbers, in the sequence's order.
    pub fn ids(&self) -> &[u32] {
        &self.0
    }

    /// Tokens that they hold.
    pub fn capacity(&self) -> usize {
        self.0.len() * PAGE
    }
}

impl PagePool {
    /// `total` free pages.
    pub fn new(total: usize) -> Self {
        Self {
            free: (0..total as u32).rev().collect(),
            idle: BTreeMap::new(),
            cached: HashMap::new(),
            pages: vec![Page::default(); total],
            clock: 0,
            hits: 0,
        }
    }

    /// Takes `count` pages; `None`, and nothing taken, if fewer are to be had.
    #[must_use = "pages that are dropped are lost"]
    pub fn take(&mut self, count: usize) -> Option<Pages> {
        if count > self.available() {
            return None;
        }
        let mut pages = Pages::default();
        self.grow(&mut pages, count);
        Some(pages)
    }

    /// Adds up to `count` pages, as many as are to be had; free ones first, then those whose content goes.
    pub fn grow(&mut self, pages: &mut Pages, count: usize) {
        for _ in 0..count {
            let Some(page) = self.free.pop().or_else(|| self.evict()) else { return };
            self.pages[page as usize].holders = 1;
            pages.0.push(page);
        }
    }

    fn evict(&mut self) -> Option<u32> {
        let (_, page) = self.idle.pop_first()?;
        if let Some(content) = self.pages[page as usize].content.take() {
            self.cached.remove(&content);
        }
        Some(page)
    }

    /// How many pages of a sequence are cached from its beginning on, and how many of them nobody holds.
    pub fn matching(&self, chain: &Chain) -> (usize, usize) {
        let found = self.find(chain);
        found.fold((0, 0), |(all, idle), page| {
            (all + 1, idle + usize::from(self.pages[page as usize].holders == 0))
        })
    }

    /// The longest run of cached pages that a sequence begins with; never all of its tokens.
    pub fn match_prefix(&mut self, chain: &Chain) -> Pages {
        let found: Vec<u32> = self.find(chain).collect();
        for &page in &found {
            let page = &mut self.pages[page as usize];
            if page.holders == 0 {
                self.idle.remove(&page.since);
            }
            page.holders += 1;
        }
        self.hits += (found.len() * PAGE) as u64;
        Pages(found)
    }

    fn find(&self, chain: &Chain) -> impl Iterator<Item = u32> {
        chain.reusable().iter().map_while(|hash| self.cached.get(hash).copied())
    }

    /// Lets others find the pages of a sequence that its tokens `from..to` have made full. One whose content is known already
    /// stays the sequence's own.
    pub fn register(&mut self, pages: &Pages, chain: &Chain, from: usize, to: usize) {
        for i in from / PAGE..to / PAGE {
            let (number, content) = (pages.0[i], chain.full[i]);
            if let std::collections::hash_map::Entry::Vacant(place) = self.cached.entry(content) {
                place.insert(number);
                self.pages[number as usize].content = Some(content);
            }
        }
    }

    /// Gives pages back. What others can find in them stays until the pages are needed.
    pub fn release(&mut self, pages: Pages) {
        // The last first: without those before it a page's content is of no use.
        for number in pages.0.into_iter().rev() {
            let page = &mut self.pages[number as usize];
            page.holders -= 1;
            if page.holders > 0 {
                continue;
            }
            if page.content.is_some() {
                self.clock += 1;
                page.since = self.clock;
                self.idle.insert(self.clock, number);
            } else {
                self.free.push(number);
            }
        }
    }

    /// Whether a sequence that holds the page may write to it: it is nobody else's, now or later.
    pub fn is_writable(&self, page: u32) -> bool {
        let Page { holders, content, .. } = self.pages[page as usize];
        holders == 1 && content.is_none()
    }

    /// Pages that nobody holds and nothing is in.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages that nobody holds and others can find.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Pages that can be taken.
    pub fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Pages there are.
    pub fn total(&self) -> usize {
        self.pages.len()
    }

    /// Tokens that were found, so far.
    pub fn hits(&self) -> u64 {
        self.hits
    }
}

#[cfg(test)]
mod tests;
