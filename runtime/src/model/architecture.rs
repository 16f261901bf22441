//! The architectures that this program runs, and what each consists of.

use crate::device::DeviceError;
use crate::gguf::Gguf;
use crate::model::block_loader::BlockLoader;
use crate::model::config::{ModelConfig, Pairing, Scaling};
use crate::model::experts::Experts;
use crate::model::linear::Linear;
use crate::model::norm::Norm;
use crate::model::step::Step;
use crate::model::weights::Loader;
use crate::model::{ModelError, gpt_oss, gpt2, llama, phi3, qwen2, qwen3};
use crate::ops::Addend;

/// One architecture: what its name alone says. The rest is in a file's metadata.
pub(super) struct Architecture {
    /// `general.architecture`.
    pub(super) name: &'static str,
    /// How tokens know their places.
    pub(super) positions: Positions,
    /// Which layers look no further back than a window, where a file has one.
    pub(super) window: Window,
    /// The field of what is added to the mean of squares in a norm.
    pub(super) epsilon: &'static str,
    /// Loads one of its norms: the name, the elements in a row, and what is added to the mean of squares.
    pub(super) norm: fn(&mut Loader<'_>, &str, usize, f32) -> Result<Norm, ModelError>,
    /// Whether it is a mixture of experts.
    pub(super) mixture: bool,
    /// What a block's tensors are called.
    pub(super) parts: Parts,
    /// Loads a block.
    pub(super) block: fn(&mut BlockLoader<'_, '_>) -> Result<Box<dyn Block>, ModelError>,
}

/// The tensors of a block: `blk.{i}.{part}.weight`, and `blk.{i}.{part}.bias` of some.
pub(super) struct Parts {
    /// Those that have a bias, too, or may have one.
    pub(super) biased: &'static [&'static str],
    /// Those that have none.
    pub(super) unbiased: &'static [&'static str],
}

/// How tokens know their places.
pub(super) enum Positions {
    /// Queries and keys turn.
    Rotary(Pairing),
    /// A table of rows that are added to the tokens'.
    Learned,
}

/// Which layers have the window of `attention.sliding_window`.
pub(super) enum Window {
    /// None: one that is smaller than the context is not supported.
    None,
    /// All.
    EveryLayer,
    /// The first, the third and so on; there must be one.
    EvenLayers,
}

/// All of them, a file each.
const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "llama",
        positions: Positions::Rotary(Pairing::Interleaved),
        window: Window::EveryLayer,
        epsilon: RMS_EPSILON,
        norm: Norm::rms,
        mixture: false,
        parts: llama::PARTS,
        block: llama::load,
    },
    Architecture {
        name: "qwen2",
        positions: Positions::Rotary(Pairing::SplitHalf),
        window: Window::None,
        epsilon: RMS_EPSILON,
        norm: Norm::rms,
        mixture: false,
        parts: qwen2::PARTS,
        block: qwen2::load,
    },
    Architecture {
        name: "qwen3",
        positions: Positions::Rotary(Pairing::SplitHalf),
        window: Window::None,
        epsilon: RMS_EPSILON,
        norm: Norm::rms,
        mixture: false,
        parts: qwen3::PARTS,
        block: qwen3::load,
    },
    Architecture {
        name: "phi3",
        positions: Positions::Rotary(Pairing::SplitHalf),
        window: Window::EveryLayer,
        epsilon: RMS_EPSILON,
        norm: Norm::rms,
        mixture: false,
        parts: phi3::PARTS,
        block: phi3::load,
    },
    Architecture {
        name: "gpt2",
        positions: Positions::Learned,
        window: Window::None,
        epsilon: "attention.layer_norm_epsilon",
        norm: Norm::layer,
        mixture: false,
        parts: gpt2::PARTS,
        block: gpt2::load,
    },
    Architecture {
        name: "gpt-oss",
        positions: Positions::Rotary(Pairing::SplitHalf),
        window: Window::EvenLayers,
        epsilon: RMS_EPSILON,
        norm: Norm::rms,
        mixture: true,
        parts: gpt_oss::PARTS,
        block: gpt_oss::load,
    },
];

const RMS_EPSILON: &str = "attention.layer_norm_rms_epsilon";

impl Architecture {
    /// That of a file.
    ///
    /// # Errors
    /// The file names none, or one that is not among these.
    pub(super) fn of(gguf: &Gguf) -> Result<&'static Self, ModelError> {
        let name = gguf.str("general.architecture")?;
        let named = ARCHITECTURES.iter().find(|architecture| architecture.name == name);
        named.ok_or_else(|| ModelError::Architecture {
            path: gguf.path().to_owned(),
            name: name.to_owned(),
            supported: ARCHITECTURES
                .iter()
                .map(|architecture| architecture.name)
                .collect::<Vec<_>>()
                .join(", "),
        })
    }
}

