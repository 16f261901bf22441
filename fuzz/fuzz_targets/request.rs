//! A request's body, as every endpoint that starts or ends a job checks it.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use runtime::ModelInfo;
use runtime::chat_template::Chat;
use runtime::device::Usage;
use runtime::engine::{Limits, channel};
use server::fuzz::Bodies;
use server::{ModelHash, Text, Worker};
use tokio::sync::watch;
use worker_orcd_fuzz::bounded;

/// A token is a byte.
struct Bytes;

impl Text for Bytes {
    fn encode_with(&self, text: &str, _: bool, _: bool) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        u8::try_from(id).into_iter().collect()
    }

    fn decode(&self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&ids.iter().flat_map(|&id| self.bytes(id)).collect::<Vec<u8>>()).into_owned()
    }

    fn apply_chat_template(&self, chat: Chat<'_>) -> Result<String, String> {
        Ok(chat.messages.to_string())
    }
}

static BODIES: LazyLock<Bodies> = LazyLock::new(|| {
    let limits = Limits {
        queue_depth: 16,
        context: 4096,
        vocab: 256,
        pages: 128,
        page_bytes: 1000,
        usage: Usage::NONE,
        timeout: Duration::from_secs(60),
    };
    let info = ModelInfo {
        name: "model".to_owned(),
        architecture: "llama".to_owned(),
        quant_kind: "F32".to_owned(),
        tokenizer_kind: "bytes".to_owned(),
        vocab_size: 256,
        context_length: 4096,
        device: "cpu".to_owned(),
        numerics: "f32".to_owned(),
        bytes_used: 0,
        bytes_by_purpose: Vec::new(),
        bytes_total: 0,
        sm: None,
        driver_version: None,
    };
    let (engine, _) = channel(limits);
    let (_, model_hash) = watch::channel(ModelHash::Unknown);
    Bodies::new(Worker { engine, text: Box::new(Bytes), info, model_hash, ptx_sha256: "" })
});

fuzz_target!(|bytes: &[u8]| {
    LazyLock::force(&BODIES);
    // A text becomes ids of four bytes each; JSON becomes values of many times its size.
    bounded(64 * bytes.len() + (64 << 10), 512 * bytes.len() + (1 << 20), || BODIES.check(bytes));
});
