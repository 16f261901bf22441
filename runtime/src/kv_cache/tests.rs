//! The pages by themselves.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

impl PagePool {
    /// Asserts that every page is in one place, and held by as many as `holders` says.
    pub(crate) fn check(&self, holders: &BTreeMap<u32, u32>) {
        let free: HashSet<u32> = self.free.iter().copied().collect();
        let idle: HashSet<u32> = self.idle.values().copied().collect();
        assert_eq!((free.len(), idle.len()), (self.free.len(), self.idle.len()), "a page is free twice");
        for (number, page) in self.pages.iter().enumerate() {
            let number = number as u32;
            assert_eq!(page.holders, holders.get(&number).copied().unwrap_or(0), "page {number}");
            let places = [free.contains(&number), idle.contains(&number), page.holders > 0];
            assert_eq!(places.into_iter().filter(|&is| is).count(), 1, "page {number} is in {places:?}");
            assert!(!free.contains(&number) || page.content.is_none());
            if let Some(content) = page.content {
                assert_eq!(self.cached.get(&content), Some(&number), "content that nobody finds");
            }
            assert!(page.holders < 2 || page.content.is_some(), "shared without content");
        }
        assert!(
            self.cached.iter().all(|(content, &page)| self.pages[page as usize].content == Some(*content))
        );
    }
}

/// Takes, computes and registers all full pages of some tokens.
fn computed(pool: &mut PagePool, tokens: &[u32]) -> Pages {
    let chain = Chain::new(tokens);
    let mut pages = pool.match_prefix(&chain);
    let (from, missing) = (pages.capacity(), pages_for(tokens.len()) - pages.ids().len());
    pool.grow(&mut pages, missing);
    pool.register(&pages, &chain, from, tokens.len());
    pages
}

fn tokens(len: usize) -> Vec<u32> {
    (0..len as u32).collect()
}

#[test]
fn a_chain_is_the_same_however_it_grew() {
    let mut grown = Chain::new(&tokens(40));
    (40..100).for_each(|token| grown.push(token));
    let whole = Chain::new(&tokens(100));
    assert_eq!((&grown.full, &grown.rest, grown.len()), (&whole.full, &whole.rest, 100));
    let mut other = tokens(100);
    other[0] = 5;
    let other = Chain::new(&other);
    assert!(whole.full.iter().zip(&other.full).all(|(a, b)| a != b), "a page stands for all before it");
    assert!(Chain::default().is_empty());
}

#[test]
fn never_all_tokens_come_from_the_cache() {
    let mut pool = PagePool::new(10);
    let pages = computed(&mut pool, &tokens(96));
    for (len, found) in [(96, 2), (97, 3), (64, 1), (65, 2), (33, 1), (32, 0), (1, 0), (200, 3)] {
        assert_eq!(pool.matching(&Chain::new(&tokens(len))).0, found, "{len} tokens");
    }
    pool.release(pages);
}

#[test]
fn the_end_of_the_sequence_let_go_first_goes_first() {
    let mut pool = PagePool::new(6);
    let first = computed(&mut pool, &tokens(96));
    let mut other = tokens(96);
    other[0] = 99;
    let second = computed(&mut pool, &other);
    let of_first = first.ids().to_vec();
    pool.release(first);
    pool.release(second);
    assert_eq!((pool.free(), pool.idle(), pool.available()), (0, 6, 6));
    // Used again, so that it is the last to go.
    let chain = Chain::new(&tokens(97));
    let again = pool.match_prefix(&chain);
    assert_eq!(again.ids(), of_first);
    pool.release(again);
    let taken = pool.take(4).unwrap();
    assert_eq!(pool.matching(&Chain::new(&[other, vec![1]].concat())), (0, 0));
    assert_eq!(pool.matching(&chain), (2, 2), "without its end");
    assert_eq!(taken.ids()[3], of_first[2]);
    assert!(pool.take(3).is_none());
    pool.release(taken);
    assert_eq!(pool.hits(), 96);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What is found is what was computed for just these tokens, and was not taken since.
    #[test]
    fn no_page_is_lost_and_what_is_found_is_right(
        total in 1usize..20,
        steps in prop::collection::vec((0u32..4, 1usize..150, any::<bool>()), 0..60),
    ) {
        let mut pool = PagePool::new(total);
        let mut held: Vec<Pages> = Vec::new();
        // What a page was last written with: all tokens up to its end.
        let mut written: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (text, len, give_back) in steps {
            if give_back && !held.is_empty() {
                pool.release(held.swap_remove(len % held.len()));
            } else {
                // Alike for some pages, then different.
                let tokens: Vec<u32> = (0..len as u32).map(|i| if i < 40 { text / 2 } else { text }).collect();
                let chain = Chain::new(&tokens);
                let (all, idle) = pool.matching(&chain);
                if pages_for(len) - all + idle <= pool.available() {
                    let mut pages = pool.match_prefix(&chain);
                    prop_assert_eq!(pages.ids().len(), all);
                    for (i, page) in pages.ids().iter().enumerate() {
                        prop_assert_eq!(&written[page], &tokens[..(i + 1) * PAGE]);
                    }
                    pool.grow(&mut pages, pages_for(len) - all);
                    for i in all..pages_for(len) {
                        prop_assert!(pool.is_writable(pages.ids()[i]));
                        written.insert(pages.ids()[i], tokens[..len.min((i + 1) * PAGE)].to_vec());
                    }
                    pool.register(&pages, &chain, all * PAGE, len);
                    held.push(pages);
                }
            }
            let mut holders = BTreeMap::new();
            for page in held.iter().flat_map(|pages| pages.ids()) {
                *holders.entry(*page).or_default() += 1;
            }
            pool.check(&holders);
        }
    }
}
