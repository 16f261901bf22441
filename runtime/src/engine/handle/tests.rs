use std::sync::mpsc;

use super::*;
use crate::request::{Disconnected, Event};

const LIMITS: Limits = Limits {
    queue_depth: 2,
    context: 100,
    vocab: 100,
    pages: 3,
    page_bytes: 1000,
    usage: Usage::NONE,
    timeout: Duration::from_secs(60),
};

fn request(job_id: &str) -> Request {
    Request { job_id: job_id.to_owned(), prompt: vec![1, 2, 3], ..Request::default() }
}

fn submit(engine: &EngineHandle, request: Request) -> Result<(), SubmitError> {
    engine.submit(request, Box::new(|_: Event| Ok::<(), Disconnected>(())))
}

/// Ids of the jobs that `next` gives, which begin, and of the cancelled ones, sorted.
fn next(queue: &JobQueue, room: usize, running: usize) -> (Vec<String>, Vec<String>) {
    match queue.next(room, running) {
        Next::Work { jobs, cancelled } => {
            jobs.iter().for_each(|job| queue.begun(&JobKey::of(&job.request)));
            let mut cancelled: Vec<String> = cancelled.into_iter().map(|job| job.id).collect();
            cancelled.sort();
            (jobs.into_iter().map(|job| job.request.job_id).collect(), cancelled)
        }
        Next::Stop => panic!("told to stop"),
    }
}

/// A job of [`request`]'s client.
fn key(id: &str) -> JobKey {
    JobKey::of(&request(id))
}

fn ids<const N: usize>(ids: [&str; N]) -> Vec<String> {
    ids.map(str::to_owned).into()
}

#[test]
fn jobs_come_oldest_first_and_no_more_than_there_is_room() {
    let (engine, queue) = channel(LIMITS);
    submit(&engine, request("a")).unwrap();
    submit(&engine, request("b")).unwrap();
    assert_eq!(next(&queue, 1, 0), (ids(["a"]), vec![]));
    assert_eq!(next(&queue, 0, 1), (vec![], vec![]));
    submit(&engine, request("c")).unwrap();
    assert_eq!(next(&queue, 9, 1), (ids(["b", "c"]), vec![]));
}

#[test]
fn only_waiting_jobs_fill_the_queue() {
    let (engine, queue) = channel(LIMITS);
    submit(&engine, request("a")).unwrap();
    submit(&engine, request("b")).unwrap();
    assert_eq!(submit(&engine, request("c")), Err(SubmitError::QueueFull { depth: 2 }));
    next(&queue, 1, 0);
    assert_eq!(submit(&engine, request("c")), Ok(()), "the refused job left no trace");
}

#[test]
fn a_job_waits_until_it_has_begun_and_each_client_has_a_queue_of_its_own() {
    let (engine, queue) = channel(LIMITS);
    let of = |client, job_id: &str| submit(&engine, Request { client, ..request(job_id) });
    let of_7 = |id: &str| JobKey { client: 7, id: id.to_owned() };
    of(7, "a").unwrap();
    of(7, "b").unwrap();
    // The engine has it, but it does not run yet.
    let Next::Work { jobs, .. } = queue.next(9, 0) else { panic!("told to stop") };
    assert_eq!((jobs.len(), engine.status().waiting, engine.status().running), (2, 2, 0));
    assert_eq!(of(7, "c"), Err(SubmitError::QueueFull { depth: 2 }));
    assert_eq!(of(8, "c"), Ok(()), "another client");
    queue.begun(&of_7("a"));
    queue.begun(&of_7("a"));
    assert_eq!((engine.status().waiting, engine.status().running), (2, 1));
    assert_eq!(of(7, "d"), Ok(()));
    assert_eq!(of(7, "e"), Err(SubmitError::QueueFull { depth: 2 }));
    queue.finished(&of_7("b"));
    assert_eq!(of(7, "e"), Ok(()), "a job that ends without having begun");
    queue.finished(&of_7("a"));
    assert_eq!((engine.status().waiting, engine.status().running), (3, 0));
}

#[test]
fn an_id_is_taken_until_its_job_has_finished() {
    let (engine, queue) = channel(LIMITS);
    let duplicate = Err(SubmitError::DuplicateJob("a".to_owned()));
    submit(&engine, request("a")).unwrap();
    assert_eq!(submit(&engine, request("a")), duplicate, "while it waits");
    next(&queue, 1, 0);
    assert_eq!(submit(&engine, request("a")), duplicate, "while it runs");
    queue.finished(&key("a"));
    assert_eq!(submit(&engine, request("a")), Ok(()));
}

