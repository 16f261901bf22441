//! A llama small enough to fill by formula.

use half::{bf16, f16};

use super::Draft;

/// Numbers of tensor types in the format.
pub(crate) const F32: u32 = 0;
pub(crate) const F16: u32 = 1;
pub(crate) const Q8_0: u32 = 8;
pub(crate) const BF16: u32 = 30;

/// Tokens in the vocabulary.
pub(crate) const VOCAB: usize = 4;

/// What a value is a multiple of in [`Q8_0`].
const Q8_STEP: f32 = 1.0 / 16.0;

/// A file of one block with one head, everything `n` wide. A tensor has the type `ty(tensor)` and is filled with
/// `value(tensor, row, column)`; vectors are F32.
pub(crate) fn llama(
    n: usize,
    ty: impl Fn(&str) -> u32,
    value: impl Fn(&str, usize, usize) -> f32,
) -> Vec<u8> {
    let matrix = |name: &'static str| (name, vec![n as u64, n as u64]);
    let vector = |name: &'static str| (name, vec![n as u64]);
    let tensors = [
        ("token_embd.weight", vec![n as u64, VOCAB as u64]),
        vector("output_norm.weight"),
        vector("blk.0.attn_norm.weight"),
        matrix("blk.0.attn_q.weight"),
        vector("blk.0.attn_q.bias"),
        matrix("blk.0.attn_k.weight"),
        vector("blk.0.attn_k.bias"),
        matrix("blk.0.attn_v.weight"),
        vector("blk.0.attn_v.bias"),
        matrix("blk.0.attn_output.weight"),
        vector("blk.0.attn_output.bias"),
        vector("blk.0.ffn_norm.weight"),
        matrix("blk.0.ffn_gate.weight"),
        matrix("blk.0.ffn_up.weight"),
        matrix("blk.0.ffn_down.weight"),
        vector("blk.0.ffn_down.bias"),
    ];
    let mut draft = Draft::default().text("general.architecture", "llama");
    for (key, number) in [
        ("block_count", 1),
        ("embedding_length", n),
        ("feed_forward_length", n),
        ("attention.head_count", 1),
        ("context_length", 64),
    ] {
        draft = draft.u32(&format!("llama.{key}"), number as u32);
    }
    draft = draft.key("llama.attention.layer_norm_rms_epsilon", 6, 1e-5f32.to_le_bytes());
    let mut data: Vec<u8> = Vec::new();
    for (name, dims) in &tensors {
        let ty = if dims.len() == 1 { F32 } else { ty(name) };
        data.resize(data.len().next_multiple_of(32), 0);
        draft = draft.tensor(name, dims, ty, data.len() as u64);
        for row in 0..dims.get(1).map_or(1, |&rows| rows as usize) {
            let values: Vec<f32> = (0..n).map(|column| value(name, row, column)).collect();
            data.extend(stored(ty, &values));
        }
    }
    let mut bytes = draft.data(data.len()).bytes();
    let start = bytes.len() - data.len();
    bytes[start..].copy_from_slice(&data);
    bytes
}

/// A row's bytes. The values must be those of the type.
fn stored(ty: u32, values: &[f32]) -> Vec<u8> {
    match ty {
        F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        F16 => values
            .iter()
            .flat_map(|&value| {
                assert_eq!(f16::from_f32(value).to_f32(), value, "a value of F16");
                f16::from_f32(value).to_le_bytes()
            })
            .collect(),
        BF16 => values
            .iter()
            .flat_map(|&value| {
                assert_eq!(bf16::from_f32(value).to_f32(), value, "a value of BF16");
                bf16::from_f32(value).to_le_bytes()
            })
            .collect(),
        Q8_0 => values
            .chunks_exact(32)
            .flat_map(|block| {
                let quants = block.iter().map(|&value| {
                    let quant = (value / Q8_STEP) as i8;
                    assert_eq!(quant as f32 * Q8_STEP, value, "a value of Q8_0");
                    quant as u8
                });
                f16::from_f32(Q8_STEP).to_le_bytes().into_iter().chain(quants).collect::<Vec<u8>>()
            })
            .collect(),
        _ => panic!("type {ty} is not drafted"),
    }
}
