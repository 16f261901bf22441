//! Hugging Face folders.

mod files;
mod folder;
mod gpt_oss;
mod mutated;
mod reference;
mod refusals;
mod same_bits;
mod words;

use std::path::{Path, PathBuf};

use runtime::batch::BatchLimits;
use runtime::device::Device;
use runtime::gguf::Gguf;
use runtime::kv_cache::pages_for;
use runtime::model::{Model, Plan};
use runtime::numerics::Numerics;
use runtime::trace::trace_prompt;

/// A file or folder of the test data.
fn golden(name: &str) -> PathBuf {
    std::env::var_os("WORKER_ORCD_TEST_DATA")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden").into(), PathBuf::from)
        .join(name)
}

/// The logits after a prompt, by a model whose context is no longer than that.
fn logits(gguf: &Gguf, numerics: Numerics, ids: &[u32]) -> Result<Vec<f32>, String> {
    let device = Device::cpu(2);
    let limits = BatchLimits { tokens: ids.len(), sequences: 1, context: ids.len() };
    let plan = Plan { numerics, limits, pages: pages_for(ids.len()) };
    let mut model = Model::load(&device, gguf, plan, &mut |_, _| ()).map_err(|error| error.to_string())?;
    Ok(trace_prompt(&device, &mut model, ids, 0, false).map_err(|error| error.to_string())?.final_logits)
}

/// A folder of the test data as a model.
fn open(folder: &Path) -> Gguf {
    runtime::huggingface::open(folder, None).expect("a folder that loads")
}
