//! The sizes of known models.

use crate::gguf::TensorType;

/// The sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// What the user calls it.
    pub name: &'static str,
    /// Transformer blocks.
    pub blocks: usize,
    /// Elements of the residual stream.
    pub hidden: usize,
    /// Elements between the projections of the feed-forward part.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Positions.
    pub context: usize,
    /// The base of the rotary frequencies.
    pub rope_base: f32,
    /// Whether the embedding makes the logits too.
    pub tied: bool,
    /// `tokenizer.ggml.pre`.
    pub(super) pre: &'static str,
    /// The mixture of experts of a gpt-oss; a Llama has none.
    pub mixture: Option<Mixture>,
}

/// The sizes that a gpt-oss has beside those of a Llama.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// Experts of a layer, each with `feed_forward` elements between its projections.
    pub experts: usize,
    /// Experts that compute a token.
    pub used: usize,
    /// Positions that a token sees in every second layer.
    pub window: usize,
}

/// The shapes; the last three are for tests, and not told of.
pub const SHAPES: [Shape; 7] = [
    Shape {
        name: "smollm2-135m",
        blocks: 30,
        hidden: 576,
        feed_forward: 1536,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        vocab: 49_152,
        context: 8192,
        rope_base: 100_000.0,
        tied: true,
        pre: "smollm",
        mixture: None,
    },
    Shape {
        name: "llama-3.2-1b",
        blocks: 16,
        hidden: 2048,
        feed_forward: 8192,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        vocab: 128_256,
        context: 8192,
        rope_base: 500_000.0,
        tied: true,
        pre: "llama-bpe",
        mixture: None,
    },
    Shape {
        name: "llama-3-8b",
        blocks: 32,
        hidden: 4096,
        feed_forward: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 128_256,
        context: 8192,
        rope_base: 500_000.0,
        tied: false,
        pre: "llama-bpe",
        mixture: None,
    },
    Shape {
        name: "gpt-oss-20b",
        blocks: 24,
        hidden: 2880,
        feed_forward: 2880,
        heads: 64,
        kv_heads: 8,
        head_dim: 64,
        vocab: 201_088,
        context: 131_072,
        rope_base: 150_000.0,
        tied: false,
        pre: "llama-bpe",
        mixture: Some(Mixture { experts: 32, used: 4, window: 128 }),
    },
    Shape {
        name: TESTS[0],
        blocks: 2,
        hidden: 64,
        feed_forward: 96,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocab: 320,
        context: 256,
        rope_base: 10_000.0,
        tied: false,
        pre: "llama-bpe",
        mixture: None,
    },
    // With rows of whole super-blocks.
    Shape {
        name: TESTS[1],
        blocks: 1,
        hidden: 256,
        feed_forward: 256,
        heads: 4,
        kv_heads: 1,
        head_dim: 64,
        vocab: 320,
        context: 256,
        rope_base: 10_000.0,
        tied: true,
        pre: "llama-bpe",
        mixture: None,
    },
    Shape {
        name: TESTS[2],
        blocks: 2,
        hidden: 96,
        feed_forward: 96,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocab: 320,
        context: 256,
        rope_base: 10_000.0,
        tied: false,
        pre: "llama-bpe",
        mixture: Some(Mixture { experts: 8, used: 3, window: 40 }),
    },
];

/// The shapes for tests.
const TESTS: [&str; 3] = ["tiny", "tiny-256", "tiny-gpt-oss"];

impl Shape {
    /// The shape of this name.
    ///
    /// # Errors
    /// A sentence with the names.
    pub fn named(name: &str) -> Result<&'static Shape, String> {
        SHAPES.iter().find(|shape| shape.name == name).ok_or_else(|| {
            let names: Vec<&str> =
                SHAPES.iter().map(|shape| shape.name).filter(|n| !TESTS.contains(n)).collect();
            format!("there are {}", names.join(", "))
        })
    }

    /// `general.architecture`.
    pub(super) fn architecture(&self) -> &'static str {
        if self.mixture.is_some() { "gpt-oss" } else { "llama" }
    }

    /// Names, dimensions, the fastest first, and types, where matrices are stored in `quant`. In a mixture these are those of
    /// the experts; the others are BF16, as in the files of gpt-oss.
    pub(super) fn tensors(&self, quant: TensorType) -> Vec<(String, Vec<usize>, TensorType)> {
        let hidden = self.hidden;
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let matrices = if self.mixture.is_some() { TensorType::BF16 } else { quant };
        let mut tensors = vec![("token_embd.weight".to_owned(), vec![hidden, self.vocab], matrices)];
        for i in 0..self.blocks {
            let mut parts = vec![
                ("attn_norm.weight", vec![hidden], TensorType::F32),
                ("attn_q.weight", vec![hidden, q], matrices),
                ("attn_k.weight", vec![hidden, kv], matrices),
                ("attn_v.weight", vec![hidden, kv], matrices),
                ("attn_output.weight", vec![q, hidden], matrices),
            ];
            parts.extend(match &self.mixture {
                None => self.feed_forward_parts(quant),
                Some(mixture) => self.mixture_parts(mixture, quant),
            });
            tensors.extend(parts.into_iter().map(|(part, dims, ty)| (format!("blk.{i}.{part}"), dims, ty)));
        }
        tensors.push(("output_norm.weight".to_owned(), vec![hidden], TensorType::F32));
        if !self.tied {
            tensors.push(("output.weight".to_owned(), vec![hidden, self.vocab], matrices));
        }
        tensors
    }

    /// What a Llama's block has beside attention.
    fn feed_forward_parts(&self, quant: TensorType) -> Vec<Part> {
        let (hidden, inner) = (self.hidden, self.feed_forward);
        vec![
            ("ffn_norm.weight", vec![hidden], TensorType::F32),
            ("ffn_gate.weight", vec![hidden, inner], quant),
            ("ffn_up.weight", vec![hidden, inner], quant),
            ("ffn_down.weight", vec![inner, hidden], quant),
        ]
    }

    /// What a gpt-oss's block has beside the matrices of attention.
    fn mixture_parts(&self, mixture: &Mixture, quant: TensorType) -> Vec<Part> {
        let (hidden, inner, experts) = (self.hidden, self.feed_forward, mixture.experts);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let float = TensorType::F32;
        vec![
            ("attn_q.bias", vec![q], float),
            ("attn_k.bias", vec![kv], float),
            ("attn_v.bias", vec![kv], float),
            ("attn_output.bias", vec![hidden], float),
            ("attn_sinks.weight", vec![self.heads], float),
            ("post_attention_norm.weight", vec![hidden], float),
            ("ffn_gate_inp.weight", vec![hidden, experts], float),
            ("ffn_gate_inp.bias", vec![experts], float),
            ("ffn_gate_exps.weight", vec![hidden, inner, experts], quant),
            ("ffn_gate_exps.bias", vec![inner, experts], float),
            ("ffn_up_exps.weight", vec![hidden, inner, experts], quant),
            ("ffn_up_exps.bias", vec![inner, experts], float),
            ("ffn_down_exps.weight", vec![inner, hidden, experts], quant),
            ("ffn_down_exps.bias", vec![hidden, experts], float),
        ]
    }
}

/// The end of a tensor's name, its dimensions and its type.
type Part = (&'static str, Vec<usize>, TensorType);
