//! Receipts: what a server gives, `replay` confirms, on another device too, and it notices whatever was changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use runtime::gguf::Gguf;
use runtime::numerics::Numerics;
use runtime::receipt::{Ids, Receipt};
use runtime::request::{Disconnected, Event};
use runtime::tokenizer::Tokenizer;
use runtime::worker::{DeviceChoice, LoadOptions, Worker};
use serde_json::{Value, json};
use worker_orcd::images::IMAGES;

use crate::common::{data, executable, output, stderr, stdout, with_model};
use crate::place::{Place, Room, at};
use crate::server::Server;

pub(crate) fn trials(model: &Result<PathBuf, String>) -> Vec<Trial> {
    let mut trials = at("receipts::an_answer_is_the_same_again_on_the_cpu", &Place::ALL, again_on_the_cpu);
    trials.extend(at("receipts::an_answer_of_the_cpu_is_the_same_again", &Place::GPUS, again_on_a_gpu));
    trials.extend(at("receipts::one_changed_token_is_noticed", &[Place::Cpu], one_token));
    trials.extend(at("receipts::what_was_changed_is_noticed_or_refused", &[Place::Cpu], changed));
    trials.extend(at("receipts::a_folders_hash_counts_what_it_is_quantised_to", &[Place::Cpu], of_a_folder));
    trials.push(with_model("receipts::an_answer_of_an_h200_is_the_same_here", model, of_an_h200));
    trials
}

const PROMPT: &str = "the name of the";

/// Drawn, so that every bit of the logits counts.
fn request() -> Value {
    json!({
        "job_id": "a", "prompt": PROMPT, "max_tokens": 40, "seed": 3, "temperature": 1.5, "top_k": 200, "top_p": 0.98,
        "min_p": 0.001, "repetition_penalty": 1.1, "stop": ["never to be seen"],
    })
}

/// A server's receipt, and a folder with the prompt beside which it may be kept.
struct Kept {
    room: Room,
    model: PathBuf,
    /// All that the client got.
    stream: String,
    receipt: Value,
}

impl Kept {
    /// What a server at this place gives.
    fn of(place: Place, model: &str, numerics: &str) -> Result<Self, Failed> {
        let kept = Self::with(place, model, numerics, &[])?;
        assert_eq!(
            fs::read_dir(kept.room.path("cache/hashes"))?.count(),
            1,
            "the model's hash is remembered"
        );
        Ok(kept)
    }

    /// The same with more arguments.
    fn with(place: Place, model: &str, numerics: &str, arguments: &[&str]) -> Result<Self, Failed> {
        let room = Room::new(place)?;
        let model = data(model);
        let mut serve = room.serve(&model)?;
        serve.args(["--numerics", numerics]).args(arguments).env("WORKER_ORCD_CACHE", room.path("cache"));
        let server = Server::start(&mut serve)?;
        let post = Server::agent().post(format!("{}/execute", server.url));
        let stream = post.send(request().to_string())?.into_body().read_to_string()?;
        let last = stream.lines().filter_map(|line| line.strip_prefix("data: ")).next_back();
        let end: Value = serde_json::from_str(last.ok_or("no event")?)?;
        let receipt = end["receipt"].clone();
        assert_eq!((&receipt["numerics"], &receipt["output"]["tokens"]), (&json!(numerics), &json!(40)));
        assert_eq!(receipt["output"]["tokens"], end["tokens_out"]);
        let device = receipt["device"].as_str().ok_or("no device")?;
        assert_eq!(device.starts_with("cuda sm_"), place != Place::Cpu, "{device}");
        fs::write(room.path("prompt"), PROMPT)?;
        Ok(Self { room, model, stream, receipt })
    }

    /// `replay` of a text at a place, with the prompt's text unless `arguments` have its ids.
    fn replay(&self, place: Place, text: &str, arguments: &[&str]) -> Result<Output, Failed> {
        let there = Room::new(place)?;
        let file = self.room.path("receipt");
        fs::write(&file, text)?;
        let mut command = there.worker()?;
        command.env("WORKER_ORCD_CACHE", self.room.path("cache")).arg("replay").arg(&file).args(arguments);
        if !arguments.contains(&"--model") {
            command.arg("--model").arg(&self.model);
        }
        if !arguments.iter().any(|argument| argument.starts_with("--prompt")) {
            command.arg("--prompt-file").arg(self.room.path("prompt"));
        }
        if !arguments.contains(&"--device") {
            command.args(["--device", place.device()]);
        }
        let done = output(&mut command)?;
        assert!(!stderr(&done).contains(PROMPT) && !stdout(&done).contains(PROMPT), "{done:?}");
        Ok(done)
    }

