//! An engine on the fake model, its clients, and all that must hold between two turns.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use super::fake::Fake;
use crate::device::Usage;
use crate::engine::engine::Engine;
use crate::engine::{EngineHandle, JobKey, Limits, channel};
use crate::gguf::TensorType;
use crate::request::{Disconnected, Event, Request, SubmitError};
use crate::scheduler::{Scheduler, StepLimits};
use crate::synthetic::{self, Shape};
use crate::tokenizer::Tokenizer;

/// Single bytes; 257 ends a completion.
pub(super) static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let shape = Shape::named("tiny").expect("a shape");
    let gguf = synthetic::model(shape, TensorType::F16, 1).expect("a header");
    Arc::new(Tokenizer::from_gguf(&gguf).expect("a tokenizer"))
});

#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) pages: usize,
    pub(super) step: StepLimits,
    pub(super) prefix_cache: bool,
    pub(super) queue_depth: usize,
}

pub(super) struct Office {
    pub(super) handle: EngineHandle,
    pub(super) engine: Engine<Fake>,
    pub(super) size: Size,
    /// What each job's client got, and after how many steps.
    heard: BTreeMap<String, Arc<Mutex<Heard>>>,
    max_tokens: BTreeMap<String, u32>,
    clients: BTreeMap<String, u32>,
    steps: Rc<RefCell<u64>>,
}

#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) events: Vec<Event>,
    /// The client hangs up when it would get this event.
    deaf_at: Option<usize>,
}

