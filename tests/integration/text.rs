//! What a completion's stream holds, and that it depends on the request alone.

use std::path::{Path, PathBuf};
use std::thread;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::client::Completion;
use crate::common::{data, golden, with_model};
use crate::server::{Server, serve};

pub(crate) fn trials(model: &Result<PathBuf, String>) -> Vec<Trial> {
    vec![
        Trial::test("a_stream_is_started_then_tokens_then_end", order),
        Trial::test("equal_seeds_give_equal_text_and_others_another", seeds),
        Trial::test("a_stop_string_ends_the_text_before_it", stop_strings),
        Trial::test("text_held_back_for_a_stop_string_comes_at_the_end", held_back),
        Trial::test("jobs_together_give_each_the_text_it_gives_alone", || {
            together(&["--max-batch", "4", "--kv-cache-size-mb", "1"])
        }),
        // Without a size there are pages for one whole context, which is two or three of the jobs.
        Trial::test("jobs_that_wait_for_pages_give_the_same_text", || together(&["--max-batch", "8"])),
        Trial::test("chunks_and_an_unshared_cache_give_the_same_text", || {
            together(&["--max-batch", "8", "--step-tokens", "5", "--no-prefix-cache"])
        }),
        with_model("smollm2_writes_the_text_of_the_reference", model, reference),
    ]
}

/// A server of a tiny model with a context of 256 tokens.
fn tiny(options: &[&str]) -> Result<Server, Failed> {
    Server::start(serve(&data("llama31-f32.gguf")).args(options))
}

/// A request that draws its tokens, since this model's most likely ones repeat; `changes` overrides.
fn request(job_id: &str, changes: Value) -> Value {
    let mut request =
        json!({"job_id": job_id, "prompt": "the book", "max_tokens": 32, "temperature": 1.0, "seed": 1});
    if let (Some(request), Value::Object(changes)) = (request.as_object_mut(), changes) {
        request.extend(changes);
    }
    request
}

fn order() -> Result<(), Failed> {
    let server = tiny(&[])?;
    let mut events = server.execute(&request("a", json!({"seed": 18_446_744_073_709_551_615_u64})))?;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    let started = events.expect("started")?;
    assert_eq!(started["job_id"], "a");
    assert_eq!(started["model"], data("llama31-f32.gguf").display().to_string());
    assert_eq!(started["seed"], 18_446_744_073_709_551_615_u64);
    assert_eq!(started["correlation_id"], events.headers["x-correlation-id"].to_str()?);
    let Completion { pieces, last } = events.rest()?;
    assert!(!pieces.is_empty() && pieces.iter().all(|piece| !piece.is_empty()), "{pieces:?}");
    let (name, end) = last;
    assert_eq!(name, "end");
    assert_eq!((&end["tokens_out"], &end["stop_reason"]), (&json!(32), &json!("max_tokens")), "{end}");
    assert_eq!(end["seed"], started["seed"]);
    Ok(())
}

fn seeds() -> Result<(), Failed> {
    let server = tiny(&[])?;
    let text = |seed: u64| -> Result<String, Failed> {
        Ok(server.complete(&request("a", json!({"top_p": 0.95, "seed": seed})))?.text())
    };
    let mut texts = (0..4).map(text).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(text(2)?, texts[2]);
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 4, "{texts:?}");
    Ok(())
}

fn stop_strings() -> Result<(), Failed> {
    let server = tiny(&[])?;
    let whole = server.complete(&request("a", json!({})))?;
    let text = whole.text();
    // Across the border of two pieces, so that neither has it alone.
    let (left, right) = (&whole.pieces[3], &whole.pieces[4]);
    let stop: String = left.chars().last().into_iter().chain(right.chars().next()).collect();
    let at = text.find(&stop).ok_or("the stop string is in the text")?;

    let stopped = server.complete(&request("a", json!({"stop": ["no such text", stop]})))?;
    assert_eq!(stopped.text(), text[..at]);
    assert_eq!(stopped.last("stop_reason"), "stop_sequence");
    assert_eq!(stopped.last("stop_sequence_matched"), &json!(stop));
    Ok(())
}

