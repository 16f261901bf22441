//! The same tokens give the same bits: whole or in pieces, alone or among others, decoded or read, in pages that others
//! have used, on the CPU or on a GPU.

use libtest_mimic::Failed;
use runtime::kv_cache::pages_for;
use runtime::model::config::ModelConfig;
use runtime::worker::DeviceChoice;

use crate::case::{CONTEXT, Case, Subject, text};
use crate::loaded::{Loaded, Logits, Piece, Room, Sequence, differ, greedy, same};

/// Tokens of a case's longest text.
fn long(case: &Case) -> Result<usize, Failed> {
    let context = ModelConfig::from_gguf(&case.subject.gguf()?)?.context;
    Ok(if case.is_slow() { 12 } else { (context.min(CONTEXT) - 8).min(600) })
}

/// What the last of `len` tokens sees of those before it.
struct Sight {
    /// One that it surely sees: the first, where a layer has no window.
    seen: usize,
    /// So many of the first it does not see, through no layer.
    unseen: usize,
}

impl Sight {
    fn of(case: &Case, len: usize) -> Result<Self, Failed> {
        let config = ModelConfig::from_gguf(&case.subject.gguf()?)?;
        Ok(match config.window {
            0 => Self { seen: 0, unseen: 0 },
            _ if (0..config.blocks).any(|layer| config.window_of(layer).is_none()) => {
                Self { seen: 0, unseen: 0 }
            }
            window => Self {
                seen: len - (window / 2).min(len),
                unseen: (len - 1).saturating_sub(config.blocks * (window - 1)),
            },
        })
    }
}

/// A prompt in one piece equals the prompt in several, in whatever pages it lies.
pub(crate) fn pieces(case: &Case) -> Result<(), Failed> {
    let len = long(case)?;
    let mut loaded = Loaded::open(case, Room { tokens: len, sequences: 1, pages: 2 * pages_for(len) })?;
    let mut prompt = loaded.text(0, len);
    let whole = loaded.alone(prompt.whole())?;
    let sizes: &[usize] = if case.is_slow() { &[5] } else { &[1, 3, 16, 64, 256] };
    for &size in sizes.iter().filter(|&&size| size < len) {
        same(&loaded.in_pieces(&prompt, size)?, &whole, format!("in pieces of {size}"));
    }
    prompt.pages = loaded.text(0, len).pages;
    same(&loaded.in_pieces(&prompt, len / 2)?, &whole, "in other pages");
    let Sight { seen, unseen } = Sight::of(case, len)?;
    prompt.ids[..unseen].iter_mut().for_each(|id| *id ^= 1);
    same(&loaded.in_pieces(&prompt, len / 2)?, &whole, format!("after {unseen} tokens beyond the windows"));
    prompt.ids[seen] ^= 1;
    differ(&loaded.in_pieces(&prompt, len / 2)?, &whole, "the first token");
    Ok(())
}

/// Lengths of the sequences that a batch is filled with, over and over.
const FILLING: [usize; 7] = [7, 1, 30, 64, 2, 19, 100];

/// A row alone equals the row among so many others that other kernels compute it.
pub(crate) fn company(case: &Case) -> Result<(), Failed> {
    // So many on the CPU where a test of that size is quick, which is where other kernels have no part in it.
    let many = !case.is_cpu() || matches!(case.subject, Subject::Fixture("llama-f32" | "llama-f16"));
    let totals: &[usize] = if many { &[17, 256, 2048] } else { &[17, 256] };
    let singles: &[usize] = if case.is_cpu() { &[17, 256] } else { &[17, 256, 2048] };
    let most = totals.iter().chain(singles).copied().max().unwrap_or(1);
    let room = Room { tokens: most, sequences: singles.iter().copied().max().unwrap_or(1), pages: most + 32 };
    let mut loaded = Loaded::open(case, room)?;
    let target = loaded.text(0, 5);
    let alone = loaded.alone(target.whole())?;
    for &total in totals {
        loaded.clear();
        among_prompts(&mut loaded, total, &alone)?;
    }
    for &total in singles {
        loaded.clear();
        among_single_tokens(&mut loaded, total, &alone)?;
    }
    Ok(())
}

