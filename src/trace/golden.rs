//! Golden data: what an independent reference computed for a model.

use std::fs;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;

use super::TraceError;

/// A golden file.
#[derive(Debug, Deserialize)]
pub(super) struct Golden {
    /// Of the model's file.
    pub(super) sha256: String,
    pub(super) prompts: Vec<GoldenPrompt>,
    #[serde(default)]
    pub(super) options: Options,
}

/// How the reference computed, beside what the model's file says.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Options {
    /// Positions that there is room for: RoPE's long factors are those of long contexts.
    pub(super) ctx: Option<usize>,
}

/// What the reference computed for one prompt.
#[derive(Debug, Deserialize)]
pub(super) struct GoldenPrompt {
    pub(super) ids: Vec<u32>,
    pub(super) greedy: Vec<u32>,
    /// By step: how far the best logit lies above the second.
    pub(super) margins: Vec<f64>,
    /// All logits after the prompt; some files keep the best ones only.
    #[serde(default, rename = "final_logits_b64", deserialize_with = "logits")]
    pub(super) final_logits: Option<Vec<f32>>,
    /// The best logits after the prompt.
    #[serde(default)]
    pub(super) final_top: Vec<(u32, f64)>,
    #[serde(default)]
    pub(super) layers: Vec<GoldenLayer>,
}

/// The reference's residual stream after one part of the forward pass.
#[derive(Debug, Deserialize)]
pub(super) struct GoldenLayer {
    pub(super) name: String,
    pub(super) l2_all: f64,
    pub(super) l2_last: f64,
    pub(super) first8_pos0: Vec<f64>,
    pub(super) first8_last: Vec<f64>,
}

impl Golden {
    pub(super) fn read(path: &Path) -> Result<Self, TraceError> {
        let text =
            fs::read_to_string(path).map_err(|error| TraceError::Io { path: path.to_owned(), error })?;
        let wrong = |problem: String| TraceError::Golden { path: path.to_owned(), problem };
        let golden: Golden = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let incomplete = |p: &GoldenPrompt| {
            p.ids.is_empty()
                || p.margins.len() < p.greedy.len()
                || (p.final_logits.is_none() && p.final_top.is_empty())
        };
        if golden.prompts.is_empty() || golden.prompts.iter().any(incomplete) {
            return Err(wrong("has no prompts, or one without ids, margins or logits".to_owned()));
        }
        Ok(golden)
    }
}

fn logits<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<f32>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let bytes = BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)?;
    Ok(Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()))
}
