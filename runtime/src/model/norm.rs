//! The norms before a layer's parts.

use crate::device::Buffer;
use crate::model::ModelError;
use crate::model::weights::Loader;

/// A norm of rows, by its weights.
pub enum Norm {
    /// Root-mean-square norm, see [`kernels::norm`].
    Rms(Scale),
    /// Layer norm, see [`kernels::layer_norm`].
    Layer(Scale, Buffer<f32>),
}

/// What a normed row is multiplied by.
pub struct Scale {
    /// `[n]`.
    pub w: Buffer<f32>,
    /// Added to the mean of squares.
    pub epsilon: f32,
}

/// The norms of Q's and K's heads, by weights of `[head_dim]`.
pub struct HeadNorms {
    /// Of the queries.
    pub q: Scale,
    /// Of the keys.
    pub k: Scale,
}

impl Norm {
    /// `{name}.weight` of `n` values.
    ///
    /// # Errors
    /// See [`Loader::vector`].
    pub fn rms(load: &mut Loader<'_>, name: &str, n: usize, epsilon: f32) -> Result<Self, ModelError> {
        let w = load.vector(&format!("{name}.weight"), n)?;
        Ok(Self::Rms(Scale { w, epsilon }))
    }

    /// `{name}.weight` and `{name}.bias` of `n` values.
    ///
    /// # Errors
    /// See [`Loader::vector`].
    pub fn layer(load: &mut Loader<'_>, name: &str, n: usize, epsilon: f32) -> Result<Self, ModelError> {
        let w = load.vector(&format!("{name}.weight"), n)?;
        let bias = load.vector(&format!("{name}.bias"), n)?;
        Ok(Self::Layer(Scale { w, epsilon }, bias))
    }

    /// Elements in a row.
    pub fn width(&self) -> usize {
        match self {
            Self::Rms(scale) | Self::Layer(scale, _) => scale.w.len(),
        }
    }
}
