//! A liveness proof that cannot be prepared: the prompt has the current minute in words and a nonce, and what the server
//! streams for it is, to the bit, what the CPU computes for that prompt in the same numerics.
//!
//! The text is compared with `run` on the CPU; the tokens behind it, the logits after the prompt and those after the last
//! token with `trace` on both devices. Where `WORKER_ORCD_TRANSCRIPT` names a folder, prompt, events and hashes are
//! written there.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use libtest_mimic::{Failed, Trial};
use runtime::device::Device;
use runtime::gguf::Gguf;
use runtime::tokenizer::Tokenizer;
use serde_json::{Value, json};
use worker_orcd::images::IMAGES;

use crate::client::Event;
use crate::common::{data, executable, output, required, stdout, with_model};
use crate::place::among_others;
use crate::server::Server;

pub(crate) fn trials(model: &Result<PathBuf, String>) -> Vec<Trial> {
    let no_gpu = Device::cuda(0, IMAGES).is_err();
    let name = "liveness::an_unforeseeable_prompt_is_answered_as_the_cpu_computes";
    let gpu = with_model(format!("{name}/cuda:0"), model, |model| {
        let _among_others = among_others();
        answers("cuda:0", model)
    });
    let ignored = gpu.has_ignored_flag() || (no_gpu && !required("cuda"));
    vec![
        // A model of 16-bit weights, so that the numerics make a difference.
        Trial::test(format!("{name}/cpu"), || answers("cpu", &data("llama-f16.gguf"))),
        gpu.with_kind(if no_gpu { "no CUDA device" } else { "" }).with_ignored_flag(ignored),
    ]
}

/// Tokens of the answer.
const TOKENS: usize = 16;

fn answers(device: &str, model: &Path) -> Result<(), Failed> {
    let (minute, nonce) = (minute(), nonce());
    let prompt = format!("It is {minute} minutes past. {nonce}");
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(model)?)?;
    let ids = tokenizer.encode(&prompt);

    let events = streamed(device, model, &prompt)?;
    let text = checked(&events, ids.len())?;

    let told = output(command("run", "cpu", model).args(["--max-tokens", &TOKENS.to_string(), &prompt]))?;
    assert!(told.status.success(), "{told:?}");
    assert_eq!(stdout(&told).strip_suffix('\n'), Some(text.as_str()), "the CPU's text");

    let (here, cpu) = (Traced::of(device, model, &ids)?, Traced::of("cpu", model, &ids)?);
    assert_eq!(here, cpu, "tokens and logits on {device} and on the CPU");
    // The trace goes on where a text ends.
    let tokens: Vec<u32> = here.tokens.iter().copied().take_while(|&id| !tokenizer.is_end(id)).collect();
    assert_eq!(tokenizer.decode_string(&tokens), text, "the text of the traced tokens");

    // All that was equal hangs on the nonce.
    let other = tokenizer.encode(&format!("It is {minute} minutes past. {}", self::nonce()));
    let other = Traced::of(device, model, &other)?;
    assert_ne!(other.after_the_prompt, here.after_the_prompt, "another nonce changes no bit");
    assert_ne!(here.after_the_prompt, here.after_the_last, "the answer changes no bit");

    let transcript = json!({
        "device": device,
        "model": model.file_name().map(|name| name.to_string_lossy()),
        "numerics": "tc",
        "minute": minute,
        "nonce": nonce,
        "prompt": prompt,
        "prompt_ids": ids,
        "events": events.iter().map(|(name, data)| json!({"event": name, "data": data})).collect::<Vec<_>>(),
        "text": text,
        "token_ids": here.tokens,
        "logits_sha256": {
            device: {"after_the_prompt": here.after_the_prompt, "after_the_last_token": here.after_the_last},
            "the same on the cpu": {"after_the_prompt": cpu.after_the_prompt, "after_the_last_token": cpu.after_the_last},
        },
    });
    if let Some(folder) = std::env::var_os("WORKER_ORCD_TRANSCRIPT").map(PathBuf::from) {
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("liveness-{}.json", device.replace(':', "")));
        std::fs::write(path, format!("{transcript:#}\n"))?;
    }
    Ok(())
}

