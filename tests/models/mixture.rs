//! Only the chosen experts' weights are read.

use std::fs;

use libtest_mimic::Failed;
use runtime::gguf::Gguf;
use runtime::kv_cache::pages_for;

use crate::case::{CONTEXT, Case};
use crate::loaded::{Loaded, Logits, Room, differ, same};

/// The expert that nobody chooses, its logit being far below all others.
const UNCHOSEN: usize = 1;

/// Whatever the weights of an expert are that no token chooses, no bit changes, in prompts and in decoding; those of others
/// matter.
pub(crate) fn only_chosen_experts_are_read(case: &Case) -> Result<(), Failed> {
    let gguf = case.subject.gguf()?;
    let mut file = fs::read(gguf.path())?;
    let (experts, blocks) = (gguf.u32("gpt-oss.expert_count")? as usize, gguf.u32("gpt-oss.block_count")?);
    for tensor in gguf.tensors().iter().filter(|tensor| tensor.name.ends_with("ffn_gate_inp.bias")) {
        file[tensor.bytes.clone()][4 * UNCHOSEN..][..4].copy_from_slice(&(-1e30f32).to_le_bytes());
    }
    // All bytes set, a float is not a number, and a block has the greatest scale.
    let poisoned = |expert: usize| {
        let mut file = file.clone();
        let of_experts = gguf.tensors().iter().filter(|tensor| tensor.name.contains("_exps."));
        let mut parts = 0;
        for tensor in of_experts {
            let size = tensor.bytes.len() / experts;
            file[tensor.bytes.clone()][expert * size..][..size].fill(0xff);
            parts += 1;
        }
        assert_eq!(parts, 3 * 2 * blocks, "weights and biases of three matrices in each block");
        file
    };
    let want = logits(case, &file)?;
    for (got, want) in logits(case, &poisoned(UNCHOSEN))?.iter().zip(&want) {
        same(got, want, "beside an expert that is no number");
    }
    differ(&logits(case, &poisoned(0))?[0], &want[0], "an expert that tokens choose");
    Ok(())
}

/// After prompts of several lengths, and after a token that is decoded.
fn logits(case: &Case, file: &[u8]) -> Result<Vec<Logits>, Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("altered.gguf");
    fs::write(&path, file)?;
    let len = 100;
    let room = Room { tokens: len, sequences: 1, pages: 3 * pages_for(len + 1) };
    let mut loaded = Loaded::of(case, &Gguf::open(&path)?, room, CONTEXT)?;
    let mut logits = Vec::new();
    for (seed, len) in [(0, 1), (1, 17), (2, len)] {
        let text = loaded.text(seed, len);
        logits.push(loaded.alone(text.whole())?);
        logits.push(loaded.alone(text.last())?);
    }
    Ok(logits)
}
