//! What a file says of a mixture of experts.

use kernels::router::MAX_EXPERTS;

use super::fields::Fields;
use crate::model::ModelError;
use crate::model::architecture::Architecture;

/// The sizes of a mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mixture {
    /// Experts of a layer.
    pub experts: usize,
    /// Experts that compute a token.
    pub used: usize,
    /// Elements between the projections of an expert.
    pub feed_forward: usize,
}

impl Mixture {
    /// None where the architecture has no experts.
    pub(super) fn read(fields: &Fields<'_>, architecture: &Architecture) -> Result<Option<Self>, ModelError> {
        if !architecture.mixture {
            return match fields.optional("expert_count", Fields::number)?.unwrap_or(0) {
                0 => Ok(None),
                count => {
                    Err(fields
                        .wrong("expert_count", format!("a mixture of {count} experts is not supported")))
                }
            };
        }
        // Of other values than these the router's formula is another: the third function is a softmax over the chosen.
        for (name, usual) in [("expert_shared_count", 0), ("expert_gating_func", 3)] {
            if let Some(value) = fields.optional(name, Fields::number)?.filter(|&value| value != usual) {
                return Err(fields.wrong(name, format!("{value} is not supported, {usual} is")));
            }
        }
        let experts = fields.size("expert_count")?;
        if experts > MAX_EXPERTS {
            return Err(fields.wrong("expert_count", format!("{experts}; up to {MAX_EXPERTS} are supported")));
        }
        let used = fields.size("expert_used_count")?;
        if used > experts {
            return Err(fields.wrong("expert_used_count", format!("{used} of {experts} experts")));
        }
        Ok(Some(Self { experts, used, feed_forward: fields.size("expert_feed_forward_length")? }))
    }
}