    /// Asserts the verdict on the receipt after an edit.
    fn expect(
        &self,
        edit: impl FnOnce(&mut Value),
        arguments: &[&str],
        verdict: &str,
        part: &str,
    ) -> Result<(), Failed> {
        let mut receipt = self.receipt.clone();
        edit(&mut receipt);
        expect(&self.replay(Place::Cpu, &receipt.to_string(), arguments)?, verdict, part)
    }
}

/// Asserts a verdict as users know it: one line on stdout, and the exit code.
fn expect(done: &Output, verdict: &str, part: &str) -> Result<(), Failed> {
    let code = match verdict {
        "same" => 0,
        "different" => 1,
        _ => 2,
    };
    let line = stdout(done);
    let right = line.starts_with(&format!("{verdict}: ")) && line.contains(part) && line.lines().count() == 1;
    if right && done.status.code() == Some(code) {
        return Ok(());
    }
    Err(format!("not {verdict:?} with {part:?}: {done:?}").into())
}

const MODELS: [&str; 3] = ["llama-f16.gguf", "llama-bf16.gguf", "llama-q4_0.gguf"];

fn again_on_the_cpu(place: Place) -> Result<(), Failed> {
    for numerics in ["tc", "f32"] {
        for model in MODELS {
            let kept = Kept::of(place, model, numerics)?;
            let device = kept.receipt["device"].as_str().ok_or("no device")?;
            let told = format!("again in {numerics} numerics on cpu; the receipt is of {device}\n");
            for text in [&kept.receipt.to_string(), &kept.stream] {
                expect(&kept.replay(Place::Cpu, text, &[])?, "same", &told)?;
            }
        }
    }
    Ok(())
}

fn again_on_a_gpu(place: Place) -> Result<(), Failed> {
    for numerics in ["tc", "f32"] {
        let kept = Kept::of(Place::Cpu, MODELS[0], numerics)?;
        let done = kept.replay(place, &kept.receipt.to_string(), &[])?;
        expect(&done, "same", &format!("again in {numerics} numerics on cuda sm_"))?;
    }
    Ok(())
}

/// A folder that was quantised is another model than the same folder as it is.
fn of_a_folder(place: Place) -> Result<(), Failed> {
    let kept = Kept::with(place, "hf-qwen2", "f32", &["--quant", "q4_0"])?;
    let receipt = kept.receipt.to_string();
    expect(&kept.replay(place, &receipt, &["--quant", "q4_0"])?, "same", "40 tokens")?;
    for arguments in [&[][..], &["--quant", "q8_0"]] {
        expect(&kept.replay(place, &receipt, arguments)?, "cannot decide", "hf-qwen2 is another model")?;
    }
    Ok(())
}

/// What an H200 answered (`reports/batch-invariance.md`), computed again by this machine's CPU.
fn of_an_h200(model: &Path) -> Result<(), Failed> {
    let mut command = Command::new(executable());
    command.arg("replay").arg(data("h200-answer.txt")).arg("--model").arg(model).args(["--device", "cpu"]);
    command.arg("--prompt-file").arg(data("h200-prompt.txt"));
    let told = "again in tc numerics on cpu; the receipt is of cuda sm_90\n";
    expect(&output(&mut command)?, "same", told)
}

/// The ids that the receipt is about, computed by the engine itself.
fn generated(kept: &Kept) -> Result<Vec<u32>, Failed> {
    let receipt: Receipt = serde_json::from_value(kept.receipt.clone())?;
    let options = LoadOptions {
        path: kept.model.clone(),
        quant: None,
        name: "model".to_owned(),
        device: DeviceChoice::Cpu,
        numerics: Some(Numerics::Tc),
        images: IMAGES,
        image_cache: None,
        kv_bytes: None,
        step_tokens: None,
        prefix_cache: false,
        max_batch: Some(1),
        queue_depth: 1,
        timeout: Duration::from_secs(60),
        residency_interval: Duration::from_secs(60),
    };
    let worker = Worker::load(options, |_| ())?;
    let (sink, events) = mpsc::channel();
    let send = move |event| sink.send(event).map_err(|_| Disconnected);
    worker.engine.submit(receipt.request.again("a", worker.tokenizer.encode(PROMPT)), Box::new(send))?;
    let mut ids = Vec::new();
    for event in events {
        match event {
            Event::Started => {}
            Event::Token { tokens, .. } => ids.extend(tokens.iter().map(|token| token.id)),
            Event::End(completion) => {
                ids.extend(completion.tokens.iter().map(|token| token.id));
                worker.stop(Duration::ZERO);
                return Ok(ids);
            }
            Event::Error(error) => return Err(error.into()),
        }
    }
    Err("no end".into())
}

