//! What `config.json` says of a mixture of experts: gpt-oss's.

use super::error::FolderError;
use super::json::Fields;
use super::mxfp4;
use crate::gguf::Writer;

/// The most experts that are believed.
const MAX_EXPERTS: u32 = 1 << 16;

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mixture {
    /// Experts of a layer.
    pub(super) experts: usize,
    /// Experts that compute a token.
    used: usize,
    /// Whether their matrices are stored in MXFP4.
    pub(super) packed: bool,
}

impl Mixture {
    /// Reads its fields, in a model of which these are `hidden_size` and `intermediate_size`.
    pub(super) fn read(fields: &mut Fields, hidden: usize, inner: usize) -> Result<Self, FolderError> {
        let experts = either(fields, "num_local_experts", "num_experts")?;
        let used = either(fields, "num_experts_per_tok", "experts_per_token")?;
        if used > experts {
            return Err(
                fields.wrong("num_experts_per_tok", format!("is {used}, and num_local_experts is {experts}"))
            );
        }
        // The activation's two numbers.
        fields.only("swiglu_alpha", 1.702)?;
        fields.only("swiglu_limit", 7.0)?;
        let packed = match fields.object("quantization_config")? {
            None => false,
            Some(mut quantization) => {
                let method = quantization.text("quant_method")?;
                match quantization.required("quant_method", method)?.as_str() {
                    "mxfp4" => {}
                    other => {
                        let problem =
                            format!("is {other:?}, which is not supported; \"mxfp4\" is, of experts");
                        return Err(quantization.wrong("quant_method", problem));
                    }
                }
                // Which matrices are not stored so, and whether the library keeps those that are.
                quantization.finish(&["modules_to_not_convert", "dequantize"])?;
                true
            }
        };
        for (name, size) in [("hidden_size", hidden), ("intermediate_size", inner)] {
            if packed && !size.is_multiple_of(mxfp4::VALUES) {
                let problem = format!("is {size}, and blocks of MXFP4 have {} values", mxfp4::VALUES);
                return Err(fields.wrong(name, problem));
            }
        }
        Ok(Self { experts, used, packed })
    }

    /// The keys that GGUF files of such models have.
    pub(super) fn describe(&self, inner: usize, header: &mut Writer, key: impl Fn(&str) -> String) {
        for (name, value) in [
            ("expert_count", self.experts),
            ("expert_used_count", self.used),
            ("expert_feed_forward_length", inner),
        ] {
            header.u32(&key(name), value as u32);
        }
    }
}

/// A number that has two names; files may have both.
fn either(fields: &mut Fields, name: &str, other: &str) -> Result<usize, FolderError> {
    let (first, second) = (fields.size_up_to(name, MAX_EXPERTS)?, fields.size_up_to(other, MAX_EXPERTS)?);
    match (first, second) {
        (Some(first), Some(second)) if first != second => {
            Err(fields.wrong(other, format!("is {second}, and {name} is {first}")))
        }
        _ => fields.required(name, first.or(second)),
    }
}

/// That layers have a window by turns, the first one among them.
pub(super) fn check_layers(fields: &mut Fields, blocks: usize) -> Result<(), FolderError> {
    let by_turns = |i: usize| if i.is_multiple_of(2) { "sliding_attention" } else { "full_attention" };
    let Some(kinds) = fields.take("layer_types") else { return Ok(()) };
    let Some(kinds) = kinds.as_array() else {
        return Err(fields.wrong("layer_types", "is no list"));
    };
    if kinds.len() != blocks {
        return Err(fields.wrong("layer_types", format!("has {} layers of {blocks}", kinds.len())));
    }
    match kinds.iter().enumerate().find(|&(i, kind)| kind != by_turns(i)) {
        None => Ok(()),
        Some((i, kind)) => {
            let problem =
                format!("has {kind} for layer {i}, which is not supported there; {:?} is", by_turns(i));
            Err(fields.wrong("layer_types", problem))
        }
    }
}
