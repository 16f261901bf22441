//! Servers that refuse, break off and send nonsense, and arguments that cannot be used.

use std::collections::BTreeMap;
use std::io;
use std::thread::sleep;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::scripted::{Reply, Request, Scripted};
use super::{bench, last_line, quick};
use crate::common::output;
use crate::{expect_failure, stdout, worker};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("load::failures_are_counted_by_kind", kinds),
        Trial::test("load::a_line_without_end_is_not_read_on", endless),
        Trial::test("load::a_server_that_stalls_costs_the_timeout", stalls),
        Trial::test("load::arguments_that_cannot_be_used_are_told_in_a_line", arguments),
        Trial::test("load::a_server_that_is_not_there_is_told_in_a_line", nobody),
    ]
}

fn closed() -> io::Error {
    io::Error::other("closed")
}

/// Eleven requests and what they come to.
fn odd(request: &Request, reply: &mut Reply) -> io::Result<()> {
    match request.number {
        0 => quick(request, reply),
        1 | 2 => reply.whole(
            "429 Too Many Requests",
            r#"{"code": "QUEUE_FULL", "message": "full\n\u001b[31m", "retriable": true}"#,
        ),
        3 => reply.whole("500 Internal Server Error", "<html>"),
        4 => Err(closed()),
        5 => {
            reply.begin()?;
            reply.text("ha")?;
            Err(closed())
        }
        6 => {
            reply.begin()?;
            reply.event(&json!({"error": {"message": "out of pages", "type": "server_error"}}))?;
            Err(closed())
        }
        7 => {
            reply.begin()?;
            reply.bytes(b"data: {\"choices\": [{\"te\n\n")?;
            Err(closed())
        }
        8 => reply.whole("200 OK", r#"{"choices": [{"text": "whole"}]}"#),
        9 => {
            reply.begin()?;
            reply.bytes(b"data: {\"choices\": [{\"text\": \"\xff\"}]}\n\n")?;
            Err(closed())
        }
        _ => {
            reply.begin()?;
            reply.text("ha")?;
            reply.close()
        }
    }
}

fn kinds() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for allow in [false, true] {
        let server = Scripted::start(odd)?;
        let mut command = bench(folder.path(), &server.url);
        let json = folder.path().join("figures.json");
        command.args(["--requests", "11", "--concurrency", "1", "--json"]).arg(&json);
        let done = output(command.args(allow.then_some("--allow-errors")))?;
        let all: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
        let errors = all["errors"].as_array().ok_or("errors")?;
        let counts: BTreeMap<&str, u64> = errors
            .iter()
            .filter_map(|error| Some((error["kind"].as_str()?, error["count"].as_u64()?)))
            .collect();
        let expected = BTreeMap::from([
            ("status 429 QUEUE_FULL", 2),
            ("status 500", 1),
            ("connection lost", 3),
            ("error event server_error", 1),
            ("not understood", 3),
        ]);
        assert_eq!(counts, expected, "{all:#}");
        assert_eq!(
            (&all["complete"], &all["failed"], &all["tokens_out"]),
            (&json!(1), &json!(10), &json!(2))
        );
        assert_eq!(all["request_ms"]["n"], 1);
        // What a server says is shown, but not what would move a terminal's cursor.
        let text = stdout(&done);
        assert!(text.contains("failed      2 x status 429 QUEUE_FULL: full  [31m\n"), "{text}");
        if allow {
            assert!(done.status.success(), "{done:?}");
        } else {
            assert_eq!(done.status.code(), Some(1), "{done:?}");
            assert!(
                last_line(&done).starts_with("error: 10 of 11 requests failed, most often: not understood"),
                "{}",
                last_line(&done)
            );
        }
    }
    Ok(())
}

fn endless() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let server = Scripted::start(|_, reply| {
        reply.begin()?;
        reply.bytes(b"data: ")?;
        loop {
            reply.bytes(&[b'x'; 65536])?;
        }
    })?;
    let done = output(bench(folder.path(), &server.url).args(["--requests", "2", "--timeout", "50"]))?;
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(stdout(&done).contains("2 x not understood: an event of over 1 MiB"), "{}", stdout(&done));
    Ok(())
}

fn stalls() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let server = Scripted::start(|request, reply| {
        if request.number % 2 == 0 {
            reply.begin()?;
            reply.text("ha")?;
        }
        sleep(Duration::from_secs(100));
        Err(closed())
    })?;
    let done = output(bench(folder.path(), &server.url).args(["--requests", "4", "--timeout", "1"]))?;
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(stdout(&done).contains("4 x timeout: not over after 1 s"), "{}", stdout(&done));
    Ok(())
}

fn arguments() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let bad = folder.path().join("bad.jsonl");
    std::fs::write(&bad, "{\"prompt\": \"a\"}\n{\"prompt\": \"s3cret\", \"max_tokens\": \"x\"}\n")?;
    let bad = bad.display().to_string();
    let url = ["--url", "http://127.0.0.1:1"];
    for (arguments, parts) in [
        (&[][..], &["--url"][..]),
        (&["--url", "127.0.0.1"], &["--url", "http://"]),
        (&[&url[..], &["--rate", "0"]].concat(), &["--rate", "over 0"]),
        (&[&url[..], &["--rate", "5", "--concurrency", "2"]].concat(), &["cannot be used with"]),
        (&[&url[..], &["--concurrency", "0"]].concat(), &["--concurrency"]),
        (&[&url[..], &["--concurrency", "1,2"]].concat(), &["--verify-invariance"]),
        (&[&url[..], &["--verify-invariance", "--rate", "2"]].concat(), &["cannot be used with"]),
        (&[&url[..], &["--verify-invariance", "--cancel-share", "0.1"]].concat(), &["cannot be used with"]),
        (&[&url[..], &["--requests", "0"]].concat(), &["--requests"]),
        (&[&url[..], &["--input-len", "9..7"]].concat(), &["--input-len", "the least is over the most"]),
        (&[&url[..], &["--cancel-share", "1.5"]].concat(), &["from 0 to 1"]),
        (&[&url[..], &["--temperature", "NaN"]].concat(), &["--temperature"]),
        (&[&url[..], &["--endpoint", "images"]].concat(), &["completions", "chat", "execute"]),
        (&[&url[..], &["--api-key-env", "NO_SUCH_KEY"]].concat(), &["NO_SUCH_KEY"]),
        (&[&url[..], &["--dataset", "/no/such/file"]].concat(), &["/no/such/file"]),
        (&[&url[..], &["--dataset", &bad]].concat(), &["bad.jsonl: line 2: max_tokens"]),
    ] {
        let done = output(worker(folder.path()).args(["bench", "serve"]).args(arguments))?;
        expect_failure(&done, parts);
        assert!(!last_line(&done).contains("s3cret"), "{}", last_line(&done));
    }
    let mixed = ["bench", "--model", "x", "serve", "--url", "http://127.0.0.1:1"];
    expect_failure(&output(worker(folder.path()).args(mixed))?, &["serve"]);
    Ok(())
}

fn nobody() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for further in [&[][..], &["--endpoint", "execute"], &["--verify-invariance"]] {
        // Nothing listens on port 1.
        let done = output(bench(folder.path(), "http://127.0.0.1:1").args(further))?;
        expect_failure(&done, &["http://127.0.0.1:1/", "no connection"]);
    }
    let done = output(bench(folder.path(), "http://127.0.0.1:1").args(["--model", "m", "--requests", "3"]))?;
    assert_eq!(done.status.code(), Some(1));
    assert!(stdout(&done).contains("3 x no connection"), "{}", stdout(&done));
    Ok(())
}
