//! The sizes of known models.

/// The sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// What the user calls it.
    pub name: &'static str,
    /// What its blocks consist of.
    pub family: Family,
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
    /// Positions that a token sees, in a gpt-oss in every second layer, if it does not see all up to its own.
    pub window: Option<usize>,
    /// The base of the rotary frequencies; nothing of a GPT-2 turns.
    pub rope_base: f32,
    /// Whether the embedding makes the logits too.
    pub tied: bool,
    /// `tokenizer.ggml.pre`.
    pub pre: &'static str,
}

/// What blocks consist of, and what the metadata say beside sizes: an architecture.
#[derive(Debug, Clone, PartialEq)]
pub enum Family {
    /// RMS norms, Q, K, V, SwiGLU.
    Llama,
    /// Q, K and V have biases.
    Qwen2,
    /// The heads of Q and K have norms.
    Qwen3,
    /// Q, K and V are one tensor, gate and up another; each frequency has a factor, another one in long contexts.
    Phi3,
    /// Layer norms, learned positions, GELU, and biases everywhere.
    Gpt2,
    /// A mixture of experts; biases everywhere.
    GptOss(Mixture),
}

/// The sizes of a mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// Experts of a layer, each with `feed_forward` elements between its projections.
    pub experts: usize,
    /// Experts that compute a token.
    pub used: usize,
}

/// The shapes; the last three are for tests, and not told of.
pub const SHAPES: [Shape; 13] = [
    Shape {
        name: "smollm2-135m",
        family: Family::Llama,
        blocks: 30,
        hidden: 576,
        feed_forward: 1536,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        vocab: 49_152,
        context: 8192,
        window: None,
        rope_base: 100_000.0,
        tied: true,
        pre: "smollm",
    },
    Shape {
        name: "llama-3.2-1b",
        family: Family::Llama,
        blocks: 16,
        hidden: 2048,
        feed_forward: 8192,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        vocab: 128_256,
        context: 8192,
        window: None,
        rope_base: 500_000.0,
        tied: true,
        pre: "llama-bpe",
    },
    Shape {
        name: "llama-3-8b",
        family: Family::Llama,
        blocks: 32,
        hidden: 4096,
        feed_forward: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 128_256,
        context: 8192,
        window: None,
        rope_base: 500_000.0,
        tied: false,
        pre: "llama-bpe",
    },
    Shape {
        name: "mistral-7b",
        family: Family::Llama,
        blocks: 32,
        hidden: 4096,
        feed_forward: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 32_000,
        context: 32_768,
        window: Some(4096),
        rope_base: 10_000.0,
        tied: false,
        pre: "llama-bpe",
    },
    Shape {
        name: "qwen2.5-7b",
        family: Family::Qwen2,
        blocks: 28,
        hidden: 3584,
        feed_forward: 18_944,
        heads: 28,
        kv_heads: 4,
        head_dim: 128,
        vocab: 152_064,
        context: 32_768,
        window: None,
        rope_base: 1_000_000.0,
        tied: false,
        pre: "qwen2",
    },
    Shape {
        name: "qwen3-8b",
        family: Family::Qwen3,
        blocks: 36,
        hidden: 4096,
        feed_forward: 12_288,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 151_936,
        context: 40_960,
        window: None,
        rope_base: 1_000_000.0,
        tied: false,
        pre: "qwen2",
    },
    Shape {
        name: "phi-3.5-mini",
        family: Family::Phi3,
        blocks: 32,
        hidden: 3072,
        feed_forward: 8192,
        heads: 32,
        kv_heads: 32,
        head_dim: 96,
        vocab: 32_064,
        context: 131_072,
        window: None,
        rope_base: 10_000.0,
        tied: false,
        pre: "llama-bpe",
    },
    Shape {
        name: "gpt2",
        family: Family::Gpt2,
        blocks: 12,
        hidden: 768,
        feed_forward: 3072,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        vocab: 50_257,
        context: 1024,
        window: None,
        rope_base: 10_000.0,
        tied: true,
        pre: "gpt-2",
    },
    Shape {
        name: "gpt2-xl",
        family: Family::Gpt2,
        blocks: 48,
        hidden: 1600,
        feed_forward: 6400,
        heads: 25,
        kv_heads: 25,
        head_dim: 64,
        vocab: 50_257,
        context: 1024,
        window: None,
        rope_base: 10_000.0,
        tied: true,
        pre: "gpt-2",
    },
    Shape {
        name: "gpt-oss-20b",
        family: Family::GptOss(Mixture { experts: 32, used: 4 }),
        blocks: 24,
        hidden: 2880,
        feed_forward: 2880,
        heads: 64,
        kv_heads: 8,
        head_dim: 64,
        vocab: 201_088,
        context: 131_072,
        window: Some(128),
        rope_base: 150_000.0,
        tied: false,
        pre: "llama-bpe",
    },
    Shape {
        name: TESTS[0],
        family: Family::Llama,
        blocks: 2,
        hidden: 64,
        feed_forward: 96,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocab: 320,
        context: 256,
        window: None,
        rope_base: 10_000.0,
        tied: false,
        pre: "llama-bpe",
    },
    // With rows of whole super-blocks.
    Shape {
        name: TESTS[1],
        family: Family::Llama,
        blocks: 1,
        hidden: 256,
        feed_forward: 256,
        heads: 4,
        kv_heads: 1,
        head_dim: 64,
        vocab: 320,
        context: 256,
        window: None,
        rope_base: 10_000.0,
        tied: true,
        pre: "llama-bpe",
    },
    Shape {
        name: TESTS[2],
        family: Family::GptOss(Mixture { experts: 8, used: 3 }),
        blocks: 2,
        hidden: 96,
        feed_forward: 96,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocab: 320,
        context: 256,
        window: Some(40),
        rope_base: 10_000.0,
        tied: false,
        pre: "llama-bpe",
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
}

impl Family {
    /// `general.architecture`.
    pub(super) fn architecture(&self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Phi3 => "phi3",
            Self::Gpt2 => "gpt2",
            Self::GptOss(_) => "gpt-oss",
        }
    }
}
