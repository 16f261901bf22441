//! What a replay comes to.

use runtime::numerics::Numerics;
use runtime::receipt::{Digest, Receipt};
use runtime::request::{Completion, StopReason};

/// Whether an answer is the receipt's, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every token is.
    Same(String),
    /// It is not.
    Different(String),
    /// Nobody can say by this program, this model, this prompt or this device.
    CannotDecide(String),
}

impl Verdict {
    /// The word.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Same(_) => "same",
            Self::Different(_) => "different",
            Self::CannotDecide(_) => "cannot decide",
        }
    }

    /// Why, in a line.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Same(reason) | Self::Different(reason) | Self::CannotDecide(reason) => reason,
        }
    }

    /// What the process ends with.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Same(_) => 0,
            Self::Different(_) => 1,
            Self::CannotDecide(_) => 2,
        }
    }
}

/// Compares what a receipt says with what `device`, a receipt's kind of device, computed.
pub(super) fn compare(
    receipt: &Receipt,
    completion: &Completion,
    numerics: Numerics,
    device: &str,
) -> Verdict {
    let (want, got) = (&receipt.output, Digest(completion.output_hash));
    let mut differs = Vec::new();
    if completion.tokens_out != want.tokens {
        differs.push(format!("{} tokens, the receipt has {}", completion.tokens_out, want.tokens));
    }
    if got != want.blake3 {
        differs.push(format!("the ids' blake3 is {got}, the receipt has {}", want.blake3));
    }
    if completion.stop_reason != receipt.stop_reason {
        let (got, want) = (name(&completion.stop_reason), name(&receipt.stop_reason));
        differs.push(format!("the end is {got}, the receipt has {want}"));
    }
    let here = format!("{numerics} numerics on {device}");
    if differs.is_empty() {
        return Verdict::Same(format!(
            "{} tokens, blake3 {got}, computed again in {here}; the receipt is of {}",
            want.tokens, receipt.device
        ));
    }
    let differs = differs.join("; ");
    let unknown = |device: &&str| device.strip_prefix("cuda ").is_some_and(|sm| !numerics.known_on(sm));
    match [receipt.device.as_str(), device].into_iter().find(unknown) {
        Some(unknown) => Verdict::CannotDecide(format!(
            "{differs} (here {here}); but {unknown} is not known to compute tc as it is defined: see worker-orcd doctor \
             --numerics"
        )),
        None => Verdict::Different(format!("{differs} (here {here}; the receipt is of {})", receipt.device)),
    }
}

/// With the matched stop string, which the receipt's holder knows.
fn name(reason: &StopReason) -> String {
    match reason {
        StopReason::MaxTokens => "max_tokens".to_owned(),
        StopReason::EndOfSequence => "eos".to_owned(),
        StopReason::StopSequence(text) => format!("stop_sequence {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::receipt::{Asked, FORMAT, Ids, Model};
    use runtime::request::Request;

    use super::*;

    fn completion(ids: &[u32], stop_reason: StopReason) -> Completion {
        Completion {
            tokens_in: 1,
            tokens_out: ids.len() as u32,
            decode_time: Duration::ZERO,
            stop_reason,
            tokens: Vec::new(),
            output_hash: Ids::of(ids).blake3.0,
        }
    }

    /// Of the tokens 7, 8, 9.
    fn receipt(device: &str) -> Receipt {
        Receipt {
            format: FORMAT,
            model: Model { name: String::new(), blake3: Digest([0; 32]) },
            ptx_sha256: String::new(),
            numerics: String::new(),
            numerics_version: 4,
            device: device.to_owned(),
            request: Asked::of(&Request::default()),
            output: Ids::of(&[7, 8, 9]),
            stop_reason: StopReason::MaxTokens,
        }
    }

    fn verdict(
        from: &str,
        ids: &[u32],
        reason: StopReason,
        numerics: Numerics,
        here: &str,
    ) -> (&'static str, String) {
        let verdict = compare(&receipt(from), &completion(ids, reason), numerics, here);
        (verdict.word(), verdict.reason().to_owned())
    }

    #[test]
    fn one_token_or_another_end_makes_the_difference() {
        use StopReason::{EndOfSequence, MaxTokens, StopSequence};
        let on_cpu = |ids: &[u32], reason| verdict("cuda sm_90", ids, reason, Numerics::Tc, "cpu");
        assert_eq!(on_cpu(&[7, 8, 9], MaxTokens).0, "same");
        for (ids, reason, part) in [
            (&[7, 8, 10][..], MaxTokens, "the ids' blake3"),
            (&[8, 7, 9], MaxTokens, "the ids' blake3"),
            (&[7, 8], MaxTokens, "2 tokens, the receipt has 3"),
            (&[7, 8, 9], EndOfSequence, "the end is eos, the receipt has max_tokens"),
            (&[7, 8, 9], StopSequence("x".to_owned()), "stop_sequence \"x\""),
        ] {
            let (word, told) = on_cpu(ids, reason);
            assert!(word == "different" && told.contains(part), "{ids:?}: {word}: {told}");
        }
    }

    #[test]
    fn a_difference_on_a_gpu_that_nobody_measured_decides_nothing() {
        for (from, numerics, here, word) in [
            ("cuda sm_80", Numerics::Tc, "cpu", "cannot decide"),
            ("cpu", Numerics::Tc, "cuda sm_120", "cannot decide"),
            ("cuda sm_80", Numerics::F32, "cpu", "different"),
            ("cuda sm_90", Numerics::Tc, "cuda sm_90", "different"),
        ] {
            assert_eq!(verdict(from, &[1], StopReason::MaxTokens, numerics, here).0, word, "{from} {here}");
            // Equal tokens are equal, whoever computed them.
            assert_eq!(verdict(from, &[7, 8, 9], StopReason::MaxTokens, numerics, here).0, "same");
        }
    }
}
