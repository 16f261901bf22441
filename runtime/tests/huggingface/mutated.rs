//! Folders whose files are damaged anywhere: refused in a line that names the file, or loaded, and never a panic.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use runtime::device::Device;
use runtime::gguf::Gguf;
use runtime::huggingface::{self, Quant};
use safetensors::SafeTensors;
use tempfile::TempDir;

use crate::folder::Folder;
use crate::golden;

/// What is done to a file.
#[derive(Debug, Clone)]
enum Change {
    /// A byte is another.
    Byte(usize, u8),
    /// Some bytes go.
    Cut(usize, usize),
    /// Some bytes come twice.
    Repeat(usize, usize),
    /// A number in the text is another.
    Number(usize, u64),
    /// A piece of the text comes in another place.
    Move(usize, usize, usize),
}

/// Where a change is: places are taken modulo the file's length.
fn change() -> impl Strategy<Value = Change> {
    let place = || 0usize..1 << 20;
    let number = prop_oneof![0u64..5, Just(u64::MAX), Just(1 << 32), Just(u64::MAX / 2), any::<u64>()];
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (place(), 1usize..40).prop_map(|(at, len)| Change::Cut(at, len)),
        (place(), 1usize..40).prop_map(|(at, len)| Change::Repeat(at, len)),
        (place(), number).prop_map(|(at, number)| Change::Number(at, number)),
        (place(), place(), 1usize..40).prop_map(|(from, to, len)| Change::Move(from, to, len)),
    ]
}

/// The files of some folders; a mutation of one is put beside the others.
struct Files {
    folder: Folder,
    shards: usize,
}

static SUBJECTS: LazyLock<Vec<Files>> = LazyLock::new(|| {
    let subject = |(name, shards): (&str, usize)| {
        let gguf = Gguf::open(&golden(&format!("{name}.gguf"))).expect("a fixture");
        Files { folder: Folder::of_fixture(&gguf), shards }
    };
    [("llama-bf16", 1), ("phi3-longrope-f16", 2), ("gpt2-f32", 1), ("gpt-oss-mxfp4", 2)].map(subject).into()
});

/// The head of a file of weights, or all of a text.
fn text(bytes: &[u8], is_weights: bool) -> usize {
    if !is_weights {
        return bytes.len();
    }
    bytes.first_chunk().map_or(bytes.len(), |&len| (8 + u64::from_le_bytes(len) as usize).min(bytes.len()))
}

/// Changes a file; `keep_len` mends the length that stands before the head of weights.
fn apply(bytes: &mut Vec<u8>, changes: &[Change], is_weights: bool, keep_len: bool) {
    let before = text(bytes, is_weights);
    let whole = bytes.len();
    for change in changes {
        let len = text(bytes, is_weights).max(1);
        let range =
            |at: usize, count: usize| (at % len).min(bytes.len())..(at % len + count).min(bytes.len());
        match *change {
            _ if bytes.is_empty() => {}
            Change::Byte(at, byte) => {
                let at = at % len;
                bytes[at] = byte;
            }
            Change::Cut(at, count) => drop(bytes.drain(range(at, count))),
            Change::Repeat(at, count) => {
                let piece = bytes[range(at, count)].to_vec();
                let at = at % len;
                bytes.splice(at..at, piece);
            }
            Change::Number(at, number) => {
                let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
                let start = (at % len..len).find(|&i| bytes[i].is_ascii_digit()).unwrap_or(0);
                let end = start + digits(start);
                bytes.splice(start..end, number.to_string().into_bytes());
            }
            Change::Move(from, to, count) => {
                let piece = bytes[range(from, count)].to_vec();
                let to = to % len;
                bytes.splice(to..to, piece);
            }
        }
    }
    if is_weights && keep_len && bytes.len() >= 8 {
        let head = (before as i64 - 8 + bytes.len() as i64 - whole as i64).max(0) as u64;
        bytes[..8].copy_from_slice(&head.to_le_bytes());
    }
}

fn open(folder: &Path, quant: Option<Quant>) -> Result<(), String> {
    let made = huggingface::open(folder, quant).map_err(|error| error.to_string())?;
    for tensor in made.tensors() {
        let _ = made.read(tensor, 0..tensor.bytes.len().min(1000));
    }
    // What loads is computed with as well: its sizes have been believed.
    let size: usize = made.tensors().iter().map(|tensor| tensor.bytes.len()).sum();
    if size < 4 << 20 {
        use runtime::batch::BatchLimits;
        use runtime::model::{Model, Plan};
        let limits = BatchLimits { tokens: 2, sequences: 1, context: 32 };
        let plan = Plan { numerics: runtime::numerics::Numerics::F32, limits, pages: 1 };
        let _ = Model::load(&Device::cpu(1), &made, plan, &mut |_, _| ());
    }
    Ok(())
}

#[test]
fn a_damaged_folder_is_loaded_or_refused_by_the_file() {
    const CASES: u32 = 1000;
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let quants = prop::option::of(prop_oneof![Just(Quant::Q8_0), Just(Quant::Q4_0)]);
    let cases = (0usize..4, 0.0..1.0, prop::collection::vec(change(), 1..4), any::<bool>(), quants);
    // How often each file was damaged, and what came of it.
    let (damaged, good) = (RefCell::new(BTreeMap::new()), Cell::new(0));
    TestRunner::new(config)
        .run(&cases, |(subject, file, changes, keep_len, quant)| {
            let Files { folder, shards } = &SUBJECTS[subject];
            let folder: TempDir = folder.write(*shards);
            let mut names: Vec<_> = std::fs::read_dir(folder.path())
                .expect("a folder")
                .map(|entry| entry.expect("an entry").path())
                .collect();
            names.sort();
            let path = &names[(file * names.len() as f64) as usize];
            let is_weights = path.extension().is_some_and(|extension| extension == "safetensors");
            let mut bytes = std::fs::read(path).expect("a file");
            apply(&mut bytes, &changes, is_weights, keep_len);
            std::fs::write(path, &bytes).expect("a file");
            *damaged.borrow_mut().entry(path.file_name().expect("a name").to_owned()).or_insert(0) += 1;
            match open(folder.path(), quant) {
                Ok(()) => good.set(good.get() + 1),
                Err(error) => {
                    prop_assert!(error.contains("config.json") || error.contains(".safetensors"), "{error}");
                    prop_assert!(!error.contains('\n') && error.len() < 20_000, "{error}");
                }
            }
            Ok(())
        })
        .unwrap();
    // The configuration, the weights in one file and in two, the index.
    let (damaged, good) = (damaged.into_inner(), good.get());
    assert!(damaged.len() == 5 && damaged.values().all(|&times| times > CASES / 20), "{damaged:?}");
    assert!(good > 0 && good < CASES / 2, "{good} loaded");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn weights_that_are_read_are_those_that_the_formats_library_reads(
        changes in prop::collection::vec(change(), 1..3),
    ) {
        let Files { folder, .. } = &SUBJECTS[0];
        let folder = folder.write(1);
        let path = folder.path().join("model.safetensors");
        let mut bytes = std::fs::read(&path).expect("weights");
        apply(&mut bytes, &changes, true, true);
        std::fs::write(&path, &bytes).expect("weights");
        if let Ok(made) = huggingface::open(folder.path(), None) {
            let library = SafeTensors::deserialize(&bytes).expect("what is read here is read there");
            let view = library.tensor("model.layers.0.mlp.up_proj.weight").expect("a tensor of the model");
            let tensor = made.tensor("blk.0.ffn_up.weight").expect("the same");
            prop_assert_eq!(made.data(tensor).expect("its data"), view.data());
        }
    }
}