impl Architecture {
    /// Why a tensor of this name takes no part in what a model computes, if it does not.
    fn problem(&self, tensor: &str, gguf: &Gguf, config: &ModelConfig) -> Option<String> {
        let foreign =
            || Some(format!("is no part of the architecture {:?} as this program knows it", self.name));
        let Some((path, kind)) = tensor.rsplit_once('.') else { return foreign() };
        if let Some((block, part)) = path.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            let Parts { biased, unbiased } = self.parts;
            let known = match kind {
                "weight" => biased.contains(&part) || unbiased.contains(&part),
                "bias" => biased.contains(&part),
                _ => false,
            };
            let is_loaded = block.parse::<usize>().is_ok_and(|i| i < config.blocks && i.to_string() == block);
            return match (known, is_loaded) {
                (false, _) => foreign(),
                (true, false) => Some(format!("is of none of the {} blocks of block_count", config.blocks)),
                (true, true) => None,
            };
        }
        let long = matches!(config.rope.scaling, Scaling::Long { .. });
        let rotary = matches!(self.positions, Positions::Rotary(_));
        match (path, kind) {
            ("token_embd" | "output" | "output_norm", "weight") => None,
            ("output", "bias") if gguf.tensor("output.weight").is_some() => None,
            ("output", "bias") => Some("has no output.weight beside it".to_owned()),
            ("output_norm", "bias") if self.parts.biased.contains(&"attn_norm") => None,
            ("position_embd", "weight") if !rotary => None,
            ("rope_freqs", "weight") if rotary && !long => None,
            ("rope_factors_long" | "rope_factors_short", "weight") if rotary && long => None,
            ("rope_freqs" | "rope_factors_long" | "rope_factors_short", "weight") if rotary => {
                Some("takes no part in the scaling that rope.scaling.type names".to_owned())
            }
            _ => foreign(),
        }
    }

    /// That every tensor of a file takes part: one that does not belongs to another computation than this.
    ///
    /// # Errors
    /// Names the first that does not.
    pub(super) fn check(&self, gguf: &Gguf, config: &ModelConfig) -> Result<(), ModelError> {
        for tensor in gguf.tensors() {
            if let Some(problem) = self.problem(&tensor.name, gguf, config) {
                let (path, name) = (gguf.path().to_owned(), tensor.name.clone());
                return Err(ModelError::Tensor { path, name, problem });
            }
        }
        Ok(())
    }
}

/// A transformer block.
pub(super) trait Block {
    /// Its matrices, and which rows they multiply.
    fn linears(&self) -> Vec<(Input, &Linear)>;

    /// The matrices of its experts, and which rows they multiply.
    fn experts(&self) -> Vec<(Input, &Experts)> {
        Vec::new()
    }

    /// Adds `before` and what its first part gives to the residual stream, and gives what the second part adds.
    fn forward<'a>(
        &'a self,
        step: &Step<'a>,
        layer: usize,
        before: Option<Addend<'a>>,
    ) -> Result<Addend<'a>, DeviceError>;
}

/// The rows of a step that a matrix multiplies: see [`Activations`](crate::model::activations::Activations).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// The normed residual stream.
    Normed,
    /// What attention gives.
    Attended,
    /// The activation within the feed-forward part.
    Inner,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{TensorType, Writer};

    /// What is said of a llama of two blocks with these tensors beside its embedding.
    fn checked(scaling: Option<&str>, tensors: &[&str]) -> Result<(), String> {
        let mut header = Writer::new();
        header.text("general.architecture", "llama");
        for (key, value) in [
            ("block_count", 2),
            ("embedding_length", 32),
            ("feed_forward_length", 32),
            ("attention.head_count", 1),
            ("context_length", 64),
        ] {
            header.u32(&format!("llama.{key}"), value);
        }
        header.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
        if let Some(scaling) = scaling {
            header.text("llama.rope.scaling.type", scaling);
        }
        header.tensor("token_embd.weight", &[32, 4], TensorType::F32);
        tensors.iter().for_each(|name| header.tensor(name, &[16], TensorType::F32));
        let gguf = Gguf::drawn("x", header.header(), 0).expect("a header");
        let config = ModelConfig::from_gguf(&gguf).expect("a configuration");
        let architecture = Architecture::of(&gguf).expect("a llama");
        architecture.check(&gguf, &config).map_err(|error| error.to_string())
    }

    #[test]
    fn what_takes_part_passes() {
        let (freqs, short, long) =
            ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight");
        assert_eq!(
            checked(None, &["blk.0.attn_q.weight", "blk.1.ffn_down.bias", "output_norm.weight"]),
            Ok(())
        );
        assert_eq!(checked(None, &["output.weight", "output.bias", freqs]), Ok(()));
        assert_eq!(checked(Some("linear"), &[freqs]), Ok(()));
        assert_eq!(checked(None, &[short, long]), Ok(()));
        assert_eq!(checked(Some("longrope"), &[short, long]), Ok(()));
    }

    #[test]
    fn what_nobody_would_read_is_refused_by_name() {
        let (blocks, scaling) = ("is of none of the 2 blocks of block_count", "takes no part in the scaling");
        let (freqs, short, long) =
            ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight");
        for (kind, tensors, problem) in [
            (None, &["blk.2.attn_q.weight"][..], blocks),
            (None, &["blk.00.attn_q.weight"], blocks),
            (None, &["blk.-1.attn_q.bias"], blocks),
            (None, &["blk.18446744073709551616.attn_q.bias"], blocks),
            (None, &["blk.0.attn_x.weight"], "is no part of the architecture \"llama\""),
            (None, &["blk.0.attn_norm.bias"], "is no part of the architecture \"llama\""),
            (None, &["output_norm.bias"], "is no part of the architecture \"llama\""),
            (None, &["position_embd.weight"], "is no part of the architecture \"llama\""),
            (None, &["token_embd"], "is no part of the architecture \"llama\""),
            (None, &["output.bias"], "has no output.weight beside it"),
            (None, &[short], scaling),
            (Some("linear"), &[short], scaling),
            (Some("yarn"), &[short], scaling),
            (None, &[freqs, short, long], scaling),
        ] {
            let error = checked(kind, tensors).expect_err(problem);
            assert!(error.contains(&format!("tensor {:?}: {problem}", tensors[0])), "{error}");
        }
    }
}