/// All of a short prompt, `alone` being its logits, among `total` tokens of prompts, in several places.
fn among_prompts(loaded: &mut Loaded, total: usize, alone: &Logits) -> Result<(), Failed> {
    let target = loaded.text(0, 5);
    let mut left = total - target.len();
    let mut others: Vec<Sequence> = Vec::new();
    for (seed, &len) in (1..).zip(FILLING.iter().cycle()) {
        let len = len.min(left);
        others.push(loaded.text(seed, len));
        left -= len;
        if left == 0 {
            break;
        }
    }
    let last = others.len() - 1;
    let other = loaded.alone(others[last].whole())?;
    let places = if total > 256 { vec![others.len() / 2] } else { vec![0, others.len() / 2, others.len()] };
    for place in places {
        let mut batch: Vec<Piece<'_>> = others.iter().map(Sequence::whole).collect();
        batch.insert(place, target.whole());
        let logits = loaded.forward(&batch)?;
        same(&logits[place], alone, format!("as sequence {place} among {total} tokens"));
        let at = if place > last { last } else { last + 1 };
        same(&logits[at], &other, format!("another one among {total} tokens"));
    }
    others[last].ids[0] ^= 1;
    let mut batch: Vec<Piece<'_>> = others.iter().map(Sequence::whole).collect();
    batch.push(target.whole());
    let logits = loaded.forward(&batch)?;
    same(&logits[last + 1], alone, format!("beside a changed one among {total} tokens"));
    differ(&logits[last], &other, "another's first token");
    Ok(())
}

/// The last token of a short prompt among `total` tokens of as many sequences, as decoding has them.
fn among_single_tokens(loaded: &mut Loaded, total: usize, alone: &Logits) -> Result<(), Failed> {
    let target = loaded.text(0, 5);
    let others: Vec<Sequence> = (1..total).map(|seed| loaded.text(seed as u64, 1)).collect();
    loaded.forward(&[(&target, 0, target.len() - 1)])?;
    let mut batch: Vec<Piece<'_>> = others.iter().map(Sequence::whole).collect();
    let place = total / 2;
    batch.insert(place, target.last());
    let mut first: Option<Vec<Logits>> = None;
    // As launches, then captured, then replayed.
    for time in 1..=3 {
        let logits = loaded.forward(&batch)?;
        same(&logits[place], alone, format!("among {total} single tokens, time {time}"));
        let first = first.get_or_insert_with(|| logits.clone());
        assert!(*first == logits, "the others of {total} single tokens, time {time}");
    }
    Ok(())
}

/// Lengths of prompts that are decoded after, the first so many together. Where the context allows it two cross the border
/// of attention's chunks, 128, on their way, and one has crossed it.
const LENGTHS: [usize; 17] = [125, 140, 3, 31, 127, 1, 12, 33, 5, 22, 8, 2, 17, 26, 4, 10, 7];

/// A token decoded equals the same token read with its whole text, however many sequences decode together.
pub(crate) fn decoding(case: &Case) -> Result<(), Failed> {
    // So many that launches, captured and replayed, occur on both sides of the border.
    let (steps, counts): (usize, &[usize]) =
        if case.is_slow() { (2, &[1, 2]) } else { (7, &[1, 2, 3, 5, 8, 17]) };
    let most = counts[counts.len() - 1];
    let context = ModelConfig::from_gguf(&case.subject.gguf()?)?.context;
    let length = |i: usize| {
        let len = if case.is_slow() { 5 + i } else { LENGTHS[i] };
        if len + steps <= context { len } else { 40 + i }
    };
    // Not a page more than they need, so that each belongs to one of them.
    let pages = (0..most).map(|i| pages_for(length(i) + steps)).sum();
    let mut loaded = Loaded::open(case, Room { tokens: 256, sequences: most, pages })?;
    let vocab = loaded.vocab();
    let mut sequences: Vec<Sequence> =
        (0..most).map(|i| loaded.sequence(text(i as u64, length(i), vocab), steps)).collect();
    let mut prompts = Vec::new();
    for sequence in &sequences {
        prompts.push(loaded.alone(sequence.whole())?);
    }

    // All together: what they say, and the logits by step.
    let mut logits = prompts;
    let mut told: Vec<Vec<Logits>> = Vec::new();
    for _ in 0..steps {
        for (sequence, logits) in sequences.iter_mut().zip(&logits) {
            sequence.ids.push(greedy(logits));
        }
        logits = loaded.forward(&sequences.iter().map(Sequence::last).collect::<Vec<_>>())?;
        told.push(logits.clone());
    }
    for (i, sequence) in sequences.iter().enumerate() {
        for step in [0, steps / 2, steps - 1] {
            let read = prefix(sequence, length(i) + step + 1);
            let what = format!("sequence {i} of {most}, step {step}");
            same(&told[step][i], &loaded.alone(read.whole())?, what);
        }
    }
    // Fewer together, over the same text. Each computes anew what the others left behind its prompt.
    for &count in &counts[..counts.len() - 1] {
        for (step, told) in told.iter().enumerate() {
            let until: Vec<Sequence> =
                (0..count).map(|i| prefix(&sequences[i], length(i) + step + 1)).collect();
            let logits = loaded.forward(&until.iter().map(Sequence::last).collect::<Vec<_>>())?;
            for (i, logits) in logits.iter().enumerate() {
                same(logits, &told[i], format!("sequence {i} of {count} together, step {step}"));
            }
        }
    }
    let mut changed = prefix(&sequences[0], length(0) + 1);
    changed.ids[length(0)] ^= 1;
    differ(&loaded.alone(changed.last())?, &told[0][0], "the decoded token");
    Ok(())
}

