//! How positions turn queries and keys: the library's names of what is done to frequencies, in GGUF's terms.

use std::f64::consts::TAU;

use super::config::Kind;
use super::error::FolderError;
use super::json::Fields;
use crate::gguf::Writer;

/// Rotary position embedding.
#[derive(Debug)]
pub(super) struct Rope {
    /// Elements of a head that turn.
    rotated: usize,
    base: f64,
    scaling: Scaling,
}

/// What is done to frequencies.
#[derive(Debug)]
enum Scaling {
    None,
    /// All are divided by a factor.
    Linear(f64),
    /// The slow ones are divided by a factor, the fast ones stay, those between are mixed.
    Yarn {
        factor: f64,
        original: usize,
        fast: f64,
        slow: f64,
        /// Whether the range of those between is rounded to whole pairs.
        truncate: bool,
        magnitude: f64,
    },
    /// A divisor for each pair, from a rule like YaRN's.
    Llama3(Vec<f32>),
    /// A divisor for each pair, other ones in contexts beyond the original.
    Long {
        original: usize,
        short: Vec<f32>,
        long: Vec<f32>,
        magnitude: f64,
    },
}

impl Rope {
    /// Reads `rope_parameters`, or `rope_theta` and `rope_scaling` of older files.
    pub(super) fn read(
        fields: &mut Fields,
        kind: Kind,
        head_dim: usize,
        context: usize,
    ) -> Result<Self, FolderError> {
        let is_phi3 = kind == Kind::Phi3;
        let usual_base = if kind == Kind::GptOss { 150_000.0 } else { 10_000.0 };
        let (mut base, mut part) =
            (fields.positive("rope_theta")?, fields.positive("partial_rotary_factor")?);
        // Of some files of Llama's; true is how others pair the elements of a head.
        fields.only("rope_interleaved", false)?;
        let outside = fields.size_up_to("original_max_position_embeddings", u32::MAX)?;
        let (new, old) = (fields.object("rope_parameters")?, fields.object("rope_scaling")?);
        if new.is_some() && old.is_some() {
            return Err(fields.wrong("rope_scaling", "is there beside rope_parameters, which says the same"));
        }
        if kind == Kind::GptOss && new.is_none() && old.is_none() {
            // The library's defaults are those of one model, and have changed.
            return fields.required("rope_scaling", None);
        }
        let mut scaling = Scaling::None;
        if let Some(mut inner) = new.or(old) {
            base = inner.positive("rope_theta")?.or(base);
            part = inner.positive("partial_rotary_factor")?.or(part);
            let original = inner.size_up_to("original_max_position_embeddings", u32::MAX)?;
            let original = outside.or(original);
            let rotated = rotated(fields, is_phi3, head_dim, part)?;
            let base = base.unwrap_or(usual_base);
            scaling = Scaling::read(&mut inner, is_phi3, rotated, base, original, context)?;
            inner.finish(&[])?;
        }
        let rotated = rotated(fields, is_phi3, head_dim, part)?;
        Ok(Self { rotated, base: base.unwrap_or(usual_base), scaling })
    }

    /// The keys under `rope.`.
    pub(super) fn describe(&self, header: &mut Writer, key: impl Fn(&str) -> String) {
        header.u32(&key("rope.dimension_count"), self.rotated as u32);
        header.f32(&key("rope.freq_base"), self.base as f32);
        let scaling = |name: &str| key(&format!("rope.scaling.{name}"));
        match &self.scaling {
            Scaling::None | Scaling::Llama3(_) => {}
            Scaling::Linear(factor) => {
                header.text(&scaling("type"), "linear");
                header.f32(&scaling("factor"), *factor as f32);
            }
            Scaling::Yarn { factor, original, fast, slow, truncate, magnitude } => {
                header.text(&scaling("type"), "yarn");
                header.f32(&scaling("factor"), *factor as f32);
                header.u32(&scaling("original_context_length"), *original as u32);
                header.f32(&scaling("yarn_beta_fast"), *fast as f32);
                header.f32(&scaling("yarn_beta_slow"), *slow as f32);
                if !truncate {
                    // Others round in any case, and have no key that says so.
                    header.bool(&scaling("yarn_truncate"), false);
                }
                header.f32(&scaling("attn_factor"), *magnitude as f32);
            }
            Scaling::Long { original, magnitude, .. } => {
                header.text(&scaling("type"), "longrope");
                header.u32(&scaling("original_context_length"), *original as u32);
                header.f32(&scaling("attn_factor"), *magnitude as f32);
            }
        }
    }

    /// Tensors of divisors, by the names that GGUF files have for them.
    pub(super) fn tensors(&self) -> Vec<(&'static str, &[f32])> {
        match &self.scaling {
            Scaling::Llama3(divisors) => vec![("rope_freqs.weight", divisors)],
            Scaling::Long { short, long, .. } => {
                vec![("rope_factors_short.weight", short), ("rope_factors_long.weight", long)]
            }
            _ => Vec::new(),
        }
    }
}

