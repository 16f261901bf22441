//! The scheduler by itself.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What tests look at.
impl Scheduler {
    /// Asserts all that must hold between two steps.
    pub(crate) fn check(&self) {
        assert!(self.running.len() <= self.limits.sequences);
        let mut holders: BTreeMap<u32, u32> = BTreeMap::new();
        for (id, sequence) in &self.sequences {
            assert_eq!(self.running.contains(id), !self.clients.waits(sequence.client, *id), "in one place");
            assert!(sequence.computed < sequence.tokens.len(), "the last token is to be computed");
            assert!(sequence.computed <= sequence.pages.capacity());
            if !self.running.contains(id) {
                assert!(sequence.pages.ids().is_empty(), "a waiting sequence holds pages");
            }
            for (i, &page) in sequence.pages.ids().iter().enumerate() {
                *holders.entry(page).or_default() += 1;
                // What others may read is full and computed.
                assert!(self.pool.is_writable(page) || (i + 1) * PAGE <= sequence.computed);
            }
        }
        assert!(self.running.iter().all(|id| self.sequences.contains_key(id)));
        self.pool.check(&holders);
    }

    /// The oldest running sequence, and how many of its tokens are computed.
    pub(crate) fn oldest(&self) -> Option<(Id, usize)> {
        self.running.first().map(|id| (*id, self.sequences[id].computed))
    }

    pub(crate) fn computed_of(&self, id: Id) -> Option<usize> {
        self.sequences.get(&id).map(|sequence| sequence.computed)
    }

    /// Running sequences with one token to compute.
    pub(crate) fn generating(&self) -> Vec<Id> {
        self.running.iter().copied().filter(|id| self.sequences[id].pending() == 1).collect()
    }

    /// Whether the last plan had no page for the sequence's next token, because older ones took them all.
    pub(crate) fn lacked_pages(&self, id: Id) -> bool {
        let sequence = &self.sequences[&id];
        !self.running.contains(&id)
            || (sequence.computed == sequence.pages.capacity() && self.running.last() == Some(&id))
    }
}

const LIMITS: StepLimits = StepLimits::new(16, 4);

/// What the last plan has: id, first token, how many.
fn planned(scheduler: &Scheduler) -> Vec<(Id, usize, usize)> {
    scheduler.planned().iter().map(|planned| (planned.id, planned.start, planned.count)).collect()
}

fn step(scheduler: &mut Scheduler) -> Vec<(Id, usize, usize)> {
    scheduler.admit();
    scheduler.plan();
    scheduler.computed();
    let last: Vec<Id> =
        scheduler.planned().iter().filter(|planned| planned.is_last).map(|planned| planned.id).collect();
    for id in last {
        scheduler.push(id, 7);
    }
    scheduler.check();
    planned(scheduler)
}

/// A prompt that no other begins like.
fn prompt(id: Id, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| i * 1000 + id as u32).collect()
}

#[test]
fn equal_shares_go_to_those_that_want_them() {
    assert_eq!(shares(16, &[100, 100, 2]), [7, 7, 2]);
    assert_eq!(shares(16, &[100, 3, 100]), [7, 3, 6]);
    assert_eq!(shares(2, &[5, 5, 5]), [1, 1, 0]);
    assert_eq!(shares(100, &[5, 6]), [5, 6]);
    assert_eq!(shares(100, &[]), [0; 0]);
}

#[test]
fn streams_come_first_and_prompts_share_the_rest() {
    let mut scheduler = Scheduler::new(LIMITS, 100, true);
    scheduler.submit(0, 0, &prompt(0, 3));
    assert_eq!(step(&mut scheduler), [(0, 0, 3)]);
    scheduler.submit(1, 0, &prompt(1, 100));
    scheduler.submit(2, 0, &prompt(2, 5));
    assert_eq!(step(&mut scheduler), [(0, 3, 1), (1, 0, 10), (2, 0, 5)]);
    assert_eq!(step(&mut scheduler), [(0, 4, 1), (1, 10, 14), (2, 5, 1)]);
}

#[test]
fn prompts_advance_beside_more_streams_than_a_step_has_tokens() {
    let limits = StepLimits::new(4, 8);
    let mut scheduler = Scheduler::new(limits, 100, true);
    for id in 0..7 {
        scheduler.submit(id, 0, &[1]);
    }
    // Each has one token, so all decode at once.
    assert_eq!(step(&mut scheduler).len(), 7);
    scheduler.submit(7, 0, &prompt(7, 50));
    let step = step(&mut scheduler);
    assert_eq!((step.len(), step[7]), (8, (7, 0, 1)));
    assert_eq!(limits.most_tokens(), 8);
}

#[test]
fn the_largest_step_is_what_streams_and_prompts_may_have_together() {
    let most = |tokens, sequences| StepLimits::new(tokens, sequences).most_tokens();
    assert_eq!((most(2048, 64), most(16, 1), most(16, 16), most(16, 64)), (2048, 16, 19, 67));
}

