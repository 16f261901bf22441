//! Who is computed next: waiting and running sequences to a step's chunks. Knows no device and no text.
//!
//! * **Admission** is fair among clients ([`clients`]), and optimistic: a sequence begins when all that run, and it, could have
//!   pages for the tokens they have now and one page more. What they take after that is taken as they go.
//!   A client that runs at least two sequences fewer than another takes the place of that one's newest.
//! * **A step** has one token of every sequence that generates; prompts share what is left of the step's tokens equally, short
//!   ones whole. So a long prompt holds up nobody for more than a step. Where nobody generates a step may have more tokens.
//! * **When pages run out**, older sequences come first: the newest one gives its pages back, waits at the front of its client's
//!   jobs, and is computed again later. The oldest always advances, so all finish.

mod clients;

use std::collections::BTreeMap;

use kernels::kv::PAGE;

use crate::kv_cache::{Chain, PagePool, Pages, pages_for};
use clients::Clients;

/// A sequence; they count up in the order of arrival.
pub type Id = u64;

/// What a step may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLimits {
    /// Tokens; see [`prompt_tokens`](Self::prompt_tokens).
    pub tokens: usize,
    /// Tokens of prompts where no sequence generates, and so none waits for them.
    pub quiet_tokens: usize,
    /// Sequences that run at once.
    pub sequences: usize,
}

impl StepLimits {
    /// As many tokens whether a sequence generates or not.
    pub const fn new(tokens: usize, sequences: usize) -> Self {
        Self { tokens, quiet_tokens: tokens, sequences }
    }

    /// Tokens that prompts may have beside `generating` sequences: what these leave, but at least a quarter of a step, since
    /// otherwise many streams would keep prompts from ever beginning.
    pub fn prompt_tokens(&self, generating: usize) -> usize {
        if generating == 0 {
            return self.quiet_tokens.max(1);
        }
        self.tokens.saturating_sub(generating).max(self.tokens / 4).max(1)
    }

    /// Tokens of the largest step.
    pub fn most_tokens(&self) -> usize {
        (0..self.sequences).map(|generating| generating + self.prompt_tokens(generating)).max().unwrap_or(0)
    }
}

/// A range of a sequence's tokens, to be computed in the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Whose.
    pub id: Id,
    /// The first token.
    pub start: usize,
    /// How many.
    pub count: usize,
    /// Whether they are the last ones, so that a new token can be chosen.
    pub is_last: bool,
}

/// Waiting and running sequences, and the pages they hold.
#[derive(Debug)]
pub struct Scheduler {
    limits: StepLimits,
    /// Whether sequences that begin alike hold the same pages.
    shares_prefixes: bool,
    pool: PagePool,
    sequences: BTreeMap<Id, Sequence>,
    /// By admission, the oldest first.
    running: Vec<Id>,
    clients: Clients,
    planned: Vec<Planned>,
    preemptions: u64,
}

#[derive(Debug)]
struct Sequence {
    client: u32,
    tokens: Chain,
    /// None while it waits.
    pages: Pages,
    /// Tokens whose keys and values are in the pages.
    computed: usize,
    /// Whether it ever ran.
    begun: bool,
}

impl Sequence {
    fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Pages for its tokens, and one more.
    fn due(&self) -> usize {
        pages_for(self.tokens.len()) + 1
    }
}

impl Scheduler {
    /// Nothing waits or runs, and all of `pages` pages are free.
    pub fn new(limits: StepLimits, pages: usize, shares_prefixes: bool) -> Self {
        Self {
            limits,
            shares_prefixes,
            pool: PagePool::new(pages),
            sequences: BTreeMap::new(),
            running: Vec::new(),
            clients: Clients::default(),
            planned: Vec::new(),
            preemptions: 0,
        }
    }

    /// A sequence waits. Its prompt and all it may generate fit into the pages if nobody else is served.
    pub fn submit(&mut self, id: Id, client: u32, prompt: &[u32]) {
        let tokens = Chain::new(prompt);
        self.clients.submit(client, id);
        let sequence = Sequence { client, tokens, pages: Pages::default(), computed: 0, begun: false };
        self.sequences.insert(id, sequence);
    }

    /// Waiting sequences begin to run, as many as there is room for. Gives those that never ran before.
    pub fn admit(&mut self) -> Vec<Id> {
        let mut begun = Vec::new();
        // A place that was free is nobody's to take back at once.
        let all_taken = self.running.len() == self.limits.sequences;
        while let Some(id) = self.clients.next()
            && self.fits(id)
            && (self.running.len() < self.limits.sequences || (all_taken && self.yield_to(id)))
        {
            let Some(sequence) = self.sequences.get_mut(&id) else { unreachable!("it waits") };
            let cost = if sequence.begun { 0 } else { sequence.tokens.len() };
            self.clients.admit(sequence.client, cost as u64);
            if self.shares_prefixes {
                sequence.pages = self.pool.match_prefix(&sequence.tokens);
                sequence.computed = sequence.pages.capacity();
            }
            if !std::mem::replace(&mut sequence.begun, true) {
                begun.push(id);
            }
            self.running.push(id);
        }
        begun
    }

    /// The newest sequence of the client that runs most makes room, if that client runs two more than the one that waits: they
    /// then come to run equally many, and nobody takes a place back. The oldest of all sequences is never the newest of two.
    fn yield_to(&mut self, id: Id) -> bool {
        let waiting = self.clients.running(self.sequences[&id].client);
        let Some((client, most)) = self.clients.most_running() else { return false };
        let newest = self.running.iter().rposition(|id| self.sequences[id].client == client);
        match newest {
            Some(newest) if most >= waiting + 2 => {
                self.preempt(newest);
                true
            }
            _ => false,
        }
    }

