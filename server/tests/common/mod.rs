//! A real server on port 0, with a scripted engine behind it and a reader of its event streams before it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use runtime::ModelInfo;
use runtime::chat_template::Chat;
use runtime::device::Usage;
use runtime::engine::{EngineHandle, Job, JobKey, JobQueue, Limits, Next, channel};
use runtime::request::{Completion, Event, JobError, StopReason};
use serde_json::{Value, json};
use server::{Config, ModelHash, ServeError, Text, Worker};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long any single step of a test is waited for: far above what it takes on a slow, crowded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const LIMITS: Limits = Limits {
    queue_depth: 16,
    context: 4096,
    vocab: 256,
    pages: 128,
    page_bytes: 1000,
    usage: Usage::NONE,
    timeout: Duration::from_secs(300),
};

/// OpenAI's two endpoints.
pub(crate) const COMPLETIONS: &str = "/v1/completions";
pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const KINDS: [&str; 2] = [COMPLETIONS, CHAT];

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) engine: EngineHandle,
    pub(crate) client: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    /// The engine's end, until there is an engine.
    queue: Mutex<Option<JobQueue>>,
    task: JoinHandle<Result<(), ServeError>>,
}

/// Serves with `script` as the engine's thread. A token is a byte.
pub(crate) async fn serve(config: Config, script: impl FnOnce(JobQueue) + Send + 'static) -> Server {
    serve_with(config, bytes, script).await
}

/// A tokenizer.
pub(crate) fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// A model's text whose token is a byte, but for `encode`, which a test may choose.
struct Bytes {
    encode: fn(&str) -> Vec<u32>,
}

impl Text for Bytes {
    fn encode_with(&self, text: &str, _: bool, _: bool) -> Vec<u32> {
        (self.encode)(text)
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        u8::try_from(id).into_iter().collect()
    }

    fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes(id)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn apply_chat_template(&self, chat: Chat<'_>) -> Result<String, String> {
        let mut prompt = chat.tools.map_or_else(String::new, |tools| format!("tools: {tools}\n"));
        for message in chat.messages.as_array().unwrap() {
            let (role, content) = (message["role"].as_str().unwrap(), message["content"].as_str().unwrap());
            if role == "tool" {
                return Err("this template knows no tools".to_owned());
            }
            for name in ["reasoning_content", "thinking", "reasoning"] {
                if let Some(thoughts) = message[name].as_str() {
                    prompt.push_str(&format!("{role} {name}: {thoughts}\n"));
                }
            }
            prompt.push_str(&format!("{role}: {content}\n"));
        }
        if chat.add_generation_prompt {
            prompt.push_str("assistant: ");
        }
        Ok(prompt)
    }
}

/// A request to one of OpenAI's endpoints that says no more than what is needed, and these fields.
pub(crate) fn with(path: &str, fields: &Value) -> Value {
    let mut body = match path {
        COMPLETIONS => json!({"prompt": "pp"}),
        _ => json!({"messages": [{"role": "user", "content": "c"}]}),
    };
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn info() -> ModelInfo {
    ModelInfo {
        name: "tiny".to_owned(),
        architecture: "llama".to_owned(),
        quant_kind: "Q8_0".to_owned(),
        tokenizer_kind: "bytes".to_owned(),
        vocab_size: LIMITS.vocab,
        context_length: LIMITS.context,
        device: "cpu".to_owned(),
        numerics: "f32".to_owned(),
        bytes_used: 1000,
        bytes_by_purpose: vec![("weights", 600), ("kv_cache", 400)],
        bytes_total: 4000,
        sm: Some("sm_90".to_owned()),
        driver_version: Some("13.0".to_owned()),
    }
}

/// The same, with a tokenizer of its own.
pub(crate) async fn serve_with(
    config: Config,
    encode: fn(&str) -> Vec<u32>,
    script: impl FnOnce(JobQueue) + Send + 'static,
) -> Server {
    let (server, load) = loading(config).await;
    // Before the server runs for the first time, so that its first request finds it ready.
    assert!(load.send(server.worker(encode, script)).is_ok());
    server
}

/// A server whose model is being loaded, and what says that it is.
pub(crate) async fn loading(config: Config) -> (Server, oneshot::Sender<Worker>) {
    loading_within(config, LIMITS).await
}

/// The same, with limits of its own.
pub(crate) async fn loading_within(config: Config, limits: Limits) -> (Server, oneshot::Sender<Worker>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (load, loaded) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server::run(listener, loaded, config, async { stopped.await.unwrap_or(()) }));
    let (engine, queue) = channel(limits);
    let server = Server {
        address,
        engine,
        client: reqwest::Client::new(),
        stop: Some(stop),
        queue: Mutex::new(Some(queue)),
        task,
    };
    (server, load)
}

