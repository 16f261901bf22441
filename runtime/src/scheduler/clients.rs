//! Whose turn it is: the client that was served least.

use std::collections::{BTreeMap, VecDeque};

use super::Id;

/// Clients with their waiting sequences.
///
/// A client is served by the tokens of its prompts, counted when they are admitted, and by those that are generated for it. Next
/// is the one that was served least, and of its sequences the oldest. Whoever had nothing waiting starts level with the least
/// served of those that wait, or, if none does, with the one that was admitted last: what was not asked for is not saved up.
#[derive(Debug, Default)]
pub(super) struct Clients {
    clients: BTreeMap<u32, Client>,
    /// What the client had been served that was admitted last.
    level: u64,
}

#[derive(Debug, Default)]
struct Client {
    served: u64,
    waiting: VecDeque<Id>,
    running: usize,
}

impl Client {
    fn is_here(&self) -> bool {
        self.running > 0 || !self.waiting.is_empty()
    }
}

impl Clients {
    pub(super) fn submit(&mut self, client: u32, id: Id) {
        let waits = self.clients.values().filter(|client| !client.waiting.is_empty());
        let least = waits.map(|client| client.served).min().unwrap_or(self.level);
        let client = self.clients.entry(client).or_default();
        if client.waiting.is_empty() {
            client.served = client.served.max(least);
        }
        client.waiting.push_back(id);
    }

    /// Who is to be admitted next.
    pub(super) fn next(&self) -> Option<Id> {
        let waiting =
            self.clients.values().filter_map(|client| Some((client.served, *client.waiting.front()?)));
        waiting.min().map(|(_, id)| id)
    }

    /// How many sequences of a client run.
    pub(super) fn running(&self, client: u32) -> usize {
        self.clients.get(&client).map_or(0, |client| client.running)
    }

    /// The client that runs most sequences, and how many.
    pub(super) fn most_running(&self) -> Option<(u32, usize)> {
        self.clients.iter().map(|(&id, client)| (id, client.running)).max_by_key(|&(_, running)| running)
    }

    /// The first waiting sequence of a client runs.
    pub(super) fn admit(&mut self, client: u32, tokens: u64) {
        let client = self.clients.entry(client).or_default();
        self.level = client.served;
        client.waiting.pop_front();
        client.running += 1;
        client.served += tokens;
    }

    /// A running sequence waits before all others of its client.
    pub(super) fn put_back(&mut self, client: u32, id: Id) {
        let client = self.of(client);
        client.running -= 1;
        client.waiting.push_front(id);
    }

    pub(super) fn charge(&mut self, client: u32, tokens: u64) {
        self.of(client).served += tokens;
    }

    pub(super) fn leave_running(&mut self, client: u32) {
        self.of(client).running -= 1;
        self.forget();
    }

    pub(super) fn leave_waiting(&mut self, client: u32, id: Id) {
        self.of(client).waiting.retain(|&waiting| waiting != id);
        self.forget();
    }

    /// Where nobody is left, nobody was served more than another.
    fn forget(&mut self) {
        if !self.clients.values().any(Client::is_here) {
            self.clients.clear();
            self.level = 0;
        }
    }

    /// Whether it waits.
    #[cfg(test)]
    pub(super) fn waits(&self, client: u32, id: Id) -> bool {
        self.clients.get(&client).is_some_and(|client| client.waiting.contains(&id))
    }

    fn of(&mut self, client: u32) -> &mut Client {
        self.clients.entry(client).or_default()
    }
}