#[test]
fn prompts_have_larger_steps_while_nobody_generates() {
    let limits = StepLimits { quiet_tokens: 64, ..LIMITS };
    let mut scheduler = Scheduler::new(limits, 100, true);
    scheduler.submit(0, 0, &prompt(0, 70));
    scheduler.submit(1, 0, &prompt(1, 10));
    assert_eq!(step(&mut scheduler), [(0, 0, 54), (1, 0, 10)]);
    // The second one generates now.
    assert_eq!(step(&mut scheduler), [(0, 54, 15), (1, 10, 1)]);
    assert_eq!(limits.most_tokens(), 64);
}

#[test]
fn when_pages_run_out_the_newest_waits_and_comes_back_first() {
    let mut scheduler = Scheduler::new(StepLimits::new(100, 4), 6, true);
    for id in 0..3 {
        scheduler.submit(id, 0, &prompt(id, 31));
    }
    assert_eq!(step(&mut scheduler).len(), 3, "a page each, and one more for each");
    scheduler.submit(3, 0, &prompt(3, 4));
    // 33 tokens each are two pages; 65 would be three.
    let computed = loop {
        let done = step(&mut scheduler);
        if scheduler.preemptions() > 0 {
            break done;
        }
    };
    assert_eq!(computed, [(0, 64, 1), (1, 64, 1)]);
    assert_eq!(scheduler.pages(0).len(), 3);
    scheduler.remove(0);
    scheduler.remove(1);
    // The one that ran, before the one that never did. Others have written to all its pages.
    assert_eq!(scheduler.admit(), [3], "the other began long ago");
    scheduler.plan();
    assert_eq!(planned(&scheduler), [(2, 0, 65), (3, 0, 4)]);
}

#[test]
fn the_newest_stands_still_until_an_older_one_needs_its_pages_and_finds_what_is_left_of_them() {
    let mut scheduler = Scheduler::new(StepLimits::new(100, 4), 5, true);
    for id in 0..2 {
        scheduler.submit(id, 0, &prompt(id, 31));
    }
    while step(&mut scheduler).len() == 2 {}
    assert_eq!((scheduler.pages(0).len(), scheduler.pages(1).len()), (3, 2));
    while scheduler.preemptions() == 0 {
        assert_eq!(scheduler.computed_of(1), Some(64));
        step(&mut scheduler);
    }
    assert_eq!((scheduler.computed_of(0), scheduler.computed_of(1)), (Some(97), Some(0)));
    scheduler.remove(0);
    assert_eq!(step(&mut scheduler), [(1, 32, 33)], "its second page is the older one's fourth");
    assert_eq!(scheduler.pool().hits(), 32);
}

#[test]
fn a_sequence_alone_has_all_pages() {
    let mut scheduler = Scheduler::new(LIMITS, 2, true);
    scheduler.submit(0, 0, &prompt(0, 60));
    while scheduler.computed_of(0).is_some_and(|computed| computed < 63) {
        step(&mut scheduler);
    }
    assert_eq!(scheduler.pages(0).len(), 2);
}

#[test]
fn admission_counts_what_is_promised_to_those_that_run() {
    // Prompts of two pages, and one more each: two of them in six pages, though none has taken a page for all its tokens yet.
    let mut scheduler = Scheduler::new(LIMITS, 8, true);
    for id in 0..3 {
        scheduler.submit(id, 0, &prompt(id, 64));
    }
    assert_eq!(scheduler.admit(), [0, 1]);
}

#[test]
fn a_shared_prefix_takes_no_pages() {
    let mut scheduler = Scheduler::new(StepLimits::new(1000, 9), 12, true);
    let with = |last: u32| [prompt(0, 256), vec![last]].concat();
    scheduler.submit(0, 0, &with(1));
    step(&mut scheduler);
    scheduler.submit(1, 0, &with(2));
    // Eight pages are shared; without that there would be room for one.
    assert_eq!(step(&mut scheduler), [(0, 257, 1), (1, 256, 1)]);
    assert_eq!(scheduler.pages(0)[..8], scheduler.pages(1)[..8]);
    assert_ne!(scheduler.pages(0)[8], scheduler.pages(1)[8]);
}

#[test]
fn two_that_compute_the_same_at_once_keep_their_own() {
    let mut scheduler = Scheduler::new(StepLimits::new(1000, 9), 12, true);
    for id in 0..2 {
        scheduler.submit(id, 0, &prompt(0, 40));
    }
    step(&mut scheduler);
    assert_ne!(scheduler.pages(0)[0], scheduler.pages(1)[0]);
    scheduler.remove(0);
    scheduler.remove(1);
    assert_eq!((scheduler.pool().idle(), scheduler.pool().free()), (1, 11));
}