impl Server {
    /// The worker to send once it is loaded: `script` is its engine's thread.
    pub(crate) fn worker(
        &self,
        encode: fn(&str) -> Vec<u32>,
        script: impl FnOnce(JobQueue) + Send + 'static,
    ) -> Worker {
        let queue = self.queue.lock().unwrap().take().expect("loaded once");
        std::thread::spawn(move || script(queue));
        // No receipts: there is no file to hash.
        let (_, model_hash) = watch::channel(ModelHash::Unknown);
        let (engine, text) = (self.engine.clone(), Box::new(Bytes { encode }));
        Worker { engine, text, info: info(), model_hash, ptx_sha256: "00ff" }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.client.post(self.url(path)).body(body.to_string());
        timeout(PATIENCE, request.send()).await.expect("the server answers").unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.client.get(self.url(path));
        timeout(PATIENCE, request.send()).await.expect("the server answers").unwrap()
    }

    /// Starts a job that must be accepted.
    pub(crate) async fn execute(&self, job_id: &str) -> Events {
        let answer = self.post("/execute", &json!({"job_id": job_id, "prompt": "hello"})).await;
        assert_eq!(answer.status(), 200);
        Events::of(answer)
    }

    /// Asks for a shutdown.
    pub(crate) fn stop(&mut self) {
        self.stop.take().expect("stopped once").send(()).unwrap();
    }

    /// Waits until the server has returned.
    pub(crate) async fn stopped(self) {
        timeout(PATIENCE, self.task).await.expect("the server returns").unwrap().unwrap();
    }
}

/// Reads an event stream.
pub(crate) struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    pub(crate) fn of(response: reqwest::Response) -> Self {
        Self { response, text: String::new() }
    }

    /// The next block of lines, `None` at the end of the stream.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            match timeout(PATIENCE, self.response.chunk()).await.expect("the stream goes on").unwrap() {
                Some(chunk) => self.text.push_str(std::str::from_utf8(&chunk).unwrap()),
                None => {
                    assert_eq!(self.text, "", "the stream ends with a whole event");
                    return None;
                }
            }
        }
    }

    /// The next event's name and data.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        let block = self.block().await?;
        let (name, data) = block.split_once('\n').unwrap();
        let name = name.strip_prefix("event: ").unwrap().to_owned();
        Some((name, serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap()))
    }

    pub(crate) async fn expect(&mut self, name: &str) -> Value {
        let (found, data) = self.next().await.expect("another event");
        assert_eq!(found, name, "{data}");
        data
    }

    pub(crate) async fn rest(mut self) -> Vec<(String, Value)> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// The engine's next job; `None` at a shutdown.
pub(crate) fn take(queue: &JobQueue) -> Option<Job> {
    loop {
        match queue.next(1, 0) {
            Next::Work { jobs, .. } if jobs.is_empty() => {}
            Next::Work { mut jobs, .. } => {
                let job = jobs.pop()?;
                queue.begun(&JobKey::of(&job.request));
                return Some(job);
            }
            Next::Stop => return None,
        }
    }
}

/// Takes a job and sends it `Started`.
pub(crate) fn begin(queue: &JobQueue) -> Job {
    let mut job = take(queue).expect("a job");
    job.sink.send(Event::Started).unwrap();
    job
}

