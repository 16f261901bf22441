//! Which pages of the KV cache belong to whom. The pages themselves are the model's.

use kernels::kv::PAGE;

/// Pages for `tokens` tokens.
pub fn pages_for(tokens: usize) -> usize {
    tokens.div_ceil(PAGE)
}

/// The free pages.
#[derive(Debug)]
pub struct PagePool {
    free: Vec<u32>,
    total: usize,
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
        Self { free: (0..total as u32).rev().collect(), total }
    }

    /// Takes `count` pages; `None`, and nothing taken, if fewer are free.
    #[must_use = "pages that are dropped are lost"]
    pub fn take(&mut self, count: usize) -> Option<Pages> {
        let left = self.free.len().checked_sub(count)?;
        Some(Pages(self.free.split_off(left)))
    }

    /// Gives pages back.
    pub fn release(&mut self, pages: Pages) {
        self.free.extend(pages.0);
        debug_assert!(self.free.len() <= self.total);
    }

    /// Pages that nobody holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages there are.
    pub fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn no_page_has_two_owners_and_none_is_lost(total in 0usize..40, steps in prop::collection::vec((0usize..10, any::<bool>()), 0..60)) {
            let mut pool = PagePool::new(total);
            let mut held: Vec<Pages> = Vec::new();
            for (count, give_back) in steps {
                if give_back && !held.is_empty() {
                    pool.release(held.swap_remove(count % held.len()));
                } else {
                    let free = pool.free();
                    match pool.take(count) {
                        Some(pages) => held.push(pages),
                        None => prop_assert!(count > free && pool.free() == free),
                    }
                }
                let owned: Vec<u32> = held.iter().flat_map(|pages| pages.ids().iter().copied()).collect();
                prop_assert_eq!(owned.iter().collect::<HashSet<_>>().len(), owned.len());
                prop_assert_eq!(owned.len() + pool.free(), total);
            }
        }
    }
}
