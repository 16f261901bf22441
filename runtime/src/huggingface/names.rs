//! What the library's tensors are called in GGUF files, and how each is arranged there.

use super::config::{Config, Kind};
use super::grid::Arrangement;
use super::mixture::Mixture;

/// A tensor that a model has.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Its name in the folder.
    pub(super) name: String,
    /// Its name in a GGUF file.
    pub(super) gguf: String,
    /// Its shape in the folder, the slowest dimension first.
    pub(super) shape: Vec<usize>,
    /// Its dimensions in a GGUF file, the fastest first.
    pub(super) dims: Vec<usize>,
    /// Where its values are in a GGUF file.
    pub(super) arrangement: Arrangement,
    /// Whether it is stored in MXFP4: two tensors, `{name}_blocks` and `{name}_scales`.
    pub(super) packed: bool,
}

impl Wanted {
    /// One of which the last dimension are a row's values, and which is stored as it is.
    fn plain(name: String, gguf: String, shape: &[usize]) -> Self {
        let dims = shape.iter().rev().copied().collect();
        Self { name, gguf, shape: shape.to_vec(), dims, arrangement: Same, packed: false }
    }

    /// Whether it is a vector, or one for each expert.
    pub(super) fn is_vector(&self) -> bool {
        self.dims.len() == 1 || self.gguf.ends_with(".bias")
    }
}

use Arrangement::{Alternate, Interleaved, Same, Transposed};

/// GPT-2's matrices.
const TURNED: Arrangement = Transposed { matrices: 1, step: 1, side: 0 };

/// The tensors outside of blocks. `prefix` stands before GPT-2's names in some files.
pub(super) fn outside(config: &Config, prefix: &str) -> Vec<Wanted> {
    let Config { hidden, vocab, .. } = *config;
    let mut wanted = Vec::new();
    let mut add = |name: String, gguf: &str, shape: &[usize]| {
        wanted.push(Wanted::plain(name, gguf.to_owned(), shape));
    };
    if config.kind == Kind::Gpt2 {
        add(format!("{prefix}wte.weight"), "token_embd.weight", &[vocab, hidden]);
        add(format!("{prefix}wpe.weight"), "position_embd.weight", &[config.context, hidden]);
        add(format!("{prefix}ln_f.weight"), "output_norm.weight", &[hidden]);
        add(format!("{prefix}ln_f.bias"), "output_norm.bias", &[hidden]);
    } else {
        add("model.embed_tokens.weight".to_owned(), "token_embd.weight", &[vocab, hidden]);
        add("model.norm.weight".to_owned(), "output_norm.weight", &[hidden]);
    }
    if !config.tied {
        add(OUTPUT.to_owned(), "output.weight", &[vocab, hidden]);
    }
    wanted
}

/// Makes logits; a model whose embedding does that may have it too.
const OUTPUT: &str = "lm_head.weight";

/// The tensors of a block.
pub(super) fn of_block(config: &Config, prefix: &str, block: usize) -> Vec<Wanted> {
    let Config { hidden, inner, heads, kv_heads, head_dim, .. } = *config;
    let (q, kv) = (heads * head_dim, kv_heads * head_dim);
    let (attention_bias, feed_forward_bias) = (config.attention_bias, config.feed_forward_bias);
    let mut block =
        Block { wanted: Vec::new(), folder: format!("model.layers.{block}"), gguf: format!("blk.{block}") };
    if config.kind == Kind::Gpt2 {
        block.folder = format!("{prefix}h.{}", &block.gguf["blk.".len()..]);
        for (name, gguf) in [("ln_1", "attn_norm"), ("ln_2", "ffn_norm")] {
            block.vector(&format!("{name}.weight"), &format!("{gguf}.weight"), hidden, Same);
            block.vector(&format!("{name}.bias"), &format!("{gguf}.bias"), hidden, Same);
        }
        block.matrix("attn.c_attn", "attn_qkv", [hidden, 3 * hidden], TURNED, attention_bias);
        block.matrix("attn.c_proj", "attn_output", [hidden, hidden], TURNED, attention_bias);
        block.matrix("mlp.c_fc", "ffn_up", [hidden, inner], TURNED, feed_forward_bias);
        block.matrix("mlp.c_proj", "ffn_down", [inner, hidden], TURNED, feed_forward_bias);
        return block.wanted;
    }
    block.vector("input_layernorm.weight", "attn_norm.weight", hidden, Same);
    let second = if config.kind == Kind::GptOss { "post_attention_norm" } else { "ffn_norm" };
    block.vector("post_attention_layernorm.weight", &format!("{second}.weight"), hidden, Same);
    if config.kind == Kind::Qwen3 {
        block.vector("self_attn.q_norm.weight", "attn_q_norm.weight", head_dim, Same);
        block.vector("self_attn.k_norm.weight", "attn_k_norm.weight", head_dim, Same);
    }
    let paired = |heads| if config.kind == Kind::Llama { Interleaved { heads } } else { Same };
    let qkv_bias = attention_bias || config.kind == Kind::Qwen2;
    if config.kind == Kind::Phi3 {
        block.matrix("self_attn.qkv_proj", "attn_qkv", [q + 2 * kv, hidden], Same, qkv_bias);
    } else {
        block.matrix("self_attn.q_proj", "attn_q", [q, hidden], paired(heads), qkv_bias);
        block.matrix("self_attn.k_proj", "attn_k", [kv, hidden], paired(kv_heads), qkv_bias);
        block.matrix("self_attn.v_proj", "attn_v", [kv, hidden], Same, qkv_bias);
    }
    block.matrix("self_attn.o_proj", "attn_output", [hidden, q], Same, attention_bias);
    if let Some(mixture) = config.mixture {
        block.vector("self_attn.sinks", "attn_sinks.weight", heads, Same);
        block.matrix("mlp.router", "ffn_gate_inp", [mixture.experts, hidden], Same, true);
        block.experts(mixture, hidden, inner);
        return block.wanted;
    }
    if config.kind == Kind::Phi3 {
        block.matrix("mlp.gate_up_proj", "ffn_up", [2 * inner, hidden], Same, feed_forward_bias);
    } else {
        block.matrix("mlp.gate_proj", "ffn_gate", [inner, hidden], Same, feed_forward_bias);
        block.matrix("mlp.up_proj", "ffn_up", [inner, hidden], Same, feed_forward_bias);
    }
    block.matrix("mlp.down_proj", "ffn_down", [hidden, inner], Same, feed_forward_bias);
    block.wanted
}

