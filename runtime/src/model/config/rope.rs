//! How positions turn queries and keys.

use super::fields::Fields;
use crate::model::ModelError;

/// How positions turn queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeConfig {
    /// Elements of a head that turn.
    pub rotated: usize,
    /// The base of the frequencies.
    pub base: f64,
    /// Which elements form a pair.
    pub pairing: Pairing,
    /// What is done to the frequencies beyond the context that a model was first trained for.
    pub scaling: Scaling,
    /// Cosines and sines are multiplied by it.
    pub magnitude: f64,
}

/// Which elements of a head form a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// `(2i, 2i + 1)`: Llama, whose GGUF files hold Q and K permuted for it.
    Interleaved,
    /// `(i, i + rotated / 2)`: the others.
    SplitHalf,
}

/// What is done to frequencies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// All are divided by a factor (Chen et al. 2023); by 1 if nothing is done.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// The slow ones are divided by a factor, the fast ones stay, those between are mixed (Peng et al. 2023).
    Yarn {
        /// The factor.
        factor: f64,
        /// Positions of the first training.
        original: f64,
        /// Who turns so often over these positions, or more, is fast.
        beta_fast: f64,
        /// Who turns so often, or less, is slow.
        beta_slow: f64,
        /// Whether the range of those between is rounded to whole pairs, as in all GGUF files of others.
        truncate: bool,
    },
    /// Each is divided by a factor of its own, other ones in contexts beyond the original (Ding et al. 2024).
    Long {
        /// Positions of the first training.
        original: usize,
    },
}

impl RopeConfig {
    /// Nothing turns.
    pub(super) const NONE: Self = Self {
        rotated: 0,
        base: 1.0,
        pairing: Pairing::SplitHalf,
        scaling: Scaling::Linear { factor: 1.0 },
        magnitude: 1.0,
    };

    pub(super) fn read(
        fields: &Fields<'_>,
        head_dim: usize,
        context: usize,
        pairing: Pairing,
    ) -> Result<Self, ModelError> {
        let rotated = fields.optional("rope.dimension_count", Fields::size)?.unwrap_or(head_dim);
        if rotated > head_dim || rotated % 2 != 0 {
            let problem = format!("{rotated} is no even number up to the head's {head_dim}");
            return Err(fields.wrong("rope.dimension_count", problem));
        }
        let base = fields.positive("rope.freq_base")?.unwrap_or(10_000.0);
        let magnitude = fields.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let original = fields.optional("rope.scaling.original_context_length", |fields, name| {
            fields.size_up_to(name, u32::MAX)
        })?;
        let original = original.unwrap_or(context);
        let kind = fields.optional("rope.scaling.type", |fields, name| {
            Ok(fields.gguf.str(&fields.key(name))?.to_owned())
        })?;
        let has_long = fields.gguf.tensor("rope_factors_long.weight").is_some();
        let (scaling, magnitude) = match kind.as_deref() {
            Some("longrope") => (Scaling::Long { original }, magnitude),
            // Phi-3's files have the factors, and say nothing of a type.
            None | Some("none") if has_long => (Scaling::Long { original }, magnitude),
            Some(kind @ ("linear" | "yarn")) if has_long => {
                let problem =
                    format!("{kind:?} beside the tensor \"rope_factors_long.weight\" is not supported");
                return Err(fields.wrong("rope.scaling.type", problem));
            }
            Some("none") => (Scaling::Linear { factor: 1.0 }, magnitude),
            None | Some("linear") => (Scaling::Linear { factor: factor(fields)? }, magnitude),
            Some("yarn") => yarn(fields, original as f64, magnitude)?,
            Some(other) => {
                return Err(fields.wrong("rope.scaling.type", format!("{other:?} is not supported")));
            }
        };
        Ok(Self { rotated, base, pairing, scaling, magnitude })
    }
}

/// Positions are divided by it. Files say 0 for nothing.
fn factor(fields: &Fields<'_>) -> Result<f64, ModelError> {
    for name in ["rope.scaling.factor", "rope.scale_linear"] {
        match fields.optional(name, Fields::float)? {
            None => {}
            Some(0.0) => return Ok(1.0),
            Some(factor) if factor > 0.0 => return Ok(factor),
            Some(factor) => return Err(fields.wrong(name, format!("{factor} is no factor"))),
        }
    }
    Ok(1.0)
}

/// YaRN, and its magnitude: `1 + ln(factor) / 10`.
fn yarn(fields: &Fields<'_>, original: f64, magnitude: f64) -> Result<(Scaling, f64), ModelError> {
    // Of other values than these the formulas differ between programs.
    for (name, usual) in [("yarn_ext_factor", 1.0), ("yarn_attn_factor", 1.0), ("yarn_log_multiplier", 0.0)] {
        let name = format!("rope.scaling.{name}");
        if let Some(value) = fields.optional(&name, Fields::float)?.filter(|&value| value != usual) {
            return Err(fields.wrong(&name, format!("{value} is not supported, {usual} is")));
        }
    }
    let factor = factor(fields)?;
    let scaling = Scaling::Yarn {
        factor,
        original,
        beta_fast: fields.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
        beta_slow: fields.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        truncate: fields
            .optional("rope.scaling.yarn_truncate", |fields, name| {
                Ok(fields.gguf.bool(&fields.key(name))?)
            })?
            .unwrap_or(true),
    };
    Ok((scaling, magnitude * (1.0 + 0.1 * libm::log(factor))))
}
