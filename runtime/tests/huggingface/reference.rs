//! Folders that the transformers library saved, and the logits that it computed of them: see
//! scripts/huggingface-reference.py.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use runtime::numerics::Numerics;
use serde_json::Value;

use crate::{golden, logits, open};

fn agrees(name: &str, numerics: Numerics, tolerance: f32) {
    let folder = golden(name);
    let reference = std::fs::read(folder.join("reference.json")).expect("a reference");
    let reference: Value = serde_json::from_slice(&reference).expect("JSON");
    let prompts = reference["prompts"].as_array().expect("prompts");
    assert_eq!(prompts.len(), 3);
    let gguf = open(&folder);
    for prompt in prompts {
        let ids: Vec<u32> = serde_json::from_value(prompt["ids"].clone()).expect("ids");
        let bytes = BASE64_STANDARD.decode(prompt["logits_b64"].as_str().expect("logits")).expect("base64");
        let want: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let got = logits(&gguf, numerics, &ids).expect("logits");
        assert_eq!(got.len(), want.len());
        let greatest = want.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let difference = want.iter().zip(&got).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        let error = difference / greatest;
        println!("{name}, {} tokens, {numerics}: {error:.1e}", ids.len());
        assert!(error < tolerance, "{name}, {} tokens, {numerics}: {error:e}", ids.len());
    }
}

macro_rules! references {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let name = concat!("hf-", stringify!($name));
                agrees(name, Numerics::F32, 2e-6);
                // Inputs of products are rounded to 16 bits.
                agrees(name, Numerics::Tc, 2e-2);
            }
        )*
    };
}

references!(llama mistral qwen2 qwen3 phi3 gpt2);
