//! Models without a file: the shapes of known models, with weights that are drawn.
//!
//! Such a model is a GGUF header, read as strictly as a file's, and a seed. A tensor's bytes are a function of the seed, the
//! tensor's name and the place, the same on every device, so that a device draws its own and a file can be written of
//! them. What such a model says is noise; how fast it says it is a model's speed.

mod draw;
mod shape;
mod tensors;
mod vocab;
mod write;

use crate::gguf::{Gguf, TensorType, Writer};
use crate::model::ModelError;

pub(crate) use draw::{draw, drawn_bytes};
pub use shape::{Family, Mixture, SHAPES, Shape};
pub use write::{WriteError, write};

/// Types that a synthetic model's matrices can be stored in.
pub const QUANTS: [TensorType; 15] = [
    TensorType::BF16,
    TensorType::F16,
    TensorType::Q8_0,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q2_K,
    TensorType::Q3_K,
    TensorType::Q4_K,
    TensorType::Q5_K,
    TensorType::Q6_K,
    TensorType::IQ4_NL,
    TensorType::IQ4_XS,
    TensorType::MXFP4,
];

/// How many times its first context a gpt-oss or a Phi-3 has.
const ROPE_FACTOR: usize = 32;

/// The type of this name, such as `q4_0`.
///
/// # Errors
/// A sentence with the names.
pub fn quant(name: &str) -> Result<TensorType, String> {
    let named = QUANTS.into_iter().find(|ty| ty.name().to_lowercase() == name);
    named.ok_or_else(|| format!("there are {}", quant_names()))
}

/// The names of [`QUANTS`], in a list.
pub fn quant_names() -> String {
    QUANTS.map(|ty| ty.name().to_lowercase()).join(", ")
}

/// The model of a shape: its matrices in `quant`, drawn from `seed`, and a vocabulary of single bytes.
///
/// # Errors
/// The shape's rows are not whole blocks of that type.
pub fn model(shape: &Shape, quant: TensorType, seed: u64) -> Result<Gguf, ModelError> {
    let mut header = Writer::new();
    let architecture = shape.family.architecture();
    header.text("general.architecture", architecture);
    header.text("general.name", &format!("{} with random weights, seed {seed}", shape.name));
    let mut sizes = vec![
        ("block_count", shape.blocks),
        ("context_length", shape.context),
        ("embedding_length", shape.hidden),
        ("feed_forward_length", shape.feed_forward),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
        ("attention.key_length", shape.head_dim),
        ("attention.value_length", shape.head_dim),
        ("vocab_size", shape.vocab),
    ];
    sizes.extend(shape.window.map(|window| ("attention.sliding_window", window)));
    let mut floats = vec![];
    if let Family::Gpt2 = shape.family {
        floats.push(("attention.layer_norm_epsilon", 1e-5));
    } else {
        sizes.push(("rope.dimension_count", shape.head_dim));
        floats.extend([("attention.layer_norm_rms_epsilon", 1e-5), ("rope.freq_base", shape.rope_base)]);
    }
    let original = shape.context / ROPE_FACTOR;
    if let Family::Phi3 = shape.family {
        // By its publisher's formula; the factors themselves are drawn, near 1.
        let square = 1.0 + libm::log(ROPE_FACTOR as f64) / libm::log(original as f64);
        sizes.push(("rope.scaling.original_context_length", original));
        floats.push(("rope.scaling.attn_factor", libm::sqrt(square) as f32));
    }
    if let Family::GptOss(Mixture { experts, used }) = shape.family {
        sizes.extend([
            ("expert_count", experts),
            ("expert_used_count", used),
            ("expert_feed_forward_length", shape.feed_forward),
            ("rope.scaling.original_context_length", original),
        ]);
        header.text(&format!("{architecture}.rope.scaling.type"), "yarn");
        floats.push(("rope.scaling.factor", ROPE_FACTOR as f32));
    }
    for (key, value) in sizes {
        header.u32(&format!("{architecture}.{key}"), value as u32);
    }
    for (key, value) in floats {
        header.f32(&format!("{architecture}.{key}"), value);
    }
    vocab::describe(&mut header, shape);
    let model_name = format!("{} {}", shape.name, quant.name().to_lowercase());
    for (name, dims, ty) in shape.tensors(quant) {
        if !dims[0].is_multiple_of(ty.block_values()) {
            let (row, block) = (dims[0], ty.block_values());
            let problem = format!("rows of {row} values are not whole blocks of {block} {ty} values");
            return Err(ModelError::Tensor { path: model_name.into(), name, problem });
        }
        header.tensor(&name, &dims, ty);
    }
    Ok(Gguf::drawn(&model_name, header.header(), seed)?)
}
