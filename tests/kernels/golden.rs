//! Dequantisation against values made by the independent oracle, and all values of the plain types against the `half`
//! crate: an embedding lookup is nothing else.
//!
//! `dequant.json` has blocks of random bytes with moderate scales, and the values that the Python package `gguf` 0.19.0 gives
//! for them (`gguf.quants.dequantize`).

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use half::{bf16, f16};
use libtest_mimic::Failed;
use runtime::device::Device;
use serde_json::Value;

use crate::cases::Entry;
use crate::cases::embed::Lookup;
use crate::cases::expect::same_bits;
use crate::cases::stored::Stored;
use crate::trials::run;

/// The folder of test data.
fn folder() -> PathBuf {
    std::env::var_os("WORKER_ORCD_TEST_DATA")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden").into(), PathBuf::from)
}

/// The bytes of what `table` stands for, as one row of `n` values.
fn looked_up(stored: Stored, n: usize, table: Vec<u8>) -> Result<Vec<u8>, Failed> {
    let lookup = Lookup { stored, n, vocab: 1, table, ids: vec![0] };
    let cpu = Device::cpu(1);
    Ok(run(&lookup, &cpu, Entry::Device(&cpu))?.swap_remove(0))
}

pub(crate) fn dequantises_as_the_oracle(stored: Stored) -> Result<(), Failed> {
    let path = folder().join("dequant.json");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let all: Value = serde_json::from_str(&text)?;
    let entry = &all[stored.name()];
    let bytes = |field: &str| STANDARD.decode(entry[field].as_str().unwrap_or_default());
    let (raw, want) = (bytes("raw_b64")?, bytes("values_f32_b64")?);
    if want.is_empty() {
        return Err(format!("{} has no {}", path.display(), stored.name()).into());
    }
    Ok(same_bits(&looked_up(stored, want.len() / 4, raw)?, &want)?)
}

pub(crate) fn plain_types_widen_exactly(stored: Stored) -> Result<(), Failed> {
    let halves = || 0..=u16::MAX;
    let (table, want): (Vec<u8>, Vec<f32>) = match stored {
        Stored::F16 => (
            halves().flat_map(u16::to_le_bytes).collect(),
            halves().map(|bits| f16::from_bits(bits).to_f32()).collect(),
        ),
        Stored::BF16 => (
            halves().flat_map(u16::to_le_bytes).collect(),
            halves().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        ),
        _ => {
            let all = || halves().map(|high| f32::from_bits((high as u32) << 16 | 0x5a5a));
            (all().flat_map(f32::to_le_bytes).collect(), all().collect())
        }
    };
    let got = looked_up(stored, want.len(), table)?;
    for (i, (got, want)) in got.as_chunks::<4>().0.iter().zip(&want).enumerate() {
        let got = f32::from_le_bytes(*got);
        if got.to_bits() != want.to_bits() && !(got.is_nan() && want.is_nan()) {
            return Err(format!("value {i} is {got:e}, not {want:e}").into());
        }
    }
    Ok(())
}
