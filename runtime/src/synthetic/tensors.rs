//! The tensors of a shape, as files of its family have them.

use super::{Family, Shape};
use crate::gguf::TensorType;

/// The end of a tensor's name, its dimensions, the fastest first, and its type.
type Part = (&'static str, Vec<usize>, TensorType);

/// A matrix of `rows` x `columns` in a type.
fn matrix(name: &'static str, columns: usize, rows: usize, ty: TensorType) -> Part {
    (name, vec![columns, rows], ty)
}

fn vector(name: &'static str, len: usize) -> Part {
    (name, vec![len], TensorType::F32)
}

impl Shape {
    /// Names, dimensions, the fastest first, and types, where matrices are stored in `quant`. In a mixture these are those of
    /// the experts; the others are BF16, as in the files of gpt-oss.
    pub(super) fn tensors(&self, quant: TensorType) -> Vec<(String, Vec<usize>, TensorType)> {
        let hidden = self.hidden;
        let matrices = if let Family::GptOss(_) = self.family { TensorType::BF16 } else { quant };
        let mut tensors = vec![matrix("token_embd.weight", hidden, self.vocab, matrices)];
        match self.family {
            Family::Gpt2 => {
                tensors.push(matrix("position_embd.weight", hidden, self.context, TensorType::F32));
            }
            Family::Phi3 => {
                let pairs = self.head_dim / 2;
                tensors.extend(
                    ["rope_factors_long.weight", "rope_factors_short.weight"].map(|name| vector(name, pairs)),
                );
            }
            _ => {}
        }
        let mut tensors: Vec<_> =
            tensors.into_iter().map(|(name, dims, ty)| (name.to_owned(), dims, ty)).collect();
        for i in 0..self.blocks {
            let parts = self.block(matrices, quant).into_iter();
            tensors.extend(parts.map(|(part, dims, ty)| (format!("blk.{i}.{part}"), dims, ty)));
        }
        tensors.push(("output_norm.weight".to_owned(), vec![hidden], TensorType::F32));
        if let Family::Gpt2 = self.family {
            tensors.push(("output_norm.bias".to_owned(), vec![hidden], TensorType::F32));
        }
        if !self.tied {
            tensors.push(("output.weight".to_owned(), vec![hidden, self.vocab], matrices));
        }
        tensors
    }

    /// The tensors of a block, its experts in `quant`.
    fn block(&self, ty: TensorType, quant: TensorType) -> Vec<Part> {
        let (hidden, inner) = (self.hidden, self.feed_forward);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut parts = vec![vector("attn_norm.weight", hidden)];
        match self.family {
            Family::Phi3 | Family::Gpt2 => parts.push(matrix("attn_qkv.weight", hidden, q + 2 * kv, ty)),
            _ => parts.extend([
                matrix("attn_q.weight", hidden, q, ty),
                matrix("attn_k.weight", hidden, kv, ty),
                matrix("attn_v.weight", hidden, kv, ty),
            ]),
        }
        parts.push(matrix("attn_output.weight", q, hidden, ty));
        let biases = [vector("attn_q.bias", q), vector("attn_k.bias", kv), vector("attn_v.bias", kv)];
        let norm = vector("ffn_norm.weight", hidden);
        let gated = [
            matrix("ffn_gate.weight", hidden, inner, ty),
            matrix("ffn_up.weight", hidden, inner, ty),
            matrix("ffn_down.weight", inner, hidden, ty),
        ];
        match &self.family {
            Family::Llama => parts.extend([norm].into_iter().chain(gated)),
            Family::Qwen2 => parts.extend(biases.into_iter().chain([norm]).chain(gated)),
            Family::Qwen3 => {
                let heads =
                    ["attn_q_norm.weight", "attn_k_norm.weight"].map(|name| vector(name, self.head_dim));
                parts.extend(heads.into_iter().chain([norm]).chain(gated));
            }
            Family::Phi3 => parts.extend([
                norm,
                matrix("ffn_up.weight", hidden, 2 * inner, ty),
                matrix("ffn_down.weight", inner, hidden, ty),
            ]),
            Family::Gpt2 => parts.extend([
                norm,
                matrix("ffn_up.weight", hidden, inner, ty),
                matrix("ffn_down.weight", inner, hidden, ty),
                vector("attn_norm.bias", hidden),
                vector("attn_qkv.bias", q + 2 * kv),
                vector("attn_output.bias", hidden),
                vector("ffn_norm.bias", hidden),
                vector("ffn_up.bias", inner),
                vector("ffn_down.bias", hidden),
            ]),
            Family::GptOss(mixture) => {
                parts.extend(biases);
                parts.extend(self.mixture_parts(mixture.experts, quant));
            }
        }
        parts
    }

    /// What a gpt-oss's block has beside Q, K, V and the attention's output matrix.
    fn mixture_parts(&self, experts: usize, quant: TensorType) -> Vec<Part> {
        let (hidden, inner, float) = (self.hidden, self.feed_forward, TensorType::F32);
        vec![
            vector("attn_output.bias", hidden),
            vector("attn_sinks.weight", self.heads),
            vector("post_attention_norm.weight", hidden),
            matrix("ffn_gate_inp.weight", hidden, experts, float),
            vector("ffn_gate_inp.bias", experts),
            ("ffn_gate_exps.weight", vec![hidden, inner, experts], quant),
            matrix("ffn_gate_exps.bias", inner, experts, float),
            ("ffn_up_exps.weight", vec![hidden, inner, experts], quant),
            matrix("ffn_up_exps.bias", inner, experts, float),
            ("ffn_down_exps.weight", vec![inner, hidden, experts], quant),
            matrix("ffn_down_exps.bias", hidden, experts, float),
        ]
    }
}