fn one_token(place: Place) -> Result<(), Failed> {
    let kept = Kept::of(place, MODELS[0], "tc")?;
    let ids = generated(&kept)?;
    let forged = |ids: &[u32]| {
        let output = serde_json::to_value(Ids::of(ids)).expect("numbers and text");
        move |receipt: &mut Value| receipt["output"] = output
    };
    assert_eq!(ids.len(), 40);
    // Of the very ids: nothing else about the forgeries is wrong.
    kept.expect(forged(&ids), &[], "same", "40 tokens")?;
    for at in [0, 20, 39] {
        let mut other = ids.clone();
        other[at] ^= 1;
        kept.expect(forged(&other), &[], "different", "the ids' blake3 is ")?;
    }
    kept.expect(forged(&ids[..39]), &[], "different", "40 tokens, the receipt has 39; the ids' blake3 is ")
}

fn changed(place: Place) -> Result<(), Failed> {
    let kept = Kept::of(place, MODELS[0], "tc")?;
    let path = |path: PathBuf| path.display().to_string();
    let file = |name: &str, text: &str| -> Result<String, Failed> {
        fs::write(kept.room.path(name), text)?;
        Ok(path(kept.room.path(name)))
    };
    let set = |pointer: &'static str, value: Value| {
        move |receipt: &mut Value| *receipt.pointer_mut(pointer).expect("the field is there") = value
    };
    let none = |_: &mut Value| ();

    // What does not matter.
    let ids = serde_json::to_string(&encode(&kept.model)?)?;
    kept.expect(none, &["--prompt-file", &file("newline", "the name of the\n")?], "same", "40 tokens")?;
    kept.expect(none, &["--prompt-ids", &file("ids", &ids)?], "same", "40 tokens")?;
    kept.expect(set("/model/name", json!("other")), &[], "same", "40 tokens")?;
    let noted = {
        let mut receipt = kept.receipt.clone();
        set("/ptx_sha256", json!("00"))(&mut receipt);
        kept.replay(Place::Cpu, &receipt.to_string(), &[])?
    };
    expect(&noted, "same", "40 tokens")?;
    assert!(stderr(&noted).contains("PTX differs"), "{noted:?}");

    // What makes another answer.
    for edit in [
        set("/output/blake3", json!("00".repeat(32))),
        set("/output/tokens", json!(39)),
        set("/stop_reason", json!("eos")),
        set("/request/sampling/seed", json!(4)),
        set("/request/sampling/temperature", json!(1.0)),
        set("/request/sampling/top_k", json!(1)),
        set("/request/sampling/repetition_penalty", json!(2.0)),
        set("/request/max_tokens", json!(41)),
        set("/request/stop", json!(["e", "a", "o"])),
    ] {
        kept.expect(edit, &[], "different", "")?;
    }

    // What nobody can decide.
    let other = path(data("llama-bf16.gguf"));
    let undecided = "cannot decide";
    kept.expect(none, &["--model", &other], undecided, "llama-bf16.gguf is another model")?;
    kept.expect(none, &["--model", "no-such"], undecided, "neither a file nor a model")?;
    let word = file("word", "the names of the")?;
    kept.expect(none, &["--prompt-file", &word], undecided, "word is another prompt than the receipt's")?;
    kept.expect(none, &["--prompt-ids", &file("ids", "[1, 2]")?], undecided, "another prompt")?;
    kept.expect(none, &["--prompt-ids", &word], undecided, "not a JSON list of token ids")?;
    kept.expect(none, &["--prompt-file", "/no/such"], undecided, "/no/such: ")?;
    kept.expect(none, &["--device", "cuda:99"], undecided, "")?;
    for (edit, part) in [
        (set("/numerics_version", json!(1)), "numerics_version is 1, this program's is 4"),
        (set("/numerics", json!("f64")), "numerics are \"f64\""),
        (set("/format", json!(2)), "format 2"),
        (set("/request/sampling", json!({"typical_p": 1})), "unknown field `typical_p`"),
        (set("/request/max_tokens", json!(1_000_000)), "exceed the context"),
    ] {
        kept.expect(edit, &[], undecided, part)?;
    }
    let foreign = |receipt: &mut Value| {
        receipt["device"] = json!("cuda sm_80");
        receipt["request"]["sampling"]["seed"] = json!(4);
    };
    kept.expect(foreign, &[], undecided, "cuda sm_80 is not known to compute tc")?;
    let nothing = kept.replay(Place::Cpu, "event: end\ndata: {}\n\n", &["--json"])?;
    let told: Value = serde_json::from_slice(&nothing.stdout)?;
    assert_eq!((&told["verdict"], nothing.status.code()), (&json!(undecided), Some(2)), "{nothing:?}");
    Ok(())
}

fn encode(model: &Path) -> Result<Vec<u32>, Failed> {
    Ok(Tokenizer::from_gguf(&Gguf::open(model)?)?.encode(PROMPT))
}