/// Elements that turn: so great a part of a head, rounded down; of most architectures all.
fn rotated(fields: &Fields, is_phi3: bool, head_dim: usize, part: Option<f64>) -> Result<usize, FolderError> {
    let rotated = (head_dim as f64 * part.unwrap_or(1.0)) as usize;
    if rotated == 0 || rotated > head_dim || !rotated.is_multiple_of(2) || !(is_phi3 || rotated == head_dim) {
        let problem = format!("makes {rotated} of a head's {head_dim} elements turn, which is not supported");
        return Err(fields.wrong("partial_rotary_factor", problem));
    }
    Ok(rotated)
}

impl Scaling {
    fn read(
        fields: &mut Fields,
        is_phi3: bool,
        rotated: usize,
        base: f64,
        original: Option<usize>,
        context: usize,
    ) -> Result<Self, FolderError> {
        // Older files have the name under another field, newer ones sometimes both.
        let (new, old) = (fields.text("rope_type")?, fields.text("type")?);
        let kind = new.or(old).unwrap_or_else(|| "default".to_owned());
        let factor = fields.positive("factor")?;
        let magnitude = fields.positive("attention_factor")?;
        Ok(match kind.as_str() {
            "default" => Self::None,
            "linear" => Self::Linear(fields.required("factor", factor)?),
            "llama3" => {
                let factor = fields.required("factor", factor)?;
                Self::Llama3(llama3(fields, rotated, base, factor, original.unwrap_or(context))?)
            }
            // Phi-3's earlier files call it so.
            "longrope" => Self::long(fields, rotated, factor, magnitude, original, context)?,
            "su" | "yarn" if is_phi3 => Self::long(fields, rotated, factor, magnitude, original, context)?,
            "yarn" => {
                let factor = fields.required("factor", factor)?;
                for name in ["mscale", "mscale_all_dim"] {
                    if fields.positive(name)?.is_some() {
                        return Err(fields.wrong(name, "is not supported; attention_factor is"));
                    }
                }
                // Readers of GGUF multiply by the usual magnitude themselves.
                let usual = 1.0 + 0.1 * libm::log(factor.max(1.0));
                Self::Yarn {
                    factor,
                    original: original.unwrap_or(context),
                    fast: fields.positive("beta_fast")?.unwrap_or(32.0),
                    slow: fields.positive("beta_slow")?.unwrap_or(1.0),
                    truncate: fields.bool("truncate")?.unwrap_or(true),
                    magnitude: magnitude.unwrap_or(usual) / (1.0 + 0.1 * libm::log(factor)),
                }
            }
            other => return Err(fields.wrong("rope_type", format!("is {other:?}, which is not supported"))),
        })
    }

    fn long(
        fields: &mut Fields,
        rotated: usize,
        factor: Option<f64>,
        magnitude: Option<f64>,
        original: Option<usize>,
        context: usize,
    ) -> Result<Self, FolderError> {
        let original = fields.required("original_max_position_embeddings", original)?;
        let mut divisors = |name: &str| {
            let list = fields.factors(name)?;
            let list = fields.required(name, list)?;
            if list.len() != rotated / 2 {
                return Err(fields.wrong(name, format!("has {} numbers, not {}", list.len(), rotated / 2)));
            }
            Ok(list)
        };
        let (short, long) = (divisors("short_factor")?, divisors("long_factor")?);
        let factor = factor.unwrap_or(context as f64 / original as f64);
        let usual = if factor <= 1.0 {
            1.0
        } else {
            libm::sqrt(1.0 + libm::log(factor) / libm::log(original as f64))
        };
        Ok(Self::Long { original, short, long, magnitude: magnitude.unwrap_or(usual) })
    }
}

/// What each pair's frequency is divided by: 1 if it turns more than `high` times over the original context, the factor if
/// less than `low` times, a mixture between.
fn llama3(
    fields: &mut Fields,
    rotated: usize,
    base: f64,
    factor: f64,
    original: usize,
) -> Result<Vec<f32>, FolderError> {
    let (low, high) = (fields.positive("low_freq_factor")?, fields.positive("high_freq_factor")?);
    let (low, high) = (fields.required("low_freq_factor", low)?, fields.required("high_freq_factor", high)?);
    if high <= low {
        return Err(fields.wrong("high_freq_factor", format!("is {high}, not above the low one of {low}")));
    }
    let divisor = |i: usize| {
        let frequency = libm::pow(base, -2.0 * i as f64 / rotated as f64);
        let turns = original as f64 * frequency / TAU;
        let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - keep) / factor + keep)) as f32
    };
    Ok((0..rotated / 2).map(divisor).collect())
}
