//! Models small enough to know the answer without a reference.

#[allow(dead_code, reason = "other tests use the rest of it")]
mod draft;

use draft::llama::{F32, llama};
use runtime::batch::{Batch, BatchLimits, Chunk};
use runtime::device::Device;
use runtime::model::{Model, Plan};
use runtime::numerics::Numerics;

/// Elements of everything: residual stream, the one head, the feed-forward part.
const N: usize = 32;

/// A llama whose tensors are zero, but for those that `value(tensor, row, column)` fills.
fn file(value: impl Fn(&str, usize, usize) -> f32) -> Vec<u8> {
    llama(N, |_| F32, value)
}

/// One page, in the reference arithmetic.
fn plan(limits: BatchLimits) -> Plan {
    Plan { numerics: Numerics::F32, limits, pages: 1 }
}

/// The residual stream after the block, `[tokens, N]`.
fn after_the_block(file: &[u8], tokens: &[u32]) -> Vec<f32> {
    let device = Device::cpu(1);
    let gguf = draft::open(file).expect("a whole file");
    let limits = BatchLimits { tokens: 8, sequences: 1, context: 64 };
    let mut model = Model::load(&device, &gguf, plan(limits), &mut |_, _| ()).expect("a model");
    let mut batch = Batch::default();
    batch.push(Chunk { tokens, start: 0, pages: &[0], wants_logits: false });
    let mut seen = Vec::new();
    let mut observe = |name: &str, values: &[f32]| {
        if name == "block.0" {
            seen = values.to_vec();
        }
    };
    model.forward(&device, &batch, Some(&mut observe)).expect("a forward pass");
    seen
}

#[test]
fn biases_of_the_file_are_added() {
    // Without weights every value is the bias of V, whatever the attention weights; the output projection hands it on and
    // adds its own, and the feed-forward part adds that of its last projection.
    let embedding = |token: usize, i: usize| (token * N + i) as f32 / 64.0;
    let bias = |name: &str, i: usize| match name {
        "blk.0.attn_v.bias" => 1.0 + i as f32 / 8.0,
        "blk.0.attn_output.bias" => -3.0 + i as f32 / 16.0,
        "blk.0.ffn_down.bias" => 0.5 - i as f32 / 32.0,
        "blk.0.attn_q.bias" | "blk.0.attn_k.bias" => i as f32 / 100.0,
        _ => 0.0,
    };
    let file = file(|name, row, column| match name {
        "token_embd.weight" => embedding(row, column),
        "blk.0.attn_output.weight" => (row == column) as u8 as f32,
        _ => bias(name, column),
    });
    let tokens = [2u32, 0, 3];
    let got = after_the_block(&file, &tokens);
    for (t, &token) in tokens.iter().enumerate() {
        for i in 0..N {
            let added: f32 = ["blk.0.attn_v.bias", "blk.0.attn_output.bias", "blk.0.ffn_down.bias"]
                .iter()
                .map(|name| bias(name, i))
                .sum();
            let want = embedding(token as usize, i) + added;
            assert!(
                (got[t * N + i] - want).abs() < 1e-5,
                "token {t}, element {i}: {} for {want}",
                got[t * N + i]
            );
        }
    }
}

#[test]
fn a_tensor_of_another_shape_is_refused_by_name() {
    let file = file(|_, _, _| 0.0);
    let needle = b"llama.feed_forward_length";
    let at = file.windows(needle.len()).position(|window| window == needle).expect("the key");
    let mut wrong = file.clone();
    wrong[at + needle.len() + 4] = 33;
    let gguf = draft::open(&wrong).expect("a whole file");
    let limits = BatchLimits { tokens: 1, sequences: 1, context: 64 };
    let error = Model::load(&Device::cpu(1), &gguf, plan(limits), &mut |_, _| ()).err().expect("an error");
    let text = error.to_string();
    assert!(text.contains("blk.0.ffn_gate.weight") && text.contains("[32, 33]"), "{text}");
}

/// `file` with every `from` replaced by `to`, which is as long.
fn renamed(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "the file's offsets stay");
    let mut renamed = file.to_vec();
    let places: Vec<usize> = file
        .windows(from.len())
        .enumerate()
        .filter(|(_, w)| *w == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "{from} occurs");
    for at in places {
        renamed[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    renamed
}

/// Why a file is no model, and the bytes that were uploaded before that was known.
fn refusal(file: &[u8]) -> (String, u64) {
    let gguf = draft::open(file).expect("a whole file");
    let limits = BatchLimits { tokens: 1, sequences: 1, context: 64 };
    let mut uploaded = 0;
    let mut progress = |done, _| uploaded = done;
    let error = Model::load(&Device::cpu(1), &gguf, plan(limits), &mut progress).err().expect("an error");
    (error.to_string(), uploaded)
}

#[test]
fn a_tensor_that_takes_no_part_is_refused_by_name() {
    let file = file(|_, _, _| 0.0);
    for (from, to) in [
        ("blk.0.attn_output.bias", "blk.0.attn_norm_2.bias"),
        ("blk.0.attn_k.bias", "blk.0.attn_k.beta"),
        ("blk.0.ffn_down.bias", "blk.0.ffn_norm.bias"),
        ("blk.0.ffn_down.bias", "position_embd.vector"),
    ] {
        let to = &to[..from.len()];
        let (error, uploaded) = refusal(&renamed(&file, from, to));
        assert!(error.contains(&format!("{to:?}: is no part of the architecture")), "{error}");
        assert_eq!(uploaded, 0, "{error}");
    }
}

#[test]
fn a_qwen2_without_a_bias_of_q_k_or_v_is_refused() {
    let qwen2 = renamed(&file(|_, _, _| 0.0), "llama", "qwen2");
    let (error, _) = refusal(&renamed(&qwen2, "blk.0.attn_k.bias", "blk.0.ffn_up.bias"));
    assert!(error.contains("\"blk.0.attn_k.bias\": is missing"), "{error}");
}
