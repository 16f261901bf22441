//! The two arithmetics of matrix products. Both give the same bits on every device.

use std::fmt;
use std::str::FromStr;

use kernels::product::Rounding;

use crate::model::weights::Stored;

/// Names what makes a request's token ids: with the same model, [`Numerics`] and request, two programs of the same version
/// choose the same tokens. To be raised by whoever changes an answer: the order of a sum, where values are rounded, a
/// function such as `exp`, the model of the tensor core, how a token is chosen out of the logits (penalties, filters, random
/// numbers), how text is made of tokens and searched for stop strings. Not raised for what keeps every bit: speed, layout,
/// scheduling, a new architecture or weight type.
pub const NUMERICS_VERSION: u32 = 4;

/// GPUs whose tensor cores were measured to compute as `tc` is defined.
const MEASURED: [&str; 1] = ["sm_90"];

/// How matrix products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Numerics {
    /// Chains of f32 fused multiply-adds over weights that are widened exactly: the reference, and fast on a CPU.
    F32,
    /// Tensor-core steps over 16-bit inputs with f32 sums: fast on a GPU; a CPU computes the same bits with an exact
    /// model of the tensor core.
    Tc,
}

impl Numerics {
    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tc => "tc",
        }
    }

    /// Whether a GPU of this architecture, such as `sm_90`, is known to compute so; the CPU always does.
    pub fn known_on(self, sm: &str) -> bool {
        self == Self::F32 || MEASURED.contains(&sm)
    }

    /// The form that rows take before a matrix stored so.
    pub fn form(self, stored: Stored) -> Form {
        match (self, stored) {
            (Self::F32, _) | (_, Stored::F32) => Form::F32,
            // MXFP4's scales go beyond f16.
            (_, Stored::BF16 | Stored::MXFP4) => Form::Bf16,
            (
                _,
                Stored::F16
                | Stored::Q8_0
                | Stored::Q4_0
                | Stored::Q4_1
                | Stored::Q5_0
                | Stored::Q5_1
                | Stored::Q2_K
                | Stored::Q3_K
                | Stored::Q4_K
                | Stored::Q5_K
                | Stored::Q6_K
                | Stored::IQ4_NL
                | Stored::IQ4_XS,
            ) => Form::F16,
        }
    }
}

impl fmt::Display for Numerics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Numerics {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "tc" => Ok(Self::Tc),
            _ => Err("numerics are f32 or tc".to_owned()),
        }
    }
}

/// The form of rows that a matrix is multiplied with, and the type of the KV cache: see [`kernels::rows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// As computed.
    F32,
    /// Multiplied by a power of two, which is the same for all rows of a kind, and rounded.
    F16,
    /// Rounded.
    Bf16,
}

impl Form {
    /// The form of all of these where they have one; else f32, of which the others are made.
    pub fn of_all(mut forms: impl Iterator<Item = Self>) -> Self {
        let first = forms.next().unwrap_or(Self::F32);
        if forms.all(|form| form == first) { first } else { Self::F32 }
    }

    /// Values that take part in the next product are rounded so.
    pub fn rounding(self) -> Rounding {
        match self {
            Self::F32 => Rounding::NONE,
            Self::F16 => Rounding::F16,
            Self::Bf16 => Rounding::BF16,
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}