/// A subcommand in the tensor core's numerics.
fn command(subcommand: &str, device: &str, model: &Path) -> Command {
    let mut command = Command::new(executable());
    command.args([subcommand, "--device", device, "--numerics", "tc", "--model"]).arg(model);
    command
}

/// All events of the prompt's job, as a server on the device streams them.
fn streamed(device: &str, model: &Path, prompt: &str) -> Result<Vec<Event>, Failed> {
    let server = Server::start(command("serve", device, model).args(["--port", "0"]))?;
    let served = server.get("/health")?.body;
    assert_eq!((&served["device"], &served["numerics"]), (&json!(device), &json!("tc")), "{served}");
    let request = json!({"job_id": "live", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0.0});
    let mut stream = server.execute(&request)?;
    let mut events = Vec::new();
    while let Some(event) = stream.next()? {
        events.push(event);
    }
    Ok(events)
}

/// Checks order and counters of a whole stream; its text.
fn checked(events: &[Event], tokens_in: usize) -> Result<String, Failed> {
    let [(first, _), tokens @ .., (last, end)] = events else { return Err("fewer than two events".into()) };
    assert_eq!((first.as_str(), last.as_str()), ("started", "end"), "{events:?}");
    let mut text = String::new();
    for (i, (name, data)) in tokens.iter().enumerate() {
        assert_eq!((name.as_str(), &data["i"]), ("token", &json!(i)), "{events:?}");
        text += data["t"].as_str().ok_or("a token without text")?;
    }
    let tokens_out = end["tokens_out"].as_u64().ok_or("no tokens_out")?;
    // A token whose character is not whole yet has no event of its own.
    assert!(tokens.len() as u64 <= tokens_out && !text.is_empty(), "{events:?}");
    let full = tokens_out == TOKENS as u64;
    assert_eq!(end["stop_reason"], if full { "max_tokens" } else { "eos" }, "{end}");
    assert_eq!(end["tokens_in"], tokens_in, "{end}");
    Ok(text)
}

/// What `trace` finds for a prompt on a device.
#[derive(Debug, PartialEq)]
struct Traced {
    tokens: Vec<u32>,
    /// Hashes of all bits of the logits.
    after_the_prompt: String,
    after_the_last: String,
}

impl Traced {
    fn of(device: &str, model: &Path, ids: &[u32]) -> Result<Traced, Failed> {
        let (after_the_prompt, tokens) = trace(device, model, ids, TOKENS)?;
        let (after_the_last, _) = trace(device, model, &[ids, &tokens].concat(), 0)?;
        Ok(Traced { tokens, after_the_prompt, after_the_last })
    }
}

/// The hash of the logits after the ids, and the greedy tokens that follow.
fn trace(device: &str, model: &Path, ids: &[u32], steps: usize) -> Result<(String, Vec<u32>), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("trace.json");
    let ids = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let mut command = command("trace", device, model);
    let told = output(command.args(["--ids", &ids, "--steps", &steps.to_string(), "--json"]).arg(&path))?;
    assert!(told.status.success(), "{told:?}");
    let all: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let prompt = &all["prompts"][0];
    let hash = prompt["final_logits_sha256"].as_str().ok_or("no hash of the logits")?.to_owned();
    Ok((hash, serde_json::from_value(prompt["greedy"].clone())?))
}

/// The current minute of the hour, in words.
fn minute() -> String {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 6] = ["", "", "twenty", "thirty", "forty", "fifty"];
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match (seconds / 60 % 60) as usize {
        minute @ 0..20 => SMALL[minute].to_owned(),
        minute if minute % 10 == 0 => TENS[minute / 10].to_owned(),
        minute => format!("{}-{}", TENS[minute / 10], SMALL[minute % 10]),
    }
}

/// Eight random characters.
fn nonce() -> String {
    // The hasher's keys are the system's randomness.
    let mut bits = RandomState::new().hash_one(SystemTime::now());
    (0..8)
        .map(|_| {
            let digit = (bits % 36) as u32;
            bits /= 36;
            char::from_digit(digit, 36).expect("36 digits")
        })
        .collect()
}