/// The first tokens of a sequence.
fn prefix(sequence: &Sequence, len: usize) -> Sequence {
    Sequence { ids: sequence.ids[..len].to_vec(), pages: sequence.pages.clone() }
}

/// Whatever lies in pages from before changes nothing.
pub(crate) fn used_pages(case: &Case) -> Result<(), Failed> {
    let (len, steps) = (long(case)? / 2 - 5, 3);
    let pages = pages_for(len + steps);
    let mut loaded = Loaded::open(case, Room { tokens: 32 * pages, sequences: 3, pages })?;
    let ids = text(0, len, loaded.vocab());
    let target = loaded.sequence(ids, steps);
    let fresh = answer(&mut loaded, &target, steps)?;
    for seed in 1..3 {
        loaded.clear();
        let positions = (32 * pages).min(loaded.context());
        let mut other = loaded.text(seed, positions);
        if seed == 2 {
            other.pages.reverse();
        }
        loaded.alone(other.whole())?;
        let again = answer(&mut loaded, &target, steps)?;
        for (step, (again, fresh)) in again.iter().zip(&fresh).enumerate() {
            same(again, fresh, format!("after text {seed}, step {step}"));
        }
    }
    // That the pages are used: another's token in the middle of an answer.
    loaded.alone(target.whole())?;
    let Sight { seen, .. } = Sight::of(case, len)?;
    let mut other = Sequence { ids: target.ids[..=seen].to_vec(), pages: target.pages.clone() };
    other.ids[seen] ^= 1;
    loaded.alone(other.last())?;
    differ(&loaded.alone(target.last())?, &fresh[0], "what another writes into a page");
    Ok(())
}

/// The logits after a prompt and after each of some greedy steps.
fn answer(loaded: &mut Loaded, prompt: &Sequence, steps: usize) -> Result<Vec<Logits>, Failed> {
    let mut sequence = prompt.clone();
    let mut answer = vec![loaded.alone(sequence.whole())?];
    for step in 0..steps {
        sequence.ids.push(greedy(&answer[step]));
        answer.push(loaded.alone(sequence.last())?);
    }
    Ok(answer)
}

/// The CPU's bits and the device's, after each prompt and each greedy step.
pub(crate) fn equals_the_cpu(case: &Case) -> Result<(), Failed> {
    let prompts = case.subject.prompts()?;
    let positions = prompts.iter().map(|(ids, steps)| ids.len() + steps).max().ok_or("no prompts")?;
    let answers = |case: &Case| -> Result<Vec<Vec<Logits>>, Failed> {
        let room = Room { tokens: positions, sequences: 1, pages: pages_for(positions) };
        let mut loaded = Loaded::open(case, room)?;
        let mut answers = Vec::new();
        for (ids, steps) in &prompts {
            loaded.clear();
            let prompt = loaded.sequence(ids.clone(), *steps);
            answers.push(answer(&mut loaded, &prompt, *steps)?);
        }
        Ok(answers)
    };
    let cpu = answers(&Case { device: DeviceChoice::Cpu, ..case.clone() })?;
    for (prompt, (got, want)) in answers(case)?.iter().zip(&cpu).enumerate() {
        for (step, (got, want)) in got.iter().zip(want).enumerate() {
            same(got, want, format!("prompt {prompt}, step {step}"));
        }
    }
    differ(&cpu[0][0], &cpu[1][0], "another prompt");
    Ok(())
}
