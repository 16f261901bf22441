//! Promises by name: what a client may count on beside what others do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::office::{Office, Size};
use crate::request::{Event, JobError, Request, SubmitError};
use crate::scheduler::StepLimits;

const SIZE: Size = Size { pages: 64, step: StepLimits::new(16, 8), prefix_cache: true, queue_depth: 100 };

/// A prompt of its own, of `len` tokens.
fn request(job_id: &str, client: u32, len: usize, max_tokens: u32) -> Request {
    let salt = job_id.bytes().fold(1, |salt: u32, byte| salt.wrapping_mul(31).wrapping_add(byte.into()));
    let prompt = (0..len as u32).map(|i| (salt.wrapping_mul(i + 1) >> 7) % 256).collect();
    Request { job_id: job_id.to_owned(), prompt, client, max_tokens: Some(max_tokens), ..Request::default() }
}

#[test]
fn a_short_job_behind_long_prompts_begins_to_speak_soon() {
    let mut office = Office::new(Size { pages: 64, ..SIZE });
    for i in 0..6 {
        office.submit(request(&format!("long {i}"), 0, 200, 4), None).unwrap();
    }
    office.turn();
    office.submit(request("short", 0, 8, 4), None).unwrap();
    // A step's 16 tokens in seven shares: two each, so four steps, while the long prompts take a hundred.
    let turns = office.turns_to_first_token("short");
    assert!(turns <= 5, "{turns} turns");
    assert_eq!(office.generated("long 0"), 0);
    office.finish();
}

#[test]
fn a_client_that_floods_takes_no_more_than_its_share() {
    let mut office = Office::new(Size { step: StepLimits::new(16, 4), ..SIZE });
    let mut refused = 0;
    for i in 0..120 {
        let submitted = office.submit(request(&format!("flood {i}"), 1, 20, 8), None);
        refused += usize::from(matches!(submitted, Err(SubmitError::QueueFull { .. })));
    }
    assert_eq!(refused, 20, "its own queue is full");
    (0..20).for_each(|_| office.turn());
    for i in 0..20 {
        office.submit(request(&format!("other {i}"), 2, 20, 8), None).unwrap();
    }
    let ended = |office: &Office, prefix: &str| {
        let of = office.jobs().into_iter().filter(|id| id.starts_with(prefix));
        of.filter(|id| office.heard(id).has_ended()).count()
    };
    let before = ended(&office, "flood");
    while ended(&office, "other") < 20 {
        office.turn();
    }
    let meanwhile = ended(&office, "flood") - before;
    assert!((14..=26).contains(&meanwhile), "20 of one client, {meanwhile} of the other");
    office.finish();
}

#[test]
fn a_client_that_holds_all_places_makes_room_for_others() {
    let mut office = Office::new(Size { step: StepLimits::new(16, 4), ..SIZE });
    let whole =
        |id: &str, client, max_tokens| Request { ignore_eos: true, ..request(id, client, 8, max_tokens) };
    for i in 0..6 {
        office.submit(whole(&format!("long {i}"), 1, 200), None).unwrap();
    }
    (0..20).for_each(|_| office.turn());
    let begun = |office: &Office, id: &str| office.generated(id) > 0;
    assert!(begun(&office, "long 3") && !begun(&office, "long 4"), "all places are taken");
    for i in 0..3 {
        office.submit(whole(&format!("other {i}"), 2, 100), None).unwrap();
    }
    office.turn();
    office.turn();
    assert!(begun(&office, "other 0"), "at once, whatever the others have left to do");
    (0..20).for_each(|_| office.turn());
    // Two each: the third waits, though its client was served less.
    assert_eq!(["other 0", "other 1", "other 2"].map(|id| begun(&office, id)), [true, true, false]);
    office.submit(whole("third", 3, 100), None).unwrap();
    (0..20).for_each(|_| office.turn());
    assert!(begun(&office, "third"));
    // Once that was fair, nobody's place is taken any more: three sequences gave theirs up.
    let before = office.handle.status().preemptions;
    (0..10).for_each(|_| office.turn());
    assert_eq!((before, office.handle.status().preemptions), (3, 3));
    office.finish();
}

