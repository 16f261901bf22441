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

#[cfg(test)]
mod tests {
    use cuda_std::math::ordered_bits;
    use kernels::logprobs::WORDS;

    use super::*;

    fn rank(logit: f32, id: u32) -> u64 {
        u64::from(ordered_bits(logit)) << 32 | u64::from(!id)
    }

    #[test]
    fn an_answer_becomes_logarithms() {
        let logits = [(4, 9.5f32), (0, 9.5), (7, -3.25), (9, f32::NEG_INFINITY)];
        let sum: f64 = logits.iter().map(|(_, logit)| (f64::from(*logit) - 9.5).exp()).sum();
        let mut answer = [0; WORDS];
        answer[0] = (sum * ONE) as u64;
        answer[1] = rank(-3.25, 7);
        for (word, (id, logit)) in answer[2..].iter_mut().zip(logits) {
            *word = rank(logit, id);
        }
        let chosen = chosen(&answer, 20);
        assert_eq!((chosen.id, chosen.top.len()), (7, 3), "what is impossible is not told");
        for (&(id, got), (want, logit)) in chosen.top.iter().zip(logits) {
            assert!(
                id == want && (f64::from(got) - (f64::from(logit) - 9.5 - sum.ln())).abs() < 1e-6,
                "{id} {got}"
            );
        }
        assert_eq!(chosen.logprob, Some(chosen.top[2].1));
        assert!(super::chosen(&answer, 0).top.is_empty());
        assert_eq!(super::chosen(&answer, 1).top, chosen.top[..1]);
    }

    #[test]
    fn certainty_is_zero() {
        let mut answer = [0; WORDS];
        (answer[0], answer[1], answer[2]) = (1 << 40, rank(88.0, 3), rank(88.0, 3));
        assert_eq!(chosen(&answer, 2), Chosen { id: 3, logprob: Some(0.0), top: vec![(3, 0.0)] });
    }
}
