//! The architectures that this program runs, and what each consists of.

use crate::device::DeviceError;
use crate::gguf::Gguf;
use crate::model::block_loader::BlockLoader;
use crate::model::config::Pairing;
use crate::model::linear::Linear;
use crate::model::norm::Norm;
use crate::model::step::Step;
use crate::model::weights::Loader;
use crate::model::{ModelError, gpt2, llama, phi3, qwen2, qwen3};
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
    /// Loads a block.
    pub(super) block: fn(&mut BlockLoader<'_, '_>) -> Result<Box<dyn Block>, ModelError>,
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
}

/// All of them, a file each.
const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "llama",
        positions: Positions::Rotary(Pairing::Interleaved),
        window: Window::None,
        epsilon: RMS_EPSILON,
        norm: Norm::rms,
        block: llama::load,
    },
    Architecture {
        name: "qwen2",
        positions: Positions::Rotary(Pairing::SplitHalf),
        window: Window::None,
        epsilon: RMS_EPSILON,
        norm: Norm::rms,
        block: qwen2::load,
    },
    Architecture {
        name: "qwen3",
        positions: Positions::Rotary(Pairing::SplitHalf),
        window: Window::None,
        epsilon: RMS_EPSILON,
        norm: Norm::rms,
        block: qwen3::load,
    },
    Architecture {
        name: "phi3",
        positions: Positions::Rotary(Pairing::SplitHalf),
        window: Window::None,
        epsilon: RMS_EPSILON,
        norm: Norm::rms,
        block: phi3::load,
    },
    Architecture {
        name: "gpt2",
        positions: Positions::Learned,
        window: Window::None,
        epsilon: "attention.layer_norm_epsilon",
        norm: Norm::layer,
        block: gpt2::load,
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

/// A transformer block.
pub(super) trait Block {
    /// Its matrices, and which rows they multiply.
    fn linears(&self) -> Vec<(Input, &Linear)>;

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
