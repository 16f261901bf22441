//! The architectures that this program runs, and what each consists of.

use crate::device::DeviceError;
use crate::gguf::Gguf;
use crate::model::block_loader::BlockLoader;
use crate::model::config::Pairing;
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
    /// Whether a tensor of this name takes part in what the architecture computes.
    fn has(&self, tensor: &str) -> bool {
        let in_block = tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        match in_block.map_or(tensor, |(_, part)| part).rsplit_once('.') {
            Some((part, kind)) if in_block.is_some() => {
                let Parts { biased, unbiased } = self.parts;
                (biased.contains(&part) && ["weight", "bias"].contains(&kind))
                    || (unbiased.contains(&part) && kind == "weight")
            }
            Some(("token_embd" | "output" | "output_norm", "weight") | ("output", "bias")) => true,
            Some(("output_norm", "bias")) => self.parts.biased.contains(&"attn_norm"),
            Some(("position_embd", "weight")) => matches!(self.positions, Positions::Learned),
            Some(("rope_freqs" | "rope_factors_long" | "rope_factors_short", "weight")) => {
                matches!(self.positions, Positions::Rotary(_))
            }
            _ => false,
        }
    }

    /// That every tensor of a file takes part: one that does not belongs to another computation than this.
    ///
    /// # Errors
    /// Names the first that does not.
    pub(super) fn check(&self, gguf: &Gguf) -> Result<(), ModelError> {
        match gguf.tensors().iter().find(|tensor| !self.has(&tensor.name)) {
            None => Ok(()),
            Some(tensor) => Err(ModelError::Tensor {
                path: gguf.path().to_owned(),
                name: tensor.name.clone(),
                problem: format!("is no part of the architecture {:?} as this program knows it", self.name),
            }),
        }
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
