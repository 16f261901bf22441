//! `--verify-invariance`: who keeps the promise passes, and each way to break it is noticed.

use std::io;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::scripted::{Reply, Request, Scripted, choice};
use super::{bench, last_line, succeed};
use crate::common::output;
use crate::stdout;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("load::invariance_of_answers_that_follow_from_the_request_is_confirmed", kept),
        Trial::test("load::invariance_of_answers_that_depend_on_the_crowd_is_denied", broken),
        Trial::test("load::invariance_of_nothing_is_not_confirmed", nothing),
        Trial::test("load::invariance_is_not_confirmed_where_requests_fail", failing),
    ]
}

/// How long a request that is alone waits for others.
const ALONE: Duration = Duration::from_millis(100);

/// The words of a request's answer, which follow from its prompt, its seed and its temperature.
fn words(request: &Request) -> Vec<String> {
    let mut hash: u64 =
        if request.body["temperature"] == 0.0 { 7 } else { request.body["seed"].as_u64().unwrap_or(0) };
    for byte in request.body["prompt"].as_str().unwrap_or_default().bytes() {
        hash = hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte);
    }
    let word = |place: u64| format!("für{} ", (hash ^ place.wrapping_mul(0x9e37_79b9)) % 1000);
    (0..6).map(word).collect()
}

fn send(reply: &mut Reply, words: &[String]) -> io::Result<()> {
    reply.begin()?;
    for word in words {
        reply.text(word)?;
    }
    reply.end(3, words.len() as u64)
}

/// The same answers in other pieces each time: whole, and cut within lines and characters.
fn kept() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let server = Scripted::start(|request, reply| {
        let words = words(request);
        if request.number < 12 {
            return send(reply, &words);
        }
        reply.begin()?;
        let stream: String =
            words.iter().map(|word| format!(": hm\r\ndata: {}\r\n\r\n", choice(word))).collect();
        for piece in stream.as_bytes().chunks(1 + request.number % 5) {
            reply.bytes(piece)?;
        }
        reply.end(3, 6)
    })?;
    let mut command = bench(folder.path(), &server.url);
    command.args(["--verify-invariance", "--requests", "12", "--concurrency", "1,3,20"]);
    let all = succeed(&mut command)?;
    assert_eq!(
        (&all["mode"], &all["alone"]["answers"]),
        (&json!("verify_invariance"), &json!(12)),
        "{all:#}"
    );
    assert_eq!(all["alone"]["tokens"], 72);
    let crowds = all["crowds"].as_array().ok_or("crowds")?;
    for (crowd, concurrency) in crowds.iter().zip([1, 3, 20]) {
        assert_eq!(crowd["concurrency"], concurrency);
        assert_eq!(
            (&crowd["requests"], &crowd["equal"], &crowd["different"]),
            (&json!(12), &json!(12), &json!(0))
        );
    }
    assert_eq!(crowds.len(), 3);

    // Greedy ones and sampled ones, the same requests in each crowd, and in another order.
    let bodies = server.seen.bodies();
    assert_eq!(bodies.len(), 48);
    let alone = &bodies[..12];
    for (number, body) in alone.iter().enumerate() {
        assert_eq!(body["temperature"], if number % 2 == 0 { 0.0 } else { 1.0 });
        assert!(body["seed"].is_u64(), "{body}");
    }
    let sorted = |bodies: &[Value]| {
        let mut texts: Vec<String> = bodies.iter().map(Value::to_string).collect();
        texts.sort();
        texts
    };
    for crowd in bodies[12..].chunks(12) {
        assert_eq!(sorted(crowd), sorted(alone));
    }
    assert_ne!(&bodies[12..24], alone, "one at a time, but in the same order");
    Ok(())
}

/// A way to depend on the crowd.
#[derive(Debug, Clone, Copy)]
enum Breach {
    /// The third word is another.
    Word,
    /// The last token's id is another, and its text is not.
    Id,
    /// The receipt's hash is another, and nothing else.
    Hash,
    /// The last word is missing.
    Short,
}

fn answer(breach: Breach, request: &Request, reply: &mut Reply) -> io::Result<()> {
    let mut words = words(request);
    // Only some of the sampled ones, as a race would have it.
    let breaks = request.body["temperature"] != 0.0 && reply.company(2, ALONE);
    let wrong = |what: bool| if what && breaks { 1 } else { 0 };
    match breach {
        Breach::Word if breaks => words[2] = "fürwahr ".to_owned(),
        Breach::Short if breaks => drop(words.pop()),
        _ => {}
    }
    reply.begin()?;
    for (place, word) in words.iter().enumerate() {
        let mut event = choice(word);
        if let Breach::Id = breach {
            event["choices"][0]["token_ids"] = json!([place + wrong(place == 5)]);
        }
        if let (Breach::Hash, 5) = (breach, place) {
            event["choices"][0]["receipt"] = json!({"output": {"blake3": format!("0{}", wrong(true))}});
        }
        reply.event(&event)?;
    }
    reply.end(3, words.len() as u64)
}

