//! OpenAI's API: answers of a model that writes several messages, in the Harmony format.

mod common;

use common::{CHAT, COMPLETIONS, Server, bytes, chunks, end, serve, serve_with, take, with};
use runtime::engine::{Job, JobQueue};
use runtime::request::{Chosen, Event};
use serde_json::{Value, json};
use server::Config;

const START: u32 = 256;
const CHANNEL: u32 = 257;
const MESSAGE: u32 = 258;
const END: u32 = 259;

/// A token is a byte, or a mark, which has no text.
fn encode(text: &str) -> Vec<u32> {
    let marks = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>"];
    marks.iter().position(|mark| *mark == text).map_or_else(|| bytes(text), |mark| vec![START + mark as u32])
}

/// A text that has become certain with the tokens before it and its own.
fn say(job: &mut Job, index: u32, marks: &[u32], text: &str) {
    let logprob = job.request.logprobs.map(|_| -1.0);
    let ids = marks.iter().copied().chain(bytes(text));
    let tokens = ids.map(|id| Chosen { id, logprob, top: Vec::new() }).collect();
    job.sink.send(Event::Token { index, text: text.to_owned(), tokens }).unwrap();
}

/// An engine that thinks `Hm.` and says `Hi!`, in two pieces each.
fn thinks(queue: JobQueue) {
    while let Some(mut job) = take(&queue) {
        job.sink.send(Event::Started).unwrap();
        say(&mut job, 0, &[CHANNEL], "analysis");
        say(&mut job, 1, &[MESSAGE], "Hm");
        say(&mut job, 2, &[], ".");
        say(&mut job, 3, &[END, START], "assistant");
        say(&mut job, 4, &[CHANNEL], "final");
        say(&mut job, 5, &[MESSAGE], "Hi");
        say(&mut job, 6, &[], "!");
        end(&queue, job, 30);
    }
}

async fn whole(server: &Server, path: &str, fields: &Value) -> Value {
    let answer = server.post(path, &with(path, fields)).await;
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_chat_has_thoughts_beside_its_content() {
    let server = serve_with(Config::default(), encode, thinks).await;
    let body = whole(&server, CHAT, &json!({"n": 2})).await;
    for choice in body["choices"].as_array().unwrap() {
        let message =
            json!({"role": "assistant", "content": "Hi!", "refusal": null, "reasoning_content": "Hm."});
        assert_eq!(choice["message"], message);
    }
    assert_eq!(body["usage"]["completion_tokens"], 60);
}

#[tokio::test]
async fn a_stream_tells_thoughts_and_content_apart_and_no_headers() {
    let server = serve_with(Config::default(), encode, thinks).await;
    let answer = server.post(CHAT, &with(CHAT, &json!({"stream": true}))).await;
    let deltas: Vec<Value> =
        chunks(answer).await.iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect();
    let expected = json!([
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm"},
        {"reasoning_content": "."},
        {"content": "Hi"},
        {"content": "!"},
        {},
    ]);
    assert_eq!(Value::from(deltas), expected);
}

#[tokio::test]
async fn log_probabilities_are_of_all_tokens() {
    let server = serve_with(Config::default(), encode, thinks).await;
    let body = whole(&server, CHAT, &json!({"logprobs": true})).await;
    let told = |choice: &Value| choice["logprobs"]["content"].as_array().unwrap().len();
    // Six marks, and a byte each.
    let all = 6 + "analysisHm.assistantfinalHi!".len();
    assert_eq!(told(&body["choices"][0]), all);
    let answer = server.post(CHAT, &with(CHAT, &json!({"stream": true, "logprobs": true}))).await;
    let chunks = chunks(answer).await;
    let choices = chunks.iter().map(|chunk| &chunk["choices"][0]);
    assert_eq!(choices.filter(|choice| choice["logprobs"].is_object()).map(told).sum::<usize>(), all);
}

#[tokio::test]
async fn other_answers_are_the_text_as_it_is() {
    let text = "analysisHm.assistantfinalHi!";
    let harmony = serve_with(Config::default(), encode, thinks).await;
    assert_eq!(whole(&harmony, COMPLETIONS, &json!({})).await["choices"][0]["text"], text);
    // A vocabulary that lacks the marks.
    let other = serve(Config::default(), thinks).await;
    let message = json!({"role": "assistant", "content": text, "refusal": null});
    assert_eq!(whole(&other, CHAT, &json!({})).await["choices"][0]["message"], message);
}
