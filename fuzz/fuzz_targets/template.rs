//! A chat template and the messages it is given: the template, a zero byte, the messages as JSON or as any text.

#![no_main]

use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use runtime::chat_template::{Chat, ChatTemplate};
use serde_json::{Value, json};
use worker_orcd_fuzz::bounded;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (source, messages) = text.split_once('\0').unwrap_or((&text, "Hi"));
    let messages: Value = serde_json::from_str(messages).unwrap_or_else(
        |_| json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": messages}]),
    );
    // A prompt has a mebibyte at most, and what is made on the way counts as steps.
    bounded(192 << 20, 1 << 30, || {
        let template =
            ChatTemplate::new(source, vec![("bos_token", "<s>".into()), ("eos_token", "</s>".into())]);
        for add_generation_prompt in [false, true] {
            match template.render_at(
                SystemTime::UNIX_EPOCH,
                Chat { messages: &messages, tools: None, add_generation_prompt },
            ) {
                Ok(prompt) => assert!(prompt.len() <= 1 << 20, "{} bytes", prompt.len()),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    });
});
