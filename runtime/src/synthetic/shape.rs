//! The sizes of known models.

/// The sizes of a Llama.
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
}

/// The shapes; the last two are for tests, and not told of.
pub const SHAPES: [Shape; 5] = [
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
    },
];

/// The shapes for tests.
const TESTS: [&str; 2] = ["tiny", "tiny-256"];

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

    /// Names and dimensions, the fastest first.
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden, self.feed_forward);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut tensors = vec![("token_embd.weight".to_owned(), vec![hidden, self.vocab])];
        for i in 0..self.blocks {
            let parts = [
                ("attn_norm", vec![hidden]),
                ("attn_q", vec![hidden, q]),
                ("attn_k", vec![hidden, kv]),
                ("attn_v", vec![hidden, kv]),
                ("attn_output", vec![q, hidden]),
                ("ffn_norm", vec![hidden]),
                ("ffn_gate", vec![hidden, inner]),
                ("ffn_up", vec![hidden, inner]),
                ("ffn_down", vec![inner, hidden]),
            ];
            tensors.extend(parts.map(|(part, dims)| (format!("blk.{i}.{part}.weight"), dims)));
        }
        tensors.push(("output_norm.weight".to_owned(), vec![hidden]));
        if !self.tied {
            tensors.push(("output.weight".to_owned(), vec![hidden, self.vocab]));
        }
        tensors
    }
}