#[test]
fn a_second_turn_of_a_chat_computes_only_what_is_new() {
    let mut office = Office::new(SIZE);
    office.submit(request("first", 0, 100, 40), None).unwrap();
    office.finish();
    let (answer, prompt) = (office.heard("first").tokens(), request("first", 0, 100, 40).prompt);
    assert!(answer.len() > 33, "an answer that fills a page: {}", answer.len());
    let mut second = request("second", 0, 100, 5);
    second.prompt = [prompt, answer.clone(), vec![7; 10]].concat();
    office.submit(second.clone(), None).unwrap();
    office.finish();
    // The last generated token was never computed.
    let full = (100 + answer.len() - 1) / 32 * 32;
    assert_eq!(office.handle.status().cached_tokens, full as u64);
    let mut without = Office::new(Size { prefix_cache: false, ..SIZE });
    without.submit(second, None).unwrap();
    without.finish();
    assert_eq!(office.heard("second").tokens(), without.heard("second").tokens());
    assert_eq!(without.handle.status().cached_tokens, 0);
}

#[test]
fn the_last_token_of_a_cached_prompt_is_computed() {
    let mut office = Office::new(SIZE);
    for (id, cached) in [("a", 0), ("b", 32)] {
        let mut request = request(id, 0, 64, 1);
        request.prompt = vec![5; 64];
        office.submit(request, None).unwrap();
        office.finish();
        assert_eq!(office.handle.status().cached_tokens, cached);
    }
    assert_eq!(office.heard("a").tokens(), office.heard("b").tokens());
}

#[test]
fn what_a_failed_step_wrote_is_nobodys_prefix() {
    let mut office = Office::new(Size { step: StepLimits::new(200, 2), ..SIZE });
    office.engine.compute.fails = true;
    office.submit(request("a", 0, 100, 4), None).unwrap();
    office.finish();
    assert!(matches!(office.heard("a").events[..], [Event::Started, Event::Error(JobError::Launch(_))]));
    assert_eq!(office.handle.status().kv_pages_cached, 0);
    office.submit(request("a", 0, 100, 4), None).unwrap();
    office.finish();
    assert_eq!(office.handle.status().cached_tokens, 0);
}

#[test]
fn a_device_that_does_not_work_any_more_ends_every_job_and_the_engine() {
    let mut office = Office::new(SIZE);
    let told = Arc::new(AtomicUsize::new(0));
    for i in 0..12 {
        let told = told.clone();
        let sink = move |event| {
            told.fetch_add(
                usize::from(matches!(event, Event::Error(JobError::Launch(_)))),
                Ordering::Relaxed,
            );
            Ok(())
        };
        office.handle.submit(request(&i.to_string(), 0, 20, 40), Box::new(sink)).unwrap();
    }
    office.turn();
    office.engine.compute.fails = true;
    office.engine.compute.is_dead = true;
    office.engine.run();
    assert_eq!(told.load(Ordering::Relaxed), 12, "running and waiting");
    let refused = office.handle.submit(request("late", 0, 20, 4), Box::new(|_| Ok(())));
    assert!(matches!(refused, Err(SubmitError::Failed(_))));
}

#[test]
fn a_drain_finishes_what_runs_and_what_waits() {
    let mut office = Office::new(SIZE);
    let ended = Arc::new(AtomicUsize::new(0));
    for i in 0..20 {
        let ended = ended.clone();
        let sink = move |event| {
            ended.fetch_add(usize::from(matches!(event, Event::End(_))), Ordering::Relaxed);
            Ok(())
        };
        office.handle.submit(request(&i.to_string(), 0, 20, 10), Box::new(sink)).unwrap();
    }
    office.turn();
    office.handle.shutdown(Duration::MAX);
    office.engine.run();
    assert_eq!(ended.load(Ordering::Relaxed), 20);
}

#[test]
fn a_lost_model_ends_every_job_that_runs_or_waits() {
    let mut office = Office::new(SIZE);
    for i in 0..12 {
        office.submit(request(&i.to_string(), 0, 20, 40), None).unwrap();
    }
    office.turn();
    office.handle.not_resident();
    office.turn();
    office.finish();
    for i in 0..12 {
        let last = office.heard(&i.to_string()).events.last().cloned();
        assert!(matches!(last, Some(Event::Error(JobError::NotResident(_)))), "{last:?}");
    }
}