/// Whether a tensor beside those is nothing that is computed with: angles and masks that older files hold, and the output's
/// matrix where the embedding serves.
pub(super) fn is_idle(config: &Config, name: &str) -> bool {
    let gpt2 =
        config.kind == Kind::Gpt2 && (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"));
    gpt2 || name.ends_with(".rotary_emb.inv_freq") || (config.tied && name == OUTPUT)
}

/// Collects the tensors of a block.
struct Block {
    wanted: Vec<Wanted>,
    folder: String,
    gguf: String,
}

impl Block {
    fn wanted(&self, name: &str, gguf: &str, shape: &[usize]) -> Wanted {
        Wanted::plain(format!("{}.{name}", self.folder), format!("{}.{gguf}", self.gguf), shape)
    }

    fn vector(&mut self, name: &str, gguf: &str, len: usize, arrangement: Arrangement) {
        self.wanted.push(Wanted { arrangement, ..self.wanted(name, gguf, &[len]) });
    }

    /// A matrix, and its bias.
    fn matrix(&mut self, name: &str, gguf: &str, shape: [usize; 2], arrangement: Arrangement, bias: bool) {
        let mut matrix = self.wanted(&format!("{name}.weight"), &format!("{gguf}.weight"), &shape);
        // A transposed matrix has its outputs as columns; a vector has no other way around.
        let (outputs, of_bias) = match arrangement {
            Transposed { .. } => (shape[1], Same),
            _ => (shape[0], arrangement),
        };
        if let Transposed { .. } = arrangement {
            matrix.dims.reverse();
        }
        self.wanted.push(Wanted { arrangement, ..matrix });
        if bias {
            self.vector(&format!("{name}.bias"), &format!("{gguf}.bias"), outputs, of_bias);
        }
    }

    /// The matrices of a mixture, and their biases. Outputs of gate and up alternate.
    fn experts(&mut self, mixture: Mixture, hidden: usize, inner: usize) {
        for (name, gguf, side) in [
            ("gate_up_proj", "ffn_gate_exps", Some(0)),
            ("gate_up_proj", "ffn_up_exps", Some(1)),
            ("down_proj", "ffn_down_exps", None),
        ] {
            let (inputs, outputs) = if side.is_some() { (hidden, inner) } else { (inner, hidden) };
            let (name, packed, experts) = (format!("mlp.experts.{name}"), mixture.packed, mixture.experts);
            let step = if side.is_some() { 2 } else { 1 };
            let rows = side.map_or(Same, |side| Alternate { side });
            let (shape, arrangement) = match packed {
                true => ([experts, step * outputs, inputs], rows),
                false => (
                    [experts, inputs, step * outputs],
                    Transposed { matrices: experts, step, side: side.unwrap_or(0) },
                ),
            };
            let weight = self.wanted(&name, &format!("{gguf}.weight"), &shape);
            self.wanted.push(Wanted { dims: vec![inputs, outputs, experts], arrangement, packed, ..weight });
            let bias =
                self.wanted(&format!("{name}_bias"), &format!("{gguf}.bias"), &[experts, step * outputs]);
            self.wanted.push(Wanted { dims: vec![outputs, experts], arrangement: rows, ..bias });
        }
    }
}