#[test]
fn a_job_that_breaks_a_limit_is_refused() {
    let (engine, _queue) = channel(LIMITS);
    let with = |prompt: Vec<u32>, max_tokens| submit(&engine, Request { prompt, max_tokens, ..request("a") });
    let overflow =
        |prompt, max_tokens| Err(SubmitError::ContextOverflow { prompt, max_tokens, context: 100 });
    assert_eq!(with(vec![], None), Err(SubmitError::EmptyPrompt));
    assert_eq!(
        with(vec![1, 100], None),
        Err(SubmitError::TokenOutOfRange { position: 1, id: 100, vocab: 100 })
    );
    assert_eq!(with(vec![1; 100], None), overflow(100, 1));
    assert_eq!(with(vec![1; 7], Some(94)), overflow(7, 94));
    assert_eq!(with(vec![1; 7], Some(u32::MAX)), overflow(7, u32::MAX));
    assert_eq!(with(vec![1; 7], Some(89)), Ok(()));
}

#[test]
fn a_job_that_no_kv_cache_of_this_size_holds_is_refused_with_the_numbers() {
    let (engine, queue) = channel(LIMITS);
    queue.publish(CacheUse { pages_used: 1, ..CacheUse::default() });
    let error = submit(&engine, Request { max_tokens: Some(94), ..request("a") }).unwrap_err();
    assert!(matches!(error, SubmitError::InsufficientMemory { needed: 4000, total: 3000, free: 2000, .. }));
    for part in ["4000", "3000", "2000", "weights 0"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(submit(&engine, Request { max_tokens: Some(93), ..request("a") }), Ok(()));
}

#[test]
fn a_job_past_its_deadline_is_given_though_there_is_no_room() {
    let (engine, queue) = channel(Limits { timeout: Duration::from_millis(1), ..LIMITS });
    submit(&engine, request("runs")).unwrap();
    next(&queue, 1, 0);
    submit(&engine, request("waits")).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(next(&queue, 0, 1), (ids(["waits"]), vec![]));
}

#[test]
fn nothing_is_taken_for_a_model_that_is_elsewhere() {
    let (engine, queue) = channel(LIMITS);
    assert!(queue.resident() && engine.status().resident);
    engine.not_resident();
    assert!(!queue.resident() && !engine.status().resident);
    assert_eq!(submit(&engine, request("a")), Err(SubmitError::NotResident));
    // An engine that waits hears of it, once.
    assert_eq!(next(&queue, 1, 0), (ids([]), ids([])));
    engine.shutdown(Duration::ZERO);
    assert!(matches!(queue.next(1, 0), Next::Stop));
}

#[test]
fn a_cancelled_job_is_named_once_wherever_it_is() {
    let (engine, queue) = channel(LIMITS);
    submit(&engine, request("runs")).unwrap();
    next(&queue, 1, 0);
    submit(&engine, request("first")).unwrap();
    submit(&engine, request("second")).unwrap();
    for id in ["runs", "second", "second", "unknown"] {
        engine.cancel(&key(id));
    }
    assert_eq!(next(&queue, 0, 1), (ids(["second"]), ids(["runs", "second"])));
    assert_eq!(next(&queue, 0, 1), (vec![], vec![]));
}

#[test]
fn a_cancelled_job_that_finishes_first_does_not_cancel_its_successor() {
    let (engine, queue) = channel(LIMITS);
    submit(&engine, request("a")).unwrap();
    next(&queue, 1, 0);
    engine.cancel(&key("a"));
    queue.finished(&key("a"));
    engine.cancel(&key("a"));
    submit(&engine, request("a")).unwrap();
    assert_eq!(next(&queue, 1, 0), (ids(["a"]), vec![]));
}

#[test]
fn what_a_client_calls_its_job_is_no_name_of_anothers() {
    let (engine, queue) = channel(LIMITS);
    let of = |client| Request { client, ..request("a") };
    submit(&engine, of(1)).unwrap();
    next(&queue, 1, 0);
    submit(&engine, of(2)).unwrap();
    assert_eq!(submit(&engine, of(1)), Err(SubmitError::DuplicateJob("a".to_owned())));
    engine.cancel(&JobKey::of(&of(3)));
    engine.cancel(&JobKey::of(&of(2)));
    let Next::Work { jobs, cancelled } = queue.next(0, 1) else { panic!("told to stop") };
    assert_eq!((jobs.len(), jobs[0].request.client), (1, 2));
    assert_eq!(cancelled, [JobKey::of(&of(2))]);
    queue.finished(&cancelled[0]);
    assert_eq!((engine.status().waiting, engine.status().running), (0, 1), "the other one runs");
}

#[test]
fn of_several_jobs_all_are_taken_or_none() {
    let (engine, queue) = channel(LIMITS);
    let all = |requests: Vec<Request>| {
        let sink = || -> Box<dyn EventSink> { Box::new(|_: Event| Ok::<(), Disconnected>(())) };
        engine.submit_all(requests.into_iter().map(|request| (request, sink())).collect())
    };
    let bad = Request { prompt: vec![], ..request("b") };
    assert_eq!(all(vec![request("a"), bad]), Err(SubmitError::EmptyPrompt));
    let taken = Err(SubmitError::DuplicateJob("a".to_owned()));
    assert_eq!(all(vec![request("a"), request("a")]), taken);
    let three = ["a", "b", "c"].map(request);
    assert_eq!(all(three.to_vec()), Err(SubmitError::QueueFull { depth: 2 }));
    assert_eq!((engine.status().waiting, engine.status().running), (0, 0));
    assert_eq!(all(vec![request("a"), request("b")]), Ok(()));
    assert_eq!(next(&queue, 9, 0).0, ids(["a", "b"]));
    assert_eq!(all(vec![request("c"), request("a")]), taken, "the second one runs");
    assert_eq!(engine.status().waiting, 0);
}

#[test]
fn an_idle_engine_sleeps_until_a_job_comes() {
    let (engine, queue) = channel(LIMITS);
    let (sender, woken) = mpsc::channel();
    let thread = std::thread::spawn(move || sender.send(next(&queue, 1, 0)).unwrap());
    assert!(woken.recv_timeout(Duration::from_millis(50)).is_err());
    submit(&engine, request("a")).unwrap();
    assert_eq!(woken.recv().unwrap().0, ids(["a"]));
    thread.join().unwrap();
}

#[test]
fn a_shutdown_lets_accepted_jobs_finish_and_then_stops() {
    let (engine, queue) = channel(LIMITS);
    submit(&engine, request("runs")).unwrap();
    submit(&engine, request("waits")).unwrap();
    next(&queue, 1, 0);
    engine.shutdown(Duration::MAX);
    assert_eq!(submit(&engine, request("late")), Err(SubmitError::Draining));
    assert_eq!(engine.status().state, EngineState::Draining);
    queue.finished(&key("runs"));
    assert_eq!(next(&queue, 1, 0), (ids(["waits"]), vec![]));
    queue.finished(&key("waits"));
    assert!(matches!(queue.next(1, 0), Next::Stop));
    drop(queue);
    assert_eq!(engine.status().state, EngineState::Stopped);
    engine.wait_until_ended();
}

#[test]
fn a_drain_that_is_over_cancels_what_is_left() {
    let (engine, queue) = channel(LIMITS);
    submit(&engine, request("runs")).unwrap();
    submit(&engine, request("waits")).unwrap();
    next(&queue, 1, 0);
    engine.shutdown(Duration::MAX);
    // The earlier end holds.
    engine.shutdown(Duration::ZERO);
    assert_eq!(next(&queue, 0, 1), (ids(["waits"]), ids(["runs", "waits"])));
}

#[test]
fn the_status_counts_jobs_and_tells_what_the_engine_does() {
    let (engine, queue) = channel(LIMITS);
    assert_eq!(engine.status().state, EngineState::Idle);
    submit(&engine, request("a")).unwrap();
    submit(&engine, request("b")).unwrap();
    next(&queue, 1, 0);
    queue.publish(CacheUse { pages_used: 2, pages_cached: 1, cached_tokens: 64, preemptions: 7 });
    let expected = Status {
        state: EngineState::Busy,
        resident: true,
        waiting: 1,
        running: 1,
        kv_pages_used: 2,
        kv_pages_cached: 1,
        kv_pages_total: 3,
        cached_tokens: 64,
        preemptions: 7,
    };
    assert_eq!(engine.status(), expected);
}

#[test]
fn waiting_jobs_are_dropped_with_the_engine_and_new_ones_refused() {
    let (engine, queue) = channel(LIMITS);
    let (sender, events) = mpsc::channel();
    let sink = move |event| sender.send(event).map_err(|_| Disconnected);
    engine.submit(request("a"), Box::new(sink)).unwrap();
    queue.fail("ILLEGAL_ADDRESS".to_owned());
    assert!(events.recv().is_err(), "the sink is gone");
    assert_eq!(engine.status().state, EngineState::Failed);
    assert_eq!(submit(&engine, request("b")), Err(SubmitError::Failed("ILLEGAL_ADDRESS".to_owned())));
    engine.wait_until_ended();
}

#[test]
fn an_engine_that_panicked_has_failed() {
    let (engine, queue) = channel(LIMITS);
    let thread = std::thread::spawn(move || {
        let _queue = queue;
        panic!("on purpose");
    });
    thread.join().unwrap_err();
    assert_eq!(engine.status().state, EngineState::Failed);
    assert!(matches!(submit(&engine, request("a")), Err(SubmitError::Failed(_))));
}