    fn fits(&self, id: Id) -> bool {
        if self.running.is_empty() {
            return true;
        }
        let promised: usize = self
            .running
            .iter()
            .map(|id| &self.sequences[id])
            .map(|sequence| sequence.due().saturating_sub(sequence.pages.ids().len()))
            .sum();
        let Some(left) = self.pool.available().checked_sub(promised) else { return false };
        let sequence = &self.sequences[&id];
        let (cached, idle) = if self.shares_prefixes { self.pool.matching(&sequence.tokens) } else { (0, 0) };
        // Idle pages that it would hold are none that it could take.
        sequence.due() - cached + idle <= left
    }

    /// Plans a step and takes the pages that it writes to. See [`planned`](Self::planned).
    pub fn plan(&mut self) {
        self.planned.clear();
        let pending: Vec<usize> = self.running.iter().map(|id| self.sequences[id].pending()).collect();
        let generating = pending.iter().filter(|&&pending| pending == 1).count();
        let prompts: Vec<usize> = pending.iter().copied().filter(|&pending| pending > 1).collect();
        let mut shares = shares(self.limits.prompt_tokens(generating), &prompts).into_iter();
        let mut i = 0;
        // The newest leave meanwhile.
        while i < self.running.len() {
            let wanted = if pending[i] == 1 { 1 } else { shares.next().unwrap_or(0) };
            let count = self.take_pages(i, wanted);
            if count > 0 {
                let id = self.running[i];
                let start = self.sequences[&id].computed;
                self.planned.push(Planned { id, start, count, is_last: count == pending[i] });
            }
            i += 1;
        }
    }

    /// Takes pages for the next tokens of a running sequence; for how many of them it has pages then. Newer sequences lose
    /// theirs if there would be none at all.
    fn take_pages(&mut self, i: usize, wanted: usize) -> usize {
        let id = self.running[i];
        loop {
            let Some(sequence) = self.sequences.get_mut(&id) else { unreachable!("it runs") };
            let missing = pages_for(sequence.computed + wanted).saturating_sub(sequence.pages.ids().len());
            self.pool.grow(&mut sequence.pages, missing);
            let count = wanted.min(sequence.pages.capacity() - sequence.computed);
            if count > 0 {
                let written = sequence.computed / PAGE..pages_for(sequence.computed + count);
                let pages = &sequence.pages.ids()[written];
                assert!(pages.iter().all(|&page| self.pool.is_writable(page)), "a page that others read");
            }
            if count > 0 || wanted == 0 || i + 1 == self.running.len() {
                return count;
            }
            self.preempt(self.running.len() - 1);
        }
    }

    /// The running sequence at `i` gives its pages back and waits.
    fn preempt(&mut self, i: usize) {
        let id = self.running.remove(i);
        let Some(sequence) = self.sequences.get_mut(&id) else { unreachable!("it runs") };
        let tokens = std::mem::take(&mut sequence.computed);
        self.pool.release(std::mem::take(&mut sequence.pages));
        self.clients.put_back(sequence.client, id);
        self.preemptions += 1;
        tracing::debug!(sequence = id, tokens, "a sequence makes room, and will be computed again");
    }

    /// The step that was planned last, the oldest sequence first.
    pub fn planned(&self) -> &[Planned] {
        &self.planned
    }

    /// The pages of a running sequence.
    pub fn pages(&self, id: Id) -> &[u32] {
        self.sequences[&id].pages.ids()
    }

    /// The planned step was computed: others may use the pages that it filled.
    pub fn computed(&mut self) {
        for planned in &self.planned {
            let Some(sequence) = self.sequences.get_mut(&planned.id) else { unreachable!("it was planned") };
            let from = sequence.computed;
            sequence.computed += planned.count;
            if self.shares_prefixes {
                self.pool.register(&sequence.pages, &sequence.tokens, from, sequence.computed);
            }
        }
    }

    /// A token was chosen.
    pub fn push(&mut self, id: Id, token: u32) {
        let Some(sequence) = self.sequences.get_mut(&id) else { unreachable!("it was planned") };
        sequence.tokens.push(token);
        self.clients.charge(sequence.client, 1);
    }

    /// A sequence leaves, running or not. What it computed stays in the cache.
    pub fn remove(&mut self, id: Id) {
        let Some(sequence) = self.sequences.remove(&id) else { return };
        self.pool.release(sequence.pages);
        match self.running.iter().position(|&running| running == id) {
            Some(i) => {
                self.running.remove(i);
                self.clients.leave_running(sequence.client);
            }
            None => self.clients.leave_waiting(sequence.client, id),
        }
    }

    /// Who has the pages.
    pub fn pool(&self) -> &PagePool {
        &self.pool
    }

    /// How often a sequence lost its place.
    pub fn preemptions(&self) -> u64 {
        self.preemptions
    }
}

/// Equal shares of `budget`: who wants less gets all it wants, and what cannot be divided goes to the first.
fn shares(mut budget: usize, wants: &[usize]) -> Vec<usize> {
    let mut given = vec![0; wants.len()];
    loop {
        let open = given.iter().zip(wants).filter(|(given, wanted)| given < wanted).count();
        if open == 0 || budget == 0 {
            return given;
        }
        let share = (budget / open).max(1);
        for (given, wanted) in given.iter_mut().zip(wants) {
            let more = share.min(wanted - *given).min(budget);
            *given += more;
            budget -= more;
        }
    }
}

#[cfg(test)]
mod tests;
