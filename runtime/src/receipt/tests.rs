use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn info() -> ModelInfo {
    ModelInfo {
        name: "tiny".to_owned(),
        architecture: "llama".to_owned(),
        quant_kind: "F16".to_owned(),
        tokenizer_kind: "gpt2".to_owned(),
        vocab_size: 256,
        context_length: 128,
        device: "cuda:1".to_owned(),
        numerics: "tc".to_owned(),
        bytes_used: 0,
        bytes_by_purpose: Vec::new(),
        bytes_total: 0,
        sm: Some("sm_90".to_owned()),
        driver_version: None,
    }
}

fn request() -> Request {
    Request {
        job_id: "job".to_owned(),
        correlation_id: "job".to_owned(),
        prompt: vec![1, 258],
        max_tokens: Some(7),
        min_tokens: 2,
        ignore_eos: true,
        sampling: Sampling {
            temperature: 0.7,
            top_p: 0.95,
            top_k: 40,
            min_p: 0.05,
            repetition_penalty: 1.1,
            presence_penalty: -0.3,
            frequency_penalty: 0.1,
            logit_bias: vec![(3, -100.0), (5, 0.1)],
            seed: u64::MAX,
        },
        stop: vec!["END".to_owned()],
        ..Request::default()
    }
}

fn receipt(stop_reason: StopReason) -> Receipt {
    let completion = Completion {
        tokens_in: 2,
        tokens_out: 3,
        decode_time: Duration::ZERO,
        stop_reason,
        tokens: Vec::new(),
        output_hash: Ids::of(&[7, 8, 9]).blake3.0,
    };
    Receipt::new(&info(), Digest([0xab; 32]), "00ff", Asked::of(&request()), &completion)
}

fn written() -> Value {
    serde_json::to_value(receipt(StopReason::MaxTokens)).unwrap()
}

fn read(value: &Value) -> Result<Receipt, String> {
    serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())
}

#[test]
fn the_json_of_a_receipt_is_this() {
    let text = serde_json::to_string(&receipt(StopReason::StopSequence("END".to_owned()))).unwrap();
    // The hash of 01000000 02010000, and of 07000000 08000000 09000000.
    let (prompt, output) =
        (blake3::hash(&[1, 0, 0, 0, 2, 1, 0, 0]), blake3::hash(&[7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0]));
    let model = "ab".repeat(32);
    assert_eq!(
        text,
        format!(
            concat!(
                r#"{{"format":1,"model":{{"name":"tiny","blake3":"{model}"}},"ptx_sha256":"00ff","numerics":"tc","#,
                r#""numerics_version":4,"device":"cuda sm_90","request":{{"#,
                r#""prompt":{{"tokens":2,"blake3":"{prompt}"}},"max_tokens":7,"min_tokens":2,"ignore_eos":true,"#,
                r#""stop":["END"],"sampling":{{"temperature":0.7,"top_p":0.95,"top_k":40,"min_p":0.05,"#,
                r#""repetition_penalty":1.1,"presence_penalty":-0.3,"frequency_penalty":0.1,"#,
                r#""logit_bias":[[3,-100.0],[5,0.1]],"seed":18446744073709551615}}}},"#,
                r#""output":{{"tokens":3,"blake3":"{output}"}},"stop_reason":{{"stop_sequence":"END"}}}}"#,
            ),
            model = model,
            prompt = prompt,
            output = output,
        )
    );
}

#[test]
fn the_same_request_is_made_again() {
    assert_eq!(Asked::of(&request()).again("job", vec![1, 258]), request());
}

#[test]
fn every_end_comes_back() {
    for reason in
        [StopReason::MaxTokens, StopReason::EndOfSequence, StopReason::StopSequence("é\"\n".to_owned())]
    {
        let receipt = receipt(reason);
        assert_eq!(read(&serde_json::to_value(&receipt).unwrap()), Ok(receipt));
    }
}

#[test]
fn no_field_may_be_missing_unknown_or_of_another_kind() {
    fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            found.push(format!("{path}/{name}"));
            paths(value, &format!("{path}/{name}"), found);
        }
    }
    let mut all = Vec::new();
    paths(&written(), "", &mut all);
    assert!(all.len() > 25 && read(&written()).is_ok(), "{all:?}");
    for path in all {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut without = written();
        without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        assert!(read(&without).unwrap_err().contains(&format!("missing field `{name}`")), "{path}");

        let mut more = written();
        more.pointer_mut(parent).unwrap()["extra"] = json!(1);
        assert!(read(&more).unwrap_err().contains("unknown field `extra`"), "{path}");

        let mut other = written();
        *other.pointer_mut(&path).unwrap() = json!(null);
        assert!(read(&other).is_err(), "{path}");
    }
}

#[test]
fn a_hash_is_64_digits() {
    for text in ["", "ab", &"ab".repeat(33), &"xy".repeat(32)] {
        assert!(text.parse::<Digest>().is_err(), "{text}");
    }
    assert_eq!("0f".repeat(32).parse(), Ok(Digest([15; 32])));
}

#[test]
fn the_cpu_is_told_from_a_gpu() {
    assert_eq!(device(&info()), "cuda sm_90");
    let cpu = ModelInfo { device: "cpu".to_owned(), sm: None, ..info() };
    assert_eq!(device(&cpu), "cpu");
}

proptest! {
    #[test]
    fn numbers_come_back_to_the_bit(bits in any::<u32>(), seed in any::<u64>()) {
        let float = f32::from_bits(bits);
        prop_assume!(float.is_finite());
        let mut receipt = receipt(StopReason::EndOfSequence);
        receipt.request.sampling.temperature = float;
        receipt.request.sampling.logit_bias = vec![(1, float)];
        receipt.request.sampling.seed = seed;
        // Straight, and by way of a tree.
        let text = serde_json::to_string(&receipt).unwrap();
        let tree = serde_json::to_value(&receipt).unwrap().to_string();
        for text in [text, tree] {
            let back: Receipt = serde_json::from_str(&text).unwrap();
            let sampling = &back.request.sampling;
            prop_assert_eq!(sampling.temperature.to_bits(), bits);
            prop_assert_eq!(sampling.logit_bias[0].1.to_bits(), bits);
            prop_assert_eq!(back, receipt.clone());
        }
    }
}