fn broken() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for (breach, told, kind) in [
        (Breach::Word, "differs from character ", "character"),
        (Breach::Id, "differs from token 5 on", "token"),
        (Breach::Hash, "same text of other tokens", "hash"),
        (Breach::Short, "differs from character ", "character"),
    ] {
        let server = Scripted::start(move |request, reply| answer(breach, request, reply))?;
        let json = folder.path().join("findings.json");
        let mut command = bench(folder.path(), &server.url);
        command.args([
            "--verify-invariance",
            "--requests",
            "8",
            "--concurrency",
            "1,8",
            "--allow-errors",
            "--json",
        ]);
        let done = output(command.arg(&json))?;
        assert_eq!(done.status.code(), Some(1), "{breach:?}: {done:?}");
        let all: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
        assert_eq!(all["crowds"][0]["equal"], 8, "alone, each is itself: {all:#}");
        let differences = all["crowds"][1]["differences"].as_array().ok_or("differences")?;
        let count = differences.len();
        assert!(count > 0 && all["crowds"][1]["equal"] == json!(8 - count), "{breach:?}: {all:#}");
        assert!(
            last_line(&done).starts_with(&format!("error: {count} answers differ")),
            "{}",
            last_line(&done)
        );
        let text = stdout(&done);
        for difference in differences {
            assert_eq!((&difference["what"], &difference["temperature"]), (&json!(kind), &json!(1.0)));
            let number = difference["request"].as_u64().ok_or("a number")?;
            let line = format!("different   request {number} (seed {}) ", difference["seed"]);
            let line =
                text.lines().find(|found| found.starts_with(&line)).ok_or(format!("no {line}: {text}"))?;
            assert!(number % 2 == 1 && line.contains(told), "{line}");
            assert!(!text.contains("für"), "{text}");
            // The request that had that seed, and where its answers part.
            let of = |request: &&Request| request.body["seed"] == difference["seed"];
            let request = server.seen.requests().iter().find(of).cloned().ok_or("no such seed")?;
            let words = words(&request);
            let characters = |words: &[String]| words.concat().chars().count();
            match breach {
                Breach::Word => assert_eq!(difference["position"], json!(characters(&words[..2]) + 3)),
                Breach::Short => assert_eq!(difference["position"], json!(characters(&words[..5]))),
                Breach::Id | Breach::Hash => {}
            }
        }
    }
    Ok(())
}

fn nothing() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let server = Scripted::start(|_, reply| {
        reply.begin()?;
        reply.end(3, 0)
    })?;
    let done = output(bench(folder.path(), &server.url).args(["--verify-invariance", "--requests", "5"]))?;
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(last_line(&done).contains("nothing was compared"), "{}", last_line(&done));
    Ok(())
}

/// Every request that is not alone is refused.
fn failing() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for (allow, told) in [
        (None, "5 of 5 requests failed, most often: status 503"),
        (Some("--allow-errors"), "nothing was compared"),
    ] {
        let server = Scripted::start(|request, reply| match request.number {
            ..10 => send(reply, &words(request)),
            _ => reply.whole("503 Service Unavailable", "{}"),
        })?;
        let mut command = bench(folder.path(), &server.url);
        command.args(["--verify-invariance", "--requests", "5", "--concurrency", "1,5"]).args(allow);
        let done = output(&mut command)?;
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        assert!(last_line(&done).contains(told), "{}", last_line(&done));
        assert!(stdout(&done).contains("failed      5 x status 503\n"), "{}", stdout(&done));
    }

    // Whoever failed alone has nothing to be compared with, and is not sent again.
    let server = Scripted::start(|request, reply| match request.number {
        2 => reply.whole("503 Service Unavailable", "{}"),
        _ => send(reply, &words(request)),
    })?;
    let mut command = bench(folder.path(), &server.url);
    command.args(["--verify-invariance", "--requests", "5", "--concurrency", "3"]);
    let all = succeed(command.arg("--allow-errors"))?;
    assert_eq!((&all["alone"]["answers"], &all["crowds"][0]["equal"]), (&json!(4), &json!(4)), "{all:#}");
    assert_eq!((server.seen.bodies().len(), &all["alone"]["errors"][0]["count"]), (9, &json!(1)));
    Ok(())
}