fn held_back() -> Result<(), Failed> {
    let server = tiny(&[])?;
    for max_tokens in [1, 8, 32] {
        let whole = server.complete(&request("a", json!({"max_tokens": max_tokens})))?;
        let last = whole.text().chars().last().ok_or("no text")?;
        let stop = format!("{last} and what does not follow");
        let held = server.complete(&request("a", json!({"max_tokens": max_tokens, "stop": [stop]})))?;
        assert_eq!(held.text(), whole.text(), "after {max_tokens} tokens");
        assert_eq!(held.last.0, "end", "{:?}", held.last);
        assert_eq!(held.last("stop_reason"), "max_tokens");
    }
    Ok(())
}

/// Requests that differ in all that may matter to each other: length, sampling, penalties, stop strings.
fn various() -> Vec<Value> {
    let prompt = |words: usize| "the book of a boy ".repeat(words);
    [
        json!({}),
        json!({"prompt": prompt(9), "max_tokens": 90}),
        json!({"prompt": "y", "temperature": 0.0, "max_tokens": 120}),
        json!({"temperature": 0.8, "top_k": 40, "top_p": 0.9, "seed": 8, "max_tokens": 60}),
        json!({"temperature": 1.5, "min_p": 0.05, "repetition_penalty": 1.3, "seed": 9}),
        json!({"prompt": prompt(12), "repetition_penalty": 1.1, "max_tokens": 40}),
        json!({"prompt": prompt(3), "seed": 10, "stop": ["e", "\u{fffd}\u{fffd}"]}),
        json!({"prompt": prompt(5), "max_tokens": 1}),
    ]
    .into_iter()
    .enumerate()
    .map(|(i, changes)| request(&format!("job {i}"), changes))
    .collect()
}

/// What of a completion is the request's own; the rest is time.
fn answer(mut completion: Completion) -> Completion {
    completion.last.1["decode_time_ms"] = json!(0);
    completion
}

fn together(options: &[&str]) -> Result<(), Failed> {
    let server = tiny(options)?;
    let requests = various();
    let mut alone = Vec::new();
    for request in &requests {
        alone.push(answer(server.complete(request)?));
    }
    let together: Vec<Result<Completion, Failed>> = thread::scope(|scope| {
        let server = &server;
        let complete = |request| scope.spawn(move || server.complete(request));
        let running: Vec<_> = requests.iter().map(complete).collect();
        running.into_iter().map(|job| job.join().expect("a client does not panic")).collect()
    });
    for (i, (completion, alone)) in together.into_iter().zip(alone).enumerate() {
        assert_eq!(answer(completion?), alone, "job {i}");
        assert_eq!(alone.last.0, "end");
    }
    Ok(())
}

fn reference(model: &Path) -> Result<(), Failed> {
    let server = Server::start(&mut serve(model))?;
    let golden = golden("smollm2-135m")?;
    // A text that goes on, and a conversation whose turn ends.
    for prompt in [&golden["prompts"][0], &golden["prompts"][2]] {
        let job = json!({"job_id": "a", "prompt": prompt["text"], "max_tokens": 24, "temperature": 0.0});
        let completion = server.complete(&job)?;
        assert_eq!(completion.last("tokens_in"), prompt["ids"].as_array().map_or(0, Vec::len));
        // The reference goes on after the end of a turn.
        let text = prompt["greedy_text"].as_str().ok_or("no text")?;
        let (text, reason) = match text.split_once("<|im_end|>") {
            Some((turn, _)) => (turn, "eos"),
            None => (text, "max_tokens"),
        };
        assert_eq!(completion.text(), text);
        assert_eq!(completion.last("stop_reason"), reason);
    }
    Ok(())
}
