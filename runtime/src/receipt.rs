//! Receipts: what a completion was made of, so that anybody who has the model and the prompt can make it again.
//!
//! A receipt holds hashes and the client's own parameters, never the prompt or the text. Its JSON is read strictly: a field
//! that is not known might change the answer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ModelInfo;
use crate::engine::DEFAULT_MAX_TOKENS;
use crate::numerics::NUMERICS_VERSION;
use crate::request::{Completion, Request, Sampling, StopReason};

/// The layout of a receipt's JSON. Raised with every field that comes, goes or changes its meaning, [`Sampling`]'s among
/// them.
pub const FORMAT: u32 = 1;

/// A BLAKE3 hash; 64 hexadecimal digits in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

/// What makes a completion, and what came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// [`FORMAT`].
    pub format: u32,
    /// The model's file.
    pub model: Model,
    /// SHA-256 over the kernels' PTX, also where the CPU computed.
    pub ptx_sha256: String,
    /// The arithmetic of matrix products: `f32`, `tc`.
    pub numerics: String,
    /// [`NUMERICS_VERSION`] of the program that answered.
    pub numerics_version: u32,
    /// What computed it: `cpu`, or `cuda` and the GPU's architecture, as in `cuda sm_90`.
    pub device: String,
    /// What was asked for.
    pub request: Asked,
    /// The generated tokens, an end-of-sequence token not among them.
    pub output: Ids,
    /// Why there are no more.
    pub stop_reason: StopReason,
}

/// A model's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What its server calls it.
    pub name: String,
    /// The hash of the whole file.
    pub blake3: Digest,
}

/// All of a request that its answer depends on; of the prompt, the hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The prompt's tokens, special tokens included.
    pub prompt: Ids,
    /// See [`Request`].
    pub max_tokens: u32,
    /// See [`Request`].
    pub min_tokens: u32,
    /// See [`Request`].
    pub ignore_eos: bool,
    /// See [`Request`].
    pub stop: Vec<String>,
    /// How each token was chosen, the seed included.
    pub sampling: Sampling,
}

/// Token ids, by number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ids {
    /// How many.
    pub tokens: u32,
    /// The hash of the ids, each as four bytes, the lowest first.
    pub blake3: Digest,
}

impl Receipt {
    /// The receipt of a completion by the loaded model, whose file has the hash `model`, and by a program with the PTX
    /// `ptx_sha256`.
    pub fn new(
        info: &ModelInfo,
        model: Digest,
        ptx_sha256: &str,
        request: Asked,
        completion: &Completion,
    ) -> Self {
        Self {
            format: FORMAT,
            model: Model { name: info.name.clone(), blake3: model },
            ptx_sha256: ptx_sha256.to_owned(),
            numerics: info.numerics.clone(),
            numerics_version: NUMERICS_VERSION,
            device: device(info),
            request,
            output: Ids { tokens: completion.tokens_out, blake3: Digest(completion.output_hash) },
            stop_reason: completion.stop_reason.clone(),
        }
    }
}

/// The kind of device that a model is on, as a receipt has it.
pub fn device(info: &ModelInfo) -> String {
    match &info.sm {
        Some(sm) if info.device != "cpu" => format!("cuda {sm}"),
        _ => "cpu".to_owned(),
    }
}

impl Asked {
    /// What the engine is asked for.
    pub fn of(request: &Request) -> Self {
        Self {
            prompt: Ids::of(&request.prompt),
            max_tokens: request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
            min_tokens: request.min_tokens,
            ignore_eos: request.ignore_eos,
            stop: request.stop.clone(),
            sampling: request.sampling.clone(),
        }
    }

    /// The same request again, with the prompt that was asked then.
    pub fn again(&self, job_id: &str, prompt: Vec<u32>) -> Request {
        Request {
            job_id: job_id.to_owned(),
            correlation_id: job_id.to_owned(),
            prompt,
            max_tokens: Some(self.max_tokens),
            min_tokens: self.min_tokens,
            ignore_eos: self.ignore_eos,
            stop: self.stop.clone(),
            sampling: self.sampling.clone(),
            ..Request::default()
        }
    }
}

impl Ids {
    /// The number and hash of these.
    pub fn of(ids: &[u32]) -> Self {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Self { tokens: ids.len() as u32, blake3: Digest::of(&bytes) }
    }
}

impl Digest {
    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hash = blake3::Hash::from_hex(text);
        hash.map(|hash| Self(*hash.as_bytes())).map_err(|_| "a hash is 64 hexadecimal digits".to_owned())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
