//! A folder of a model, and a GGUF file of the same model: the same bits, in whatever pieces they are read.

use half::f16;
use runtime::gguf::{Gguf, TensorType};
use runtime::huggingface::{self, Quant};
use runtime::numerics::Numerics;

use crate::folder::Folder;
use crate::{golden, logits};

/// With what a folder is quantised to, so that it becomes the file.
const FIXTURES: [(&str, Option<Quant>); 10] = [
    ("llama-f32", None),
    ("llama-f16", None),
    ("llama-bf16", None),
    ("qwen2-f32", None),
    ("qwen3-f32", None),
    ("phi3-f32", None),
    ("phi3-longrope-f16", None),
    ("gpt2-f32", None),
    ("gpt-oss-f32", None),
    // Experts in MXFP4, and what Q8_0 stands for elsewhere: of that Q8_0 is made again.
    ("gpt-oss-mxfp4", Some(Quant::Q8_0)),
];

fn fixture(name: &str) -> Gguf {
    Gguf::open(&golden(&format!("{name}.gguf"))).expect("a fixture")
}

fn data(gguf: &Gguf, name: &str) -> Vec<u8> {
    let tensor = gguf.tensor(name).unwrap_or_else(|| panic!("no {name}"));
    gguf.data(tensor).expect("its data")
}

#[test]
fn every_tensor_and_every_logit_is_that_of_the_file() {
    for (i, (name, quant)) in FIXTURES.into_iter().enumerate() {
        let file = fixture(name);
        let folder = Folder::of_fixture(&file).write(1 + i % 3);
        let made = huggingface::open(folder.path(), quant).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(made.quant_kind(), file.quant_kind(), "{name}");
        assert_eq!(made.tensors().len(), file.tensors().len(), "{name}");
        for tensor in file.tensors() {
            let other = made.tensor(&tensor.name).unwrap_or_else(|| panic!("{name}: no {}", tensor.name));
            assert_eq!((&other.dims, other.ty), (&tensor.dims, tensor.ty), "{name}: {}", tensor.name);
            assert_eq!(data(&made, &tensor.name), data(&file, &tensor.name), "{name}: {}", tensor.name);
        }
        for numerics in [Numerics::F32, Numerics::Tc] {
            let ids: Vec<u32> = (0..50).map(|i| (i * i + 3) % 320).collect();
            let want = logits(&file, numerics, &ids).expect("the file's logits");
            let got = logits(&made, numerics, &ids).expect("the folder's logits");
            let bits = |logits: Vec<f32>| logits.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
            assert_eq!(bits(got), bits(want), "{name}, {numerics}");
        }
    }
}

#[test]
fn a_piece_is_a_piece_of_the_whole() {
    // Transposed, interleaved, and as they are; as stored, widened and quantised.
    for (name, quant) in [
        ("gpt2-f32", None),
        ("gpt2-f32", Some(Quant::Q4_0)),
        ("llama-bf16", None),
        ("llama-bf16", Some(Quant::Q8_0)),
        ("phi3-longrope-f16", Some(Quant::Q4_0)),
        ("gpt-oss-f32", None),
        ("gpt-oss-f32", Some(Quant::Q8_0)),
        ("gpt-oss-mxfp4", None),
    ] {
        let folder = Folder::of_fixture(&fixture(name)).write(2);
        let made = huggingface::open(folder.path(), quant).expect("a folder");
        for tensor in made.tensors() {
            let whole = data(&made, &tensor.name);
            let mut state = 7usize;
            for _ in 0..8 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let start = (state >> 33) % whole.len();
                let end = start + (state >> 13) % (whole.len() - start + 1);
                let piece = made.read(tensor, start..end).expect("a piece");
                assert!(piece == whole[start..end], "{name}: {} at {start}..{end}", tensor.name);
            }
        }
    }
}

#[test]
fn matrices_are_quantised_and_nothing_else() {
    for name in ["llama-f32", "gpt2-f32", "gpt-oss-f32"] {
        let file = fixture(name);
        let folder = Folder::of_fixture(&file).write(1);
        for quant in [Quant::Q8_0, Quant::Q4_0] {
            let made = huggingface::open(folder.path(), Some(quant)).expect("a folder");
            assert_eq!(made.quant_kind(), Some(quant.tensor_type()));
            for tensor in made.tensors() {
                let exact = ["position_embd.weight", "ffn_gate_inp.weight", ".bias"];
                let is_matrix = tensor.dims.len() > 1 && !exact.iter().any(|end| tensor.name.ends_with(end));
                let want = if is_matrix { quant.tensor_type() } else { TensorType::F32 };
                assert_eq!(tensor.ty, want, "{}", tensor.name);
                let exact = data(&file, &tensor.name);
                let values = exact.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
                let values: Vec<f32> = values.collect();
                near(&data(&made, &tensor.name), tensor.ty, &values, &tensor.name);
            }
            logits(&made, Numerics::F32, &[1, 2, 3]).expect("logits of a quantised folder");
        }
    }
}

/// That blocks stand for these values, each as near as the scale allows.
fn near(bytes: &[u8], ty: TensorType, values: &[f32], name: &str) {
    for (block, values) in bytes.chunks(ty.block_bytes()).zip(values.chunks(ty.block_values())) {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        for (i, &value) in values.iter().enumerate() {
            let got = match ty {
                TensorType::Q8_0 => scale * f32::from(block[2 + i] as i8),
                TensorType::Q4_0 => scale * (f32::from(block[2 + i % 16] >> (i / 16 * 4) & 15) - 8.0),
                _ => f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
            };
            let most = if ty == TensorType::F32 { 0.0 } else { 1.01 * scale.abs() };
            assert!((got - value).abs() <= most, "{name}: {got} for {value}, scale {scale}");
        }
    }
}

#[test]
fn rows_that_are_no_whole_blocks_stay_as_they_are() {
    let mut folder = Folder::of_fixture(&fixture("llama-f16"));
    // 64 becomes 80 between the projections of the feed-forward part: rows of `down` are no whole blocks then.
    folder.config["intermediate_size"] = 80.into();
    for (name, stored) in &mut folder.tensors {
        if name.contains("mlp") {
            let side = usize::from(name.contains("down"));
            stored.shape[side] = 80;
            stored.data.truncate(2 * stored.shape.iter().product::<usize>());
        }
    }
    let folder = folder.write(1);
    let made = huggingface::open(folder.path(), Some(Quant::Q4_0)).expect("a folder");
    let ty = |name: &str| made.tensor(name).map(|tensor| tensor.ty);
    assert_eq!(ty("blk.0.ffn_down.weight"), Some(TensorType::F16));
    assert_eq!(ty("blk.0.ffn_up.weight"), Some(TensorType::Q4_0));
    assert_eq!(made.quant_kind(), Some(TensorType::Q4_0));
    logits(&made, Numerics::F32, &[1, 2, 3]).expect("logits");
}
