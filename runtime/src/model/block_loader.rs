//! Loads the weights of one block by the names of its parts.

use crate::device::Buffer;
use crate::model::ModelError;
use crate::model::config::{Mixture, ModelConfig};
use crate::model::experts::Experts;
use crate::model::linear::Linear;
use crate::model::norm::{HeadNorms, Norm, Scale};
use crate::model::weights::Loader;
use crate::numerics::Numerics;

/// Loads what the file calls `blk.{block}.{part}`.
pub(super) struct BlockLoader<'a, 'f> {
    pub(super) load: &'a mut Loader<'f>,
    pub(super) config: &'a ModelConfig,
    pub(super) numerics: Numerics,
    pub(super) block: usize,
}

impl BlockLoader<'_, '_> {
    /// The matrices `parts[i]` of `rows[i]` x `columns`, see [`Linear::load`].
    pub(super) fn linear(
        &mut self,
        parts: &[&str],
        rows: &[usize],
        columns: usize,
    ) -> Result<Linear, ModelError> {
        let names: Vec<String> = parts.iter().map(|part| self.name(part)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Linear::load(self.load, self.numerics, &names, rows, columns)
    }

    /// Matrices of `rows[i]` x `columns` which the file holds as one, see [`Linear::fused`].
    pub(super) fn fused(&mut self, part: &str, rows: &[usize], columns: usize) -> Result<Linear, ModelError> {
        Linear::fused(self.load, self.numerics, &self.name(part), rows, columns)
    }

    /// An RMS norm of the residual stream.
    pub(super) fn rms_norm(&mut self, part: &str) -> Result<Norm, ModelError> {
        Norm::rms(self.load, &self.name(part), self.config.hidden, self.config.epsilon)
    }

    /// A layer norm of the residual stream.
    pub(super) fn layer_norm(&mut self, part: &str) -> Result<Norm, ModelError> {
        Norm::layer(self.load, &self.name(part), self.config.hidden, self.config.epsilon)
    }

    /// The norms of Q's and K's heads.
    pub(super) fn head_norms(&mut self, q: &str, k: &str) -> Result<HeadNorms, ModelError> {
        let (epsilon, dim) = (self.config.epsilon, self.config.heads.dim);
        let mut scale = |part: &str| {
            let w = self.load.vector(&format!("{}.weight", self.name(part)), dim)?;
            Ok::<_, ModelError>(Scale { w, epsilon })
        };
        Ok(HeadNorms { q: scale(q)?, k: scale(k)? })
    }

    /// What the file says of the mixture.
    pub(super) fn mixture(&self) -> Result<Mixture, ModelError> {
        self.config
            .mixture
            .ok_or_else(|| self.load.wrong(&self.name("ffn_gate_exps"), "no mixture".to_owned()))
    }

    /// The matrices of some experts, see [`Experts::load`]: their number, and each one's rows and columns.
    pub(super) fn experts(&mut self, part: &str, sizes: [usize; 3]) -> Result<Experts, ModelError> {
        Experts::load(self.load, self.numerics, &self.name(part), sizes)
    }

    /// A vector of `len` values.
    pub(super) fn vector(&mut self, part: &str, len: usize) -> Result<Buffer<f32>, ModelError> {
        self.load.vector(&format!("{}.weight", self.name(part)), len)
    }

    /// That each of these matrices has a bias, without which the architecture would be another.
    pub(super) fn expect_biases(&self, parts: &[&str]) -> Result<(), ModelError> {
        let names = parts.iter().map(|part| format!("{}.bias", self.name(part)));
        match names.into_iter().find(|name| !self.load.has(name)) {
            Some(name) => Err(self.load.wrong(&name, "is missing".to_owned())),
            None => Ok(()),
        }
    }

    fn name(&self, part: &str) -> String {
        format!("blk.{}.{part}", self.block)
    }
}