impl Heard {
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.events.last(), Some(Event::End(_) | Event::Error(_)))
            || self.deaf_at.is_some_and(|at| self.events.len() >= at)
    }

    /// Tokens it was told of.
    pub(super) fn tokens(&self) -> Vec<u32> {
        let chosen = self.events.iter().flat_map(|event| match event {
            Event::Token { tokens, .. } => tokens.as_slice(),
            Event::End(completion) => &completion.tokens,
            _ => &[],
        });
        chosen.map(|chosen| chosen.id).collect()
    }

    pub(super) fn text(&self) -> String {
        let texts = self.events.iter().filter_map(|event| match event {
            Event::Token { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }
}

impl Office {
    pub(super) fn new(size: Size) -> Self {
        let limits = Limits {
            queue_depth: size.queue_depth,
            context: 256,
            vocab: 320,
            pages: size.pages,
            page_bytes: 1,
            usage: Usage::NONE,
            timeout: Duration::from_secs(3600),
        };
        let (handle, queue) = channel(limits);
        let scheduler = Scheduler::new(size.step, size.pages, size.prefix_cache);
        let engine = Engine::new(Fake::new(size.pages), TOKENIZER.clone(), queue, scheduler);
        let (heard, max_tokens, clients) = Default::default();
        Self { handle, engine, size, heard, max_tokens, clients, steps: Rc::default() }
    }

    /// Submits a job whose client hangs up at the event `deaf_at`.
    pub(super) fn submit(&mut self, request: Request, deaf_at: Option<usize>) -> Result<(), SubmitError> {
        let heard = Arc::new(Mutex::new(Heard { deaf_at, ..Heard::default() }));
        let to = heard.clone();
        let (id, handle) = (request.job_id.clone(), self.handle.clone());
        let used = JobKey::of(&request);
        self.clients.insert(id.clone(), request.client);
        self.max_tokens.insert(id.clone(), request.max_tokens.unwrap_or(u32::MAX));
        let sink = move |event: Event| {
            let mut heard = to.lock().unwrap();
            if heard.deaf_at == Some(heard.events.len()) {
                return Err(Disconnected);
            }
            if matches!(event, Event::End(_) | Event::Error(_)) {
                // Free before its client hears of its end: another with this id would be taken.
                let again = Request {
                    job_id: used.id.clone(),
                    client: used.client,
                    prompt: vec![1; 9999],
                    ..Request::default()
                };
                let refused = handle.submit(again, Box::new(|_| Ok(())));
                assert!(matches!(refused, Err(SubmitError::ContextOverflow { .. })));
                assert!(!handle.is_active(&used), "an id outlives its job");
            }
            heard.events.push(event);
            Ok(())
        };
        self.handle.submit(request, Box::new(sink))?;
        self.heard.insert(id, heard);
        Ok(())
    }

    pub(super) fn cancel(&self, job_id: &str) {
        if let Some(&client) = self.clients.get(job_id) {
            self.handle.cancel(&JobKey { client, id: job_id.to_owned() });
        }
    }

    /// One turn, if there is anything to do, with every promise checked.
    pub(super) fn turn(&mut self) {
        if self.handle.status().waiting + self.handle.status().running == 0 {
            return;
        }
        let failing = self.engine.compute.fails;
        let steps = self.engine.compute.steps;
        let streams: Vec<(u64, usize)> = self.generating();
        let oldest = self.engine.scheduler.oldest();
        let turned = self.engine.turn().expect("the device works");
        assert_eq!(turned, ControlFlow::Continue(()));
        self.engine.scheduler.check();
        self.check_events();
        if self.engine.compute.steps == steps {
            assert!(oldest.is_none_or(|(id, _)| !self.engine.jobs.contains_key(&id)), "nothing was computed");
            return;
        }
        *self.steps.borrow_mut() += 1;
        let (tokens, _) = self.engine.compute.last;
        assert!(tokens <= self.size.step.most_tokens(), "{tokens} tokens in a step");
        if failing {
            return;
        }
        // The oldest advanced, or is gone.
        if let Some((id, computed)) = oldest {
            let now = self.engine.scheduler.computed_of(id);
            assert!(now.is_none_or(|now| now > computed), "the oldest stands still at {computed}");
        }
        // Streams got a token, whatever prompts came beside, unless there was no page for it.
        for (id, before) in streams {
            let Some(sequence) = self.engine.jobs.get(&id) else { continue };
            let got = sequence.tokens().len() > before;
            assert!(got || self.engine.scheduler.lacked_pages(id), "a stream without its token");
        }
    }

    /// Sequences that have one token to compute, and how many tokens they have.
    fn generating(&self) -> Vec<(u64, usize)> {
        let ids = self.engine.scheduler.generating();
        ids.into_iter().map(|id| (id, self.engine.jobs[&id].tokens().len())).collect()
    }

    /// Every client's events so far are in order, and no more than it has room for.
    fn check_events(&self) {
        for (id, heard) in &self.heard {
            let heard = heard.lock().unwrap();
            let most = self.max_tokens[id].saturating_add(2) as usize;
            assert!(heard.events.len() <= most, "{} events of {most}", heard.events.len());
            let mut indices = 0;
            for (i, event) in heard.events.iter().enumerate() {
                match event {
                    Event::Started => assert_eq!(i, 0, "it begins once"),
                    Event::Token { index, text, .. } => {
                        assert!(i > 0 && *index == indices && !text.is_empty());
                        indices += 1;
                    }
                    // A job that never began has but an error.
                    Event::End(_) => assert!(i > 0 && i + 1 == heard.events.len()),
                    Event::Error(_) => assert_eq!(i + 1, heard.events.len()),
                }
            }
        }
    }

    /// Turns until every job has ended; all pages are nobody's then.
    pub(super) fn finish(&mut self) {
        let mut turns = 0;
        while self.handle.status().waiting + self.handle.status().running > 0 {
            self.turn();
            turns += 1;
            assert!(turns < 100_000, "jobs do not end");
        }
        let status = self.handle.status();
        assert_eq!((status.kv_pages_used, status.kv_pages_total), (0, self.size.pages));
        assert!(self.size.prefix_cache || status.kv_pages_cached == 0);
        assert!(self.engine.jobs.is_empty());
        for (id, heard) in &self.heard {
            assert!(heard.lock().unwrap().has_ended(), "{id} was forgotten");
        }
    }

    pub(super) fn heard(&self, job_id: &str) -> std::sync::MutexGuard<'_, Heard> {
        self.heard[job_id].lock().unwrap()
    }

    pub(super) fn jobs(&self) -> HashSet<String> {
        self.heard.keys().cloned().collect()
    }

    /// Turns until a job has heard something beyond `Started`; how many.
    pub(super) fn turns_to_first_token(&mut self, job_id: &str) -> usize {
        for turn in 1..10_000 {
            self.turn();
            if self.generated(job_id) > 0 || self.heard(job_id).has_ended() {
                return turn;
            }
        }
        panic!("no token ever comes");
    }

    /// Tokens chosen for a job that has not ended, text or not.
    pub(super) fn generated(&self, job_id: &str) -> usize {
        let of = |sequence: &&crate::engine::sequence::Sequence| sequence.key.id == job_id;
        self.engine.jobs.values().find(of).map_or(0, |sequence| sequence.generated())
    }
}
