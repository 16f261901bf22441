//! From what the device tells about a row to log-probabilities.

use kernels::logprobs::{id_of, logit_of};

use crate::request::Chosen;

/// Of the sum's units, the most likely token has so many.
const ONE: f64 = (1u64 << 40) as f64;

/// The token that a row's `answer` (see [`kernels::logprobs::WORDS`]) is about, and the `top` most likely ones of those
/// whose probability is not zero.
pub(crate) fn chosen(answer: &[u64], top: usize) -> Chosen {
    let most = logit_of(answer[2]);
    // The portable logarithm: the same bits on every machine.
    let whole = libm::log(answer[0] as f64 / ONE);
    let logprob = |rank: u64| ((f64::from(logit_of(rank)) - f64::from(most)) - whole) as f32;
    let possible = |rank: &&u64| **rank != 0 && logit_of(**rank) != f32::NEG_INFINITY;
    let ranks = answer[2..].iter().take(top).filter(possible);
    Chosen {
        id: id_of(answer[1]),
        logprob: Some(logprob(answer[1])),
        top: ranks.map(|&rank| (id_of(rank), logprob(rank))).collect(),
    }
}
