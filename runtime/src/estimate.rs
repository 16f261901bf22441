//! What a model would take of a device, told without one.

use kernels::kv::PAGE;

use crate::device::{Device, Usage};
use crate::engine::sampler::Sampler;
use crate::gguf::Gguf;
use crate::kv_cache::pages_for;
use crate::model::config::ModelConfig;
use crate::model::{Model, ModelError, Plan};
use crate::numerics::Numerics;
use crate::worker::{plan, step_limits};

/// How a model would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// On a GPU, with cuBLAS; else on the CPU.
    pub gpu: bool,
    /// The arithmetic of its products.
    pub numerics: Numerics,
    /// Sequences computed at once; `None` for what suits the device.
    pub max_batch: Option<usize>,
    /// Tokens that each of them has room for, no more than the model's context.
    pub context: usize,
}

/// What it would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Sequences computed at once.
    pub sequences: usize,
    /// Tokens that each of them has room for.
    pub context: usize,
    /// Tokens computed at once, at most.
    pub step_tokens: usize,
    /// Bytes of keys and values of a token.
    pub kv_token_bytes: usize,
    /// Bytes by purpose.
    pub usage: Usage,
}

/// Bytes that the device's ledger would have after a load: the model is loaded on a device that only counts. What a driver and
/// a library take for themselves is in no ledger.
///
/// # Errors
/// Those of the load: the file describes no model that this program runs.
pub fn estimate(gguf: &Gguf, wanted: Wanted) -> Result<Estimate, ModelError> {
    let config = ModelConfig::from_gguf(gguf)?;
    let step = step_limits(wanted.gpu, wanted.max_batch, None);
    let context = wanted.context.clamp(1, config.context);
    let plan = plan(&config, wanted.numerics, step, step.sequences * pages_for(context));
    Ok(Estimate {
        sequences: step.sequences,
        context,
        step_tokens: plan.limits.tokens,
        kv_token_bytes: Model::page_bytes(gguf, &config, wanted.numerics) / PAGE,
        usage: usage(gguf, plan, wanted.gpu)?,
    })
}

/// Bytes that the ledger would have with a model loaded so.
///
/// # Errors
/// As [`estimate`].
pub(crate) fn usage(gguf: &Gguf, plan: Plan, gpu: bool) -> Result<Usage, ModelError> {
    let device = Device::planned(gpu);
    let model = Model::load(&device, gguf, plan, &mut |_, _| ())?;
    let _sampler = Sampler::new(&device, &model)?;
    Ok(device.usage())
}