/// The clients of the sequences that are admitted one at a time, each with a prompt of `tokens` by client.
fn order(scheduler: &mut Scheduler, clients: &[u32], count: usize) -> Vec<u32> {
    let mut order = Vec::new();
    while order.len() < count {
        for id in scheduler.admit() {
            order.push(clients[id as usize]);
            scheduler.remove(id);
        }
    }
    order
}

#[test]
fn the_client_that_was_served_least_is_next() {
    let mut scheduler = Scheduler::new(StepLimits::new(16, 1), 100, false);
    // Client 5 asks for twice as much each time.
    let clients = [5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6];
    for (id, &client) in clients.iter().enumerate() {
        scheduler.submit(id as Id, client, &[1; 20][..if client == 5 { 20 } else { 10 }]);
    }
    assert_eq!(order(&mut scheduler, &clients, 9), [5, 6, 6, 5, 6, 6, 5, 6, 6]);
}

#[test]
fn time_away_is_not_saved_up() {
    let mut scheduler = Scheduler::new(StepLimits::new(16, 1), 100, false);
    let clients = [[1; 10], [2; 10]].concat();
    for id in 0..10 {
        scheduler.submit(id, 1, &[1; 10]);
    }
    assert_eq!(order(&mut scheduler, &clients, 5), [1; 5]);
    for id in 10..20 {
        scheduler.submit(id, 2, &[1; 10]);
    }
    // The other was served fifty tokens meanwhile, and yet they alternate from now on.
    assert_eq!(order(&mut scheduler, &clients, 6), [1, 2, 1, 2, 1, 2]);
}

#[test]
fn who_always_runs_a_little_gives_nobody_an_advantage() {
    let mut scheduler = Scheduler::new(StepLimits::new(16, 2), 100, false);
    let clients = [[2; 1].as_slice(), &[1; 20], &[3; 10], &[2; 10]].concat();
    // It runs from now on.
    scheduler.submit(0, 2, &[1; 10]);
    assert_eq!(scheduler.admit(), [0]);
    for id in 1..21 {
        scheduler.submit(id, 1, &[1; 10]);
    }
    assert_eq!(order(&mut scheduler, &clients, 10), [1; 10]);
    // Neither a newcomer nor the one that runs a little has a hundred tokens to make up for.
    for id in 21..31 {
        scheduler.submit(id, 3, &[1; 10]);
    }
    for id in 31..41 {
        scheduler.submit(id, 2, &[1; 10]);
    }
    assert_eq!(order(&mut scheduler, &clients, 9), [1, 3, 2, 1, 3, 2, 1, 3, 2]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn all_finish_and_the_oldest_always_advances(
        pages in 4usize..20,
        tokens in 1usize..40,
        sequences in 1usize..8,
        shares_prefixes: bool,
        jobs in prop::collection::vec((0u32..3, 1usize..70, 1usize..50, 0usize..6, prop::bool::weighted(0.1)), 1..30),
    ) {
        let limits = StepLimits::new(tokens, sequences);
        let mut scheduler = Scheduler::new(limits, pages, shares_prefixes);
        let mut left: BTreeMap<Id, usize> = BTreeMap::new();
        let mut begun = Vec::new();
        let mut jobs = jobs.into_iter().enumerate().peekable();
        let mut steps = 0;
        while jobs.peek().is_some() || !left.is_empty() {
            if let Some((id, (client, len, max, _, _))) = jobs.next_if(|(_, job)| job.3 == steps % 6) {
                // Half of the prompts begin alike.
                scheduler.submit(id as Id, client, &prompt(id as Id % 2 * id as Id, len));
                left.insert(id as Id, max.min(pages * PAGE - len));
            }
            begun.extend(scheduler.admit());
            let (streams, oldest) = (scheduler.generating(), scheduler.oldest());
            scheduler.plan();
            let step = scheduler.planned().to_vec();
            let total: usize = step.iter().map(|planned| planned.count).sum();
            prop_assert!(total <= limits.most_tokens());
            prop_assert_eq!(oldest.map(|(id, _)| id), step.first().map(|planned| planned.id));
            for id in streams {
                let is_planned = step.iter().any(|planned| planned.id == id);
                prop_assert!(is_planned || scheduler.lacked_pages(id));
            }
            scheduler.computed();
            for planned in step.iter().filter(|planned| planned.is_last) {
                let left_of = left.get_mut(&planned.id).unwrap();
                *left_of = left_of.saturating_sub(1);
                if *left_of == 0 {
                    left.remove(&planned.id);
                    scheduler.remove(planned.id);
                } else {
                    scheduler.push(planned.id, steps as u32 % 5);
                }
            }
            scheduler.check();
            steps += 1;
            prop_assert!(steps < 20_000);
        }
        prop_assert_eq!(scheduler.pool().available(), pages);
        begun.sort_unstable();
        let all: Vec<Id> = (0..begun.len() as Id).collect();
        prop_assert_eq!(begun, all, "each begins once");
    }
}