/// The engine waits, computing nothing, until its running job was cancelled.
pub(crate) fn wait_for_cancel(queue: &JobQueue, job: &Job) {
    for _ in 0..PATIENCE.as_millis() {
        let Next::Work { cancelled, .. } = queue.next(0, 1) else { panic!("stopped while a job runs") };
        if cancelled.contains(&JobKey::of(&job.request)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{} was never cancelled", job.request.job_id);
}

pub(crate) fn token(job: &mut Job, index: u32, text: &str) {
    job.sink.send(Event::Token { index, text: text.to_owned(), tokens: Vec::new() }).unwrap();
}

/// The account of a job whose tokens nobody asks for.
pub(crate) fn completion(
    tokens_in: u32,
    tokens_out: u32,
    decode_time: Duration,
    stop_reason: StopReason,
) -> Completion {
    Completion { tokens_in, tokens_out, decode_time, stop_reason, tokens: Vec::new(), output_hash: [0; 32] }
}

/// Frees the job's id, then ends it: in this order the client may use the id again at once.
pub(crate) fn end(queue: &JobQueue, mut job: Job, tokens_out: u32) {
    queue.finished(&JobKey::of(&job.request));
    let tokens_in = job.request.prompt.len() as u32;
    let completion = completion(tokens_in, tokens_out, Duration::from_millis(7), StopReason::MaxTokens);
    // The reader may be gone.
    let _ = job.sink.send(Event::End(completion));
}

pub(crate) fn fail(queue: &JobQueue, mut job: Job, error: JobError) {
    queue.finished(&JobKey::of(&job.request));
    let _ = job.sink.send(Event::Error(error));
}

/// An engine that answers each job with its own prompt, a token a byte, one job at a time.
pub(crate) fn echo(queue: JobQueue) {
    while let Some(mut job) = take(&queue) {
        job.sink.send(Event::Started).unwrap();
        let prompt = job.request.prompt.clone();
        for (index, &id) in prompt.iter().enumerate() {
            token(&mut job, index as u32, &char::from(id as u8).to_string());
        }
        end(&queue, job, prompt.len() as u32);
    }
}

/// Takes so many jobs, in the order of their choices.
pub(crate) fn begin_all(queue: &JobQueue, count: usize) -> Vec<Job> {
    let mut jobs: Vec<Job> = (0..count).map(|_| begin(queue)).collect();
    jobs.sort_by_key(|job| job.request.job_id.rsplit_once('-').unwrap().1.parse::<usize>().unwrap());
    jobs
}

/// A stream's chunks, which it says are all.
pub(crate) async fn chunks(answer: reqwest::Response) -> Vec<Value> {
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut chunks = blocks(Events::of(answer)).await;
    assert_eq!(chunks.pop().as_deref(), Some("data: [DONE]"));
    chunks.iter().map(|chunk| data(chunk)).collect()
}

/// All that a stream has to say, comments included.
pub(crate) async fn blocks(mut events: Events) -> Vec<String> {
    let mut blocks = Vec::new();
    while let Some(block) = events.block().await {
        blocks.push(block);
    }
    blocks
}

/// A chunk.
pub(crate) fn data(block: &str) -> Value {
    block.strip_prefix("data: ").expect("a chunk").parse().unwrap()
}

/// An engine that has nothing to say.
pub(crate) fn nothing(queue: JobQueue) {
    while let Some(job) = take(&queue) {
        end(&queue, job, 0);
    }
}

/// A request's faults, as field and rule.
pub(crate) async fn faults(server: &Server, path: &str, fields: &Value) -> Vec<(String, String)> {
    let answer = server.post(path, &with(path, fields)).await;
    assert_eq!(answer.status(), 400, "{path} {fields}");
    let told: Value = answer.text().await.unwrap().parse().unwrap();
    let faults: Vec<(String, String)> = told["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("{fields}: {told}"))
        .iter()
        .map(|fault| {
            (fault["field"].as_str().unwrap().to_owned(), fault["constraint"].as_str().unwrap().to_owned())
        })
        .collect();
    let error = told["error"].as_object().unwrap();
    assert_eq!(error.len(), 4);
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("invalid_request_error"), &json!("invalid_request"))
    );
    assert_eq!(error["param"], faults[0].0);
    for (field, _) in &faults {
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(field), "{field} is named in {message}");
    }
    faults
}
