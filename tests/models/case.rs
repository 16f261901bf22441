//! Which model a proof is of, where it runs and how.

use std::fmt;
use std::path::PathBuf;

use libtest_mimic::Failed;
use runtime::gguf::{Gguf, TensorType};
use runtime::numerics::Numerics;
use runtime::synthetic::{self, Shape};
use runtime::worker::DeviceChoice;

use crate::common::{data, golden};

/// A model.
#[derive(Clone)]
pub(crate) enum Subject {
    /// A file of the test data.
    Fixture(&'static str),
    /// The synthetic shape for tests whose rows may be stored so, with a longer context.
    Drawn(TensorType),
    /// The synthetic mixture for tests, its experts stored so, with a longer context.
    Mixture(TensorType),
    /// SmolLM2's file.
    Smollm2(PathBuf),
}

/// A model on a device in one of the numerics.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) subject: Subject,
    pub(crate) device: DeviceChoice,
    pub(crate) numerics: Numerics,
}

/// Positions of a sequence that proofs use at most.
pub(crate) const CONTEXT: usize = 1024;

/// Positions of the synthetic models: two borders of attention's chunks, of 128, lie within.
const DRAWN_CONTEXT: usize = 320;

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixture(name) => f.write_str(name),
            Self::Drawn(ty) => write!(f, "tiny-{}", ty.name().to_lowercase()),
            Self::Mixture(ty) => write!(f, "tiny-gpt-oss-{}", ty.name().to_lowercase()),
            Self::Smollm2(_) => f.write_str("smollm2-135m"),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.subject, self.device, self.numerics)
    }
}

impl Subject {
    pub(crate) fn gguf(&self) -> Result<Gguf, Failed> {
        Ok(match self {
            Self::Fixture(name) => Gguf::open(&data(&format!("{name}.gguf")))?,
            Self::Smollm2(path) => Gguf::open(path)?,
            Self::Drawn(ty) => drawn(if ty.block_values() == 256 { "tiny-256" } else { "tiny" }, *ty)?,
            Self::Mixture(ty) => drawn("tiny-gpt-oss", *ty)?,
        })
    }

    /// Prompts, each with a number of greedy steps: those of the golden data where there are any.
    pub(crate) fn prompts(&self) -> Result<Vec<(Vec<u32>, usize)>, Failed> {
        if let Self::Drawn(_) | Self::Mixture(_) = self {
            return Ok([5, 17, 150].map(|len| (text(len as u64, len, 256), 16)).into());
        }
        let golden = golden(&self.to_string())?;
        let prompts = golden["prompts"].as_array().ok_or("no prompts")?;
        let ids = |value: &serde_json::Value| serde_json::from_value::<Vec<u32>>(value.clone());
        prompts.iter().map(|prompt| Ok((ids(&prompt["ids"])?, ids(&prompt["greedy"])?.len()))).collect()
    }
}

/// The model of a synthetic shape.
fn drawn(shape: &str, quant: TensorType) -> Result<Gguf, Failed> {
    let mut shape = Shape::named(shape)?.clone();
    shape.context = DRAWN_CONTEXT;
    Ok(synthetic::model(&shape, quant, 1)?)
}

impl Case {
    /// SmolLM2 on the CPU takes so long that proofs are made with little.
    pub(crate) fn is_slow(&self) -> bool {
        self.device == DeviceChoice::Cpu && matches!(self.subject, Subject::Smollm2(_))
    }

    pub(crate) fn is_cpu(&self) -> bool {
        self.device == DeviceChoice::Cpu
    }
}

/// Made-up token ids below `vocab`, other ones for each seed.
pub(crate) fn text(seed: u64, len: usize, vocab: usize) -> Vec<u32> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        // Knuth's MMIX generator; its upper bits are the random ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocab as u64) as u32
    };
    (0..len).map(|_| next()).collect()
}
