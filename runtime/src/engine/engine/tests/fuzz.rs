//! Random arrivals, lengths, clients, cancels, hang-ups and failing steps, on few pages.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use proptest::prelude::*;

use super::office::{Office, Size};
use crate::request::{Event, JobError, Request, Sampling};
use crate::scheduler::StepLimits;

/// Something that happens between two turns.
#[derive(Debug, Clone)]
enum Happens {
    Arrives(Job),
    Cancelled(usize),
    Fails,
    Turns(usize),
}

#[derive(Debug, Clone)]
struct Job {
    client: u32,
    /// Which of few texts the prompt begins with, and how much of it.
    begins: (u32, usize),
    /// Tokens of its own after that.
    own: Vec<u32>,
    max_tokens: u32,
    seed: u64,
    temperature: f32,
    penalty: f32,
    hangs_up: Option<usize>,
}

impl Job {
    fn request(&self, job_id: &str) -> Request {
        let (text, len) = self.begins;
        // One of the texts has the same tokens in every page.
        let token = |i: u32| if text == 0 { i % 32 } else { i * 7 + text };
        let mut prompt: Vec<u32> = (0..len as u32).map(|i| token(i) % 256).collect();
        prompt.extend(&self.own);
        Request {
            job_id: job_id.to_owned(),
            prompt,
            client: self.client,
            max_tokens: Some(self.max_tokens),
            sampling: Sampling {
                temperature: self.temperature,
                repetition_penalty: self.penalty,
                seed: self.seed,
                ..Sampling::GREEDY
            },
            ..Request::default()
        }
    }
}

fn job() -> impl Strategy<Value = Job> {
    let begins = (0u32..3, prop_oneof![0usize..10, 30usize..100]);
    let own = prop::collection::vec(0u32..256, 1..12);
    let hangs_up = prop_oneof![9 => Just(None), 1 => (0usize..6).prop_map(Some)];
    let sampling = (0u64..3, prop_oneof![Just(0.0f32), Just(1.0)], prop_oneof![Just(1.0f32), Just(1.1)]);
    (0u32..3, begins, own, prop_oneof![1u32..130, 90u32..130], sampling, hangs_up).prop_map(
        |(client, begins, own, max_tokens, (seed, temperature, penalty), hangs_up)| Job {
            client,
            begins,
            own,
            max_tokens,
            seed,
            temperature,
            penalty,
            hangs_up,
        },
    )
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        20 => job().prop_map(Happens::Arrives),
        2 => (0usize..30).prop_map(Happens::Cancelled),
        1 => Just(Happens::Fails),
        10 => (1usize..60).prop_map(Happens::Turns),
    ]
}

fn size() -> impl Strategy<Value = Size> {
    (8usize..20, 1usize..40, 1usize..9, any::<bool>()).prop_map(|(pages, tokens, sequences, prefix_cache)| {
        Size { pages, step: StepLimits::new(tokens, sequences), prefix_cache, queue_depth: 100 }
    })
}

/// Tokens and text.
type Answer = (Vec<u32>, String);

/// All that a job's client hears if there is nobody else and everything has room.
fn alone(job: &Job) -> Answer {
    static KNOWN: LazyLock<Mutex<HashMap<String, Answer>>> = LazyLock::new(Mutex::default);
    let key = format!("{:?}", job.request(""));
    if let Some(known) = KNOWN.lock().unwrap().get(&key) {
        return known.clone();
    }
    let step = StepLimits::new(1000, 1);
    let mut office = Office::new(Size { pages: 8, step, prefix_cache: false, queue_depth: 1 });
    office.submit(job.request("alone"), None).unwrap();
    office.finish();
    let heard = office.heard("alone");
    let all = (heard.tokens(), heard.text());
    KNOWN.lock().unwrap().insert(key, all.clone());
    all
}

/// What the fuzz has met, over all its cases: paths that were never taken are not proved.
#[derive(Debug, Default)]
struct Met {
    preemptions: u64,
    cached_tokens: u64,
    ended: u64,
    cancelled: u64,
    failed: u64,
}

fn everybody_gets_what_it_would_get_alone(size: Size, happened: Vec<Happens>, met: &Mutex<Met>) {
    let mut office = Office::new(size);
    let mut jobs: Vec<Job> = Vec::new();
    for event in happened {
        match event {
            Happens::Arrives(job) => {
                office.submit(job.request(&jobs.len().to_string()), job.hangs_up).unwrap();
                jobs.push(job);
            }
            Happens::Cancelled(i) => office.cancel(&i.to_string()),
            Happens::Fails => office.engine.compute.fails = true,
            Happens::Turns(count) => (0..count).for_each(|_| office.turn()),
        }
    }
    office.finish();
    let mut met = met.lock().unwrap();
    for (i, job) in jobs.iter().enumerate() {
        let heard = office.heard(&i.to_string());
        let (tokens, text) = alone(job);
        match heard.events.last() {
            Some(Event::End(_)) => {
                assert_eq!((heard.tokens(), heard.text()), (tokens, text), "job {i}");
                met.ended += 1;
            }
            // What was sent so far stays valid.
            other => {
                assert!(tokens.starts_with(&heard.tokens()) && text.starts_with(&heard.text()), "job {i}");
                match other {
                    Some(Event::Error(JobError::Cancelled)) => met.cancelled += 1,
                    Some(Event::Error(JobError::Launch(_))) => met.failed += 1,
                    _ => assert!(job.hangs_up.is_some(), "job {i}: {other:?}"),
                }
            }
        }
    }
    let status = office.handle.status();
    met.preemptions += status.preemptions;
    met.cached_tokens += status.cached_tokens;
}

#[test]
fn whatever_happens_everybody_gets_what_it_would_get_alone() {
    let met = Mutex::new(Met::default());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(300)
    });
    let cases = (size(), prop::collection::vec(happens(), 1..60));
    let ran = runner.run(&cases, |(size, happened)| {
        everybody_gets_what_it_would_get_alone(size, happened, &met);
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    let met = met.into_inner().unwrap();
    eprintln!("met: {met:?}");
    let Met { preemptions, cached_tokens, ended, cancelled, failed } = met;
    assert!(preemptions > 100 && cached_tokens > 1000, "{preemptions} preemptions, {cached_tokens} tokens");
    assert!(
        ended > 100 && cancelled > 10 && failed > 10,
        "{ended} ended, {cancelled} cancelled, {failed} failed"
    );
}
