//! Requests of real clients, recorded byte by byte: tests/golden/http/README.md says of which. The engine answers each with
//! its own prompt, in as many pieces as tokens were asked for.

mod common;

use std::time::Duration;

use common::{PATIENCE, Server, end, serve, take, token};
use runtime::engine::JobQueue;
use runtime::request::Event;
use serde_json::{Value, json};
use server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The keys that the recorded clients were given.
const KEYS: [&str; 2] = ["a-key", "DUMMY_KEY"];

/// What each recorded request makes the prompt of.
const FIRST: &str = "system: You are brief.\nuser: Hello\nassistant: ";
const HELLO: &str = "user: Hello\nassistant: ";
const SECOND: &str = "user: Hello\nassistant: Hello, welcome to my\nuser: And more\nassistant: ";

fn recorded(name: &str) -> Vec<u8> {
    let path = format!("{}/../tests/golden/http/{name}.http", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

async fn served() -> Server {
    serve(Config { api_keys: KEYS.map(str::to_owned).to_vec(), ..Config::default() }, echo).await
}

/// All of the recorded chats ask for so many.
const TOKENS: usize = 5;

fn echo(queue: JobQueue) {
    while let Some(mut job) = take(&queue) {
        job.sink.send(Event::Started).unwrap();
        let prompt: Vec<u8> = job.request.prompt.iter().map(|&id| id as u8).collect();
        assert_eq!(job.request.max_tokens, Some(TOKENS as u32));
        for (index, piece) in prompt.chunks(prompt.len().div_ceil(TOKENS)).enumerate() {
            token(&mut job, index as u32, std::str::from_utf8(piece).unwrap());
        }
        end(&queue, job, TOKENS as u32);
    }
}

/// An answer's head in lower case, and its body.
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    /// Reads one answer, whose body has a length or comes in chunks, and leaves the connection open.
    async fn read(stream: &mut TcpStream) -> Self {
        let mut read = String::new();
        loop {
            if let Some(answer) = Self::parse(&read) {
                return answer;
            }
            let mut bytes = [0; 4096];
            let count =
                timeout(PATIENCE, stream.read(&mut bytes)).await.expect("the answer goes on").unwrap();
            assert!(count > 0, "the connection was closed after {read}");
            read.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    }

    /// `None` if it is not whole yet.
    fn parse(read: &str) -> Option<Self> {
        let (head, mut rest) = read.split_once("\r\n\r\n")?;
        let head = head.to_lowercase();
        if let Some((_, length)) = head.split_once("content-length: ") {
            let length: usize = length.split("\r\n").next()?.parse().unwrap();
            return (rest.len() >= length).then(|| Self { head, body: rest.to_owned() });
        }
        let mut body = String::new();
        loop {
            let (length, chunk) = rest.split_once("\r\n")?;
            let length = usize::from_str_radix(length, 16).unwrap();
            body.push_str(chunk.get(..length)?);
            rest = chunk[length..].strip_prefix("\r\n")?;
            if length == 0 {
                return Some(Self { head, body });
            }
        }
    }

    fn json(&self) -> Value {
        assert!(self.head.contains("content-type: application/json"), "{}", self.head);
        self.body.parse().unwrap()
    }

    /// The chunks of a stream, which says that it is done.
    fn chunks(&self) -> Vec<Value> {
        assert!(self.head.contains("content-type: text/event-stream"), "{}", self.head);
        let events = self.body.strip_suffix("data: [DONE]\n\n").expect("the stream says that it is done");
        let events = events.split_terminator("\n\n").filter(|event| !event.starts_with(':'));
        events.map(|event| event.strip_prefix("data: ").unwrap().parse().unwrap()).collect()
    }
}

/// The answers to a recorded request sent twice over one connection, as clients do.
async fn replay(server: &Server, name: &str) -> Vec<Answer> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..2 {
        stream.write_all(&recorded(name)).await.unwrap();
        let answer = Answer::read(&mut stream).await;
        assert!(answer.head.starts_with("http/1.1 200 "), "{name}: {} {}", answer.head, answer.body);
        answers.push(answer);
    }
    answers
}

#[tokio::test]
async fn the_models_are_listed() {
    let server = served().await;
    for answer in replay(&server, "openai-python-models").await {
        let list = answer.json();
        assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("tiny")));
        assert_eq!(list["data"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_chat_is_answered_whole() {
    let server = served().await;
    for answer in replay(&server, "openai-python-chat").await {
        let answer = answer.json();
        let message = json!({"role": "assistant", "content": FIRST});
        let told = &answer["choices"][0]["message"];
        assert_eq!((&told["role"], &told["content"]), (&message["role"], &message["content"]));
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
        let usage = &answer["usage"];
        assert_eq!(usage["prompt_tokens"], FIRST.len());
        assert_eq!(usage["completion_tokens"], TOKENS);
        assert_eq!(usage["total_tokens"], FIRST.len() + TOKENS);
    }
}

/// Name of the recording, its prompt, and whether it asks for the usage.
const STREAMS: [(&str, &str, bool); 6] = [
    ("ai-sdk-stream", FIRST, true),
    ("litellm-stream", FIRST, false),
    ("openai-python-stream", FIRST, true),
    ("openai-node-stream", FIRST, false),
    ("llm-chat-first-turn", HELLO, true),
    ("llm-chat-second-turn", SECOND, true),
];

#[tokio::test]
async fn chats_are_answered_in_pieces() {
    let server = served().await;
    for (name, prompt, with_usage) in STREAMS {
        for answer in replay(&server, name).await {
            check(name, &answer, prompt, with_usage);
        }
    }
}

#[track_caller]
fn check(name: &str, answer: &Answer, prompt: &str, with_usage: bool) {
    let mut chunks = answer.chunks();
    if with_usage {
        let last = chunks.pop().unwrap();
        assert_eq!((&last["choices"], &last["usage"]["prompt_tokens"]), (&json!([]), &json!(prompt.len())));
    }
    let mut text = String::new();
    let mut reasons = Vec::new();
    for chunk in &chunks {
        assert_eq!((&chunk["object"], &chunk["model"]), (&json!("chat.completion.chunk"), &json!("tiny")));
        assert!(chunk["usage"].is_null(), "{name}: {chunk}");
        text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        reasons.extend(chunk["choices"][0]["finish_reason"].as_str());
    }
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant", "{name}");
    assert_eq!((text.as_str(), reasons), (prompt, vec!["length"]), "{name}");
}

#[tokio::test]
async fn a_request_may_arrive_in_pieces() {
    let server = served().await;
    for (name, prompt, with_usage) in STREAMS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in recorded(name).chunks(61) {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        check(name, &Answer::read(&mut stream).await, prompt, with_usage);
    }
}

#[tokio::test]
async fn a_client_may_wait_for_leave_to_send_its_body() {
    const LEAVE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let server = served().await;
    let request = recorded("curl-stream");
    let body = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&request[..body]).await.unwrap();
    let mut leave = [0; LEAVE.len()];
    timeout(PATIENCE, stream.read_exact(&mut leave)).await.expect("leave is given").unwrap();
    assert_eq!(leave, LEAVE);
    stream.write_all(&request[body..]).await.unwrap();
    check("curl-stream", &Answer::read(&mut stream).await, FIRST, false);
}

#[test]
fn every_recording_is_tried() {
    let mut tried: Vec<&str> = STREAMS.iter().map(|(name, ..)| *name).collect();
    tried.extend(["openai-python-models", "openai-python-chat", "curl-stream"]);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/http");
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut there: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".http").map(str::to_owned)).collect();
    tried.sort();
    there.sort();
    assert_eq!(there, tried);
}

#[tokio::test]
async fn they_are_refused_without_their_key() {
    let server = serve(Config { api_keys: vec!["another".to_owned()], ..Config::default() }, echo).await;
    let names = STREAMS.iter().map(|(name, ..)| *name).chain(["openai-python-models", "openai-python-chat"]);
    for name in names {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&recorded(name)).await.unwrap();
        let answer = Answer::read(&mut stream).await;
        assert!(answer.head.starts_with("http/1.1 401 "), "{name}: {}", answer.head);
        assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
    }
}
