//! What computes a step for the engine.

use crate::batch::Batch;
use crate::device::Device;
use crate::engine::sampler::{Row, Sampler};
use crate::model::{Model, ModelError};
use crate::request::Chosen;

/// Computes steps: a model on its device, or in tests something that can be looked into.
pub(crate) trait Compute {
    /// Computes a batch; the tokens chosen for the rows of its output, in order. A failed step may have written to any of the
    /// batch's slots. `meanwhile` is called when the device is at work; not if it cannot be.
    fn step(
        &mut self,
        batch: &Batch,
        rows: &[Row<'_>],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Vec<Chosen>, ModelError>;

    /// Whether another step could work after one that failed.
    fn probe(&mut self) -> Result<(), ModelError>;
}

/// A model on its device.
pub(crate) struct OnDevice {
    pub(crate) device: Device,
    pub(crate) model: Model,
    pub(crate) sampler: Sampler,
}

impl Compute for OnDevice {
    fn step(
        &mut self,
        batch: &Batch,
        rows: &[Row<'_>],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Vec<Chosen>, ModelError> {
        if self.device.as_cuda().is_none() {
            // Its work is done when the call returns.
            meanwhile();
        }
        self.model.forward(&self.device, batch, None)?;
        meanwhile();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.sampler.sample(&self.device, &self.model, rows)?)
    }

    fn probe(&mut self) -> Result<(), ModelError> {
        Ok(self.sampler.probe(&self.device)?)
    }
}
