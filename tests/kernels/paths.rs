//! A token's attention has the same bits on every path: whole or in chunks that are merged; in a full tile, in any other,
//! alone; among other sequences, or in a launch of its own.

use kernels::prompt_group;
use libtest_mimic::Failed;
use runtime::device::Device;

use crate::cases::expect::{bytes_of, same_bits};
use crate::cases::flash::{self, Flash, Heads, Path, Run};
use crate::cases::float::Float;
use crate::cases::merge::Merge;
use crate::cases::{Case, Entry};
use crate::trials::run;

/// Every group size with tiles over the borders of chunks; and tokens of which the sum changes its zero's sign.
fn all(float: Float) -> Vec<Flash> {
    let mut cases = flash::edges(float);
    for (i, group) in [1, 3, 4, 8, 16, 32].into_iter().enumerate() {
        let heads = Heads { kv_heads: 1 + i % 2, group, head_dim: [16, 64, 80, 128, 32, 96][i] };
        let middle = Run { length: 300, first: 120, count: 20 };
        let runs = [Run::last(40, 21), middle, Run::last(257, 4), Run::last(129, 3)];
        let case = Flash::new(float, heads, &runs, 3.0);
        cases.push(case.clone().within([1, 30, 100, 128, 140, 250][i]).with_sinks(3.0));
        cases.push(case);
    }
    cases.push(vanishing(float));
    cases
}

/// Tokens whose first chunk has values of zero and whose second one adds a negative number below the smallest f32, so that
/// a sum is negative zero; the tile goes on into a third chunk, of which only its later tokens see something.
fn vanishing(float: Float) -> Flash {
    let heads = Heads { kv_heads: 1, group: 1, head_dim: 16 };
    let mut case = Flash::new(float, heads, &[Run { length: 300, first: 250, count: 12 }], 1.0);
    case.q.chunks_exact_mut(16).for_each(|q| {
        q.fill(0);
        q[0] = float.bits(1.0);
    });
    for (s, (k, v)) in case.keys[0].chunks_exact_mut(16).zip(case.values[0].chunks_exact_mut(16)).enumerate()
    {
        // e^-100 is subnormal.
        k[0] = float.bits(if s < 128 { 0.0 } else { -400.0 });
        v.fill(if s < 128 { 0 } else { float.bits(-2f32.powi(-24)) });
    }
    case
}

fn outputs(case: &dyn Case, device: &Device) -> Result<Vec<Vec<u8>>, String> {
    run(case, device, Entry::Device(device)).map_err(|error| format!("{}: {error}", case.label()))
}

/// The answer out of chunks.
fn merged(case: Flash, device: &Device) -> Result<Vec<u8>, String> {
    let case = case.through(Path::Chunks);
    let parts = outputs(&case, device)?;
    let floats = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let merge = Merge {
        form: case.form,
        heads: case.query_heads(),
        head_dim: case.heads.head_dim,
        chunks: case.chunks(),
        window: case.window,
        sinks: case.sinks.clone(),
        positions: case.tokens.iter().map(|token| token.1 as u32).collect(),
        partial: floats(&parts[0]),
        tops: floats(&parts[1]),
    };
    Ok(outputs(&merge, device)?.swap_remove(0))
}

pub(crate) fn whole_is_chunks_merged(float: Float, device: &Device) -> Result<(), Failed> {
    for case in all(float) {
        for case in [case.clone(), case.clone().cut(flash::ragged), case.cut(|_, _| 1)] {
            let whole = outputs(&case, device)?;
            let label = case.label();
            same_bits(&merged(case, device)?, &whole[0]).map_err(|error| format!("{label}: {error}"))?;
        }
    }
    Ok(())
}

pub(crate) fn a_form_is_rounded(float: Float, device: &Device) -> Result<(), Failed> {
    let with_groups = device.is_cpu() || device.has_warpgroups();
    for case in all(float) {
        let whole = outputs(&case, device)?.swap_remove(0);
        let values: Vec<f32> = whole.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        for form in [Float::F16, Float::Bf16] {
            let want = bytes_of(&values.iter().map(|&value| form.bits(value)).collect::<Vec<_>>());
            let case = case.clone().in_form(form);
            let prompt = case.clone().for_prompts();
            let mut all = vec![("whole", outputs(&case, device)?), ("a prompt", outputs(&prompt, device)?)];
            if with_groups && prompt_group::of(false, case.heads.head_dim).is_some() {
                all.push(("warps together", outputs(&prompt.through(Path::PromptGroup), device)?));
            }
            all.push(("merged", vec![merged(case.clone(), device)?]));
            for (what, got) in all {
                same_bits(&got[0], &want).map_err(|error| format!("{}, {what}: {error}", case.label()))?;
            }
        }
    }
    Ok(())
}

pub(crate) fn a_tile_does_not_matter(float: Float, device: &Device) -> Result<(), Failed> {
    for case in all(float) {
        let full = outputs(&case, device)?.swap_remove(0);
        let same = |what: &str, got: &[u8], want: &[u8]| {
            same_bits(got, want).map_err(|error| format!("{}, {what}: {error}", case.label()))
        };
        let prompt = case.clone().for_prompts();
        same("as a prompt", &outputs(&prompt, device)?[0], &full)?;
        same(
            "as a prompt in tiles of any size",
            &outputs(&prompt.clone().cut(flash::ragged), device)?[0],
            &full,
        )?;
        if prompt_group::of(false, case.heads.head_dim).is_some()
            && (device.is_cpu() || device.has_warpgroups())
        {
            let prompt = prompt.through(Path::PromptGroup);
            same("as a prompt of warps together", &outputs(&prompt, device)?[0], &full)?;
            let ragged = prompt.cut(flash::ragged);
            same("as one of these in tiles of any size", &outputs(&ragged, device)?[0], &full)?;
        }
        same("tiles of any size", &outputs(&case.clone().cut(flash::ragged), device)?[0], &full)?;
        same("tiles of one token", &outputs(&case.clone().cut(|_, _| 1), device)?[0], &full)?;
        let row = full.len() / case.tokens.len();
        for token in (0..case.tokens.len()).step_by(5) {
            let alone = case.only(token);
            let want = &full[token * row..][..row];
            same(&format!("token {token} alone"), &outputs(&alone, device)?[0], want)?;
            same(&format!("token {token} alone, in chunks"), &merged(alone, device)?, want)?;
        }
    }
    Ok(())
}
