//! The GGUF reader: what a good file says, and what becomes of bad ones.

mod draft;

use std::io::Write;

use draft::{Draft, golden, open, string};
use runtime::batch::BatchLimits;
use runtime::device::Device;
use runtime::gguf::{Gguf, Optional, TensorType, Value, ValueType};
use runtime::model::{Model, Plan};
use runtime::numerics::Numerics;

#[track_caller]
fn refused(draft: Draft, words: &[&str]) {
    let error = draft.open().map(|_| ()).expect_err("a faulty file was accepted");
    assert!(
        words.iter().all(|word| error.contains(word)) && !error.contains('\n'),
        "{error}\nlacks one of {words:?}"
    );
}

#[test]
fn a_model_has_its_metadata_and_tensors() {
    let gguf = Gguf::open(&golden("llama-q4_1.gguf")).unwrap();
    assert_eq!(gguf.str("general.architecture").unwrap(), "llama");
    assert_eq!(gguf.u32("llama.embedding_length").unwrap(), 128);
    assert_eq!(gguf.f32("llama.rope.freq_base").unwrap(), 10000.0);
    assert!(!gguf.bool("tokenizer.ggml.add_bos_token").unwrap());
    let tokens = gguf.strings("tokenizer.ggml.tokens").unwrap();
    assert_eq!((tokens.len(), tokens.last()), (320, Some("</s>")));
    assert_eq!(gguf.i32s("tokenizer.ggml.token_type").unwrap()[316..], [1, 1, 3, 3]);
    assert_eq!(gguf.quant_kind(), Some(TensorType::Q4_1));
}

#[test]
fn a_tensor_has_its_shape_type_and_bytes() {
    let gguf = Gguf::open(&golden("llama-f32.gguf")).unwrap();
    assert_eq!(gguf.tensors().len(), 21);
    let gate = gguf.tensor("blk.1.ffn_gate.weight").unwrap();
    assert_eq!((&gate.dims[..], gate.ty, gate.values()), (&[64, 128][..], TensorType::F32, 64 * 128));
    assert_eq!(gguf.data(gate).unwrap().len(), 64 * 128 * 4);
    // Weights of a norm are near 1, so these bytes are where the file has that tensor.
    let norm = gguf.data(gguf.tensor("output_norm.weight").unwrap()).unwrap();
    let values: Vec<f32> = norm.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    assert!(values.len() == 64 && values.iter().all(|value| (0.0..3.0).contains(value)), "{values:?}");
    assert!(gguf.tensor("blk.9.ffn_gate.weight").is_none());
}

#[test]
fn every_golden_model_is_accepted() {
    let files = std::fs::read_dir(golden("")).unwrap().map(|entry| entry.unwrap().path());
    let models: Vec<_> = files.filter(|path| path.extension().is_some_and(|ext| ext == "gguf")).collect();
    assert!(models.len() >= 7);
    for model in models {
        Gguf::open(&model).unwrap();
    }
}

#[test]
fn integers_of_any_width_are_taken_where_they_fit() {
    let gguf = Draft::default()
        .key("u8", 0, [200])
        .key("i8", 1, [0xff])
        .key("u16", 2, 65535u16.to_le_bytes())
        .key("i64", 11, (-2i64).to_le_bytes())
        .key("u64", 10, u64::MAX.to_le_bytes())
        .array("i16s", 3, &[(-3i16).to_le_bytes().to_vec(), 4i16.to_le_bytes().to_vec()])
        .array("f64s", 12, &[0.5f64.to_le_bytes().to_vec()])
        .open()
        .unwrap();
    assert_eq!((gguf.u32("u8").unwrap(), gguf.u32("u16").unwrap()), (200, 65535));
    assert_eq!(gguf.u64("u64").unwrap(), u64::MAX);
    assert_eq!((gguf.i32s("i16s").unwrap(), gguf.f32s("f64s").unwrap()), (vec![-3, 4], vec![0.5]));
    for (key, value) in [("i8", "-1"), ("i64", "-2"), ("u64", "18446744073709551615")] {
        let error = gguf.u32(key).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("u32") && error.ends_with(value), "{error}");
    }
}

#[test]
fn a_getter_names_key_wanted_and_found() {
    let gguf = Draft::default().text("name", "x").array("list", 4, &[]).open().unwrap();
    let path = gguf.path().display().to_string();
    let message = |error: runtime::gguf::GgufError| error.to_string().replace(&path, "FILE");
    assert_eq!(
        message(gguf.f32("name").unwrap_err()),
        "FILE: metadata \"name\" should be a float, it is string"
    );
    assert_eq!(
        message(gguf.strings("list").unwrap_err()),
        "FILE: metadata \"list\" should be an array of strings, it is an array of u32"
    );
    assert!(message(gguf.bool("none").unwrap_err()).contains("no \"none\""));
    assert_eq!(gguf.bool("none").optional().unwrap(), None);
    assert!(gguf.bool("name").optional().is_err());
}

#[test]
fn other_files_are_told_apart() {
    assert!(open(b"PK\x03\x04....").unwrap_err().contains("not a GGUF file: it begins with \"PK"));
    assert!(open(b"GGUF\0\0\0\x03....").unwrap_err().contains("big-endian"));
    assert!(open(b"GGUF\x01\0\0\0....").unwrap_err().contains("version 1"));
    assert!(open(b"").unwrap_err().contains("cut short"));
    let missing = Gguf::open(&golden("no-such.gguf")).unwrap_err().to_string();
    assert!(missing.contains("no-such.gguf: cannot be read"), "{missing}");
}

#[test]
fn a_truncated_file_says_how_long_it_is_and_should_be() {
    let whole = std::fs::read(golden("llama-q8_0.gguf")).unwrap();
    let error = open(&whole[..whole.len() - 1000]).unwrap_err();
    let len = format!("this one has {}", whole.len() - 1000);
    assert!(["tensor \"", &len, "fetch it again"].iter().all(|word| error.contains(word)), "{error}");
}

#[test]
fn counts_and_lengths_beyond_the_file_are_refused_without_allocating_them() {
    let mut file = Draft::default().text("a", "b").bytes();
    file[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(open(&file).unwrap_err().contains("number of tensors is 18446744073709551615"));
    let long_array = [&0u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
    refused(Draft::default().key("long", 9, long_array), &["\"long\"", "its elements", "cut short"]);
    let long_text = (1u64 << 40).to_le_bytes();
    refused(Draft::default().key("text", 8, long_text), &["\"text\"", "1099511627"]);
    let nested = [9u32.to_le_bytes().to_vec(), 1u64.to_le_bytes().to_vec()].concat().repeat(100);
    refused(Draft::default().key("deep", 9, nested), &["\"deep\"", "nested"]);
}

#[test]
fn a_header_is_read_however_long_it_is_up_to_what_no_model_needs() {
    // Over the bytes that are read first, in one piece and in many.
    let long = "x".repeat(3 << 20);
    let many: Vec<Vec<u8>> = (0..200_000).map(|i| string(&format!("token {i}"))).collect();
    let draft =
        Draft::default().text("long", &long).array("many", 8, &many).tensor("t", &[32], 0, 0).data(128);
    let gguf = draft.open().unwrap();
    assert!(gguf.str("long").unwrap() == long);
    assert_eq!(gguf.strings("many").unwrap().last(), Some("token 199999"));
    assert_eq!(gguf.data(&gguf.tensors()[0]).unwrap(), [0; 128]);

    // Two gigabytes that take no room on the disk.
    let claim = |value: &[u8], ty| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&Draft::default().key("vast", ty, value).bytes()).unwrap();
        file.as_file().set_len(2 << 30).unwrap();
        Gguf::open(file.path()).unwrap_err().to_string()
    };
    for error in [
        claim(&(1u64 << 30).to_le_bytes(), 8),
        claim(&[&6u32.to_le_bytes()[..], &(1u64 << 28).to_le_bytes()].concat(), 9),
    ] {
        assert!(
            error.contains("metadata \"vast\": its ") && error.contains("larger than 256 MiB"),
            "{error}"
        );
    }
}

#[test]
fn the_first_elements_of_an_array_are_its_own() {
    let texts: Vec<Vec<u8>> = ["a", "", "c"].map(string).into();
    let gguf = Draft::default()
        .array("texts", 8, &texts)
        .array("numbers", 3, &[vec![0xfe, 0xff], vec![1, 0]])
        .open();
    let gguf = gguf.unwrap();
    let first = |key: &str, count| match gguf.get(key) {
        Some(Value::Array(array)) => gguf.first(array, count),
        other => panic!("{other:?}"),
    };
    assert_eq!(first("texts", 2), [Value::String("a".to_owned()), Value::String(String::new())]);
    assert_eq!(first("texts", 9).len(), 3);
    assert_eq!(first("numbers", 9)[0], Value::Int { value: -2, ty: ValueType::I16 });
    assert_eq!(gguf.metadata().map(|(key, _)| key).collect::<Vec<_>>(), ["numbers", "texts"]);
}

#[test]
fn faulty_metadata_are_refused_by_key() {
    refused(Draft::default().text("twice", "1").text("twice", "2"), &["\"twice\"", "occurs twice"]);
    refused(Draft::default().key("odd", 13, []), &["\"odd\"", "value type 13"]);
    refused(Draft::default().key("maybe", 7, [2]), &["\"maybe\"", "neither true nor false"]);
    refused(
        Draft::default().array("list", 8, &[string("a"), [&string("xy")[..8], b"\xff\xff"].concat()]),
        &["\"list\"", "UTF-8"],
    );
    refused(Draft::default().text(&"k".repeat(600), ""), &["600 bytes"]);
    refused(Draft::default().u32("general.alignment", 24), &["general.alignment", "24", "power of two"]);
    refused(Draft::default().u32("general.alignment", 0), &["general.alignment"]);
    refused(Draft::default().text("general.alignment", "32"), &["general.alignment", "integer"]);
}

#[test]
fn faulty_tensors_are_refused_by_name() {
    let one = |dims: &[u64], ty, offset| Draft::default().tensor("t", dims, ty, offset).data(4096);
    refused(one(&[32], 99, 0), &["\"t\"", "type 99", "not a known tensor type"]);
    refused(one(&[32], 4, 0), &["\"t\"", "type 4"]);
    refused(one(&[], 0, 0), &["\"t\"", "0 dimensions"]);
    refused(one(&[1; 5], 0, 0), &["\"t\"", "5 dimensions"]);
    refused(one(&[32, 0], 0, 0), &["\"t\"", "dimension of 0"]);
    refused(one(&[33], 2, 0), &["\"t\"", "rows of 33", "32 Q4_0"]);
    refused(one(&[1 << 32, 1 << 32], 0, 0), &["\"t\"", "too large"]);
    refused(one(&[1 << 62, 2], 0, 0), &["\"t\"", "too large"]);
    refused(one(&[32], 0, u64::MAX - 31), &["\"t\"", "too large"]);
    refused(one(&[32], 0, 16), &["\"t\"", "offset 16", "multiple of 32"]);
    refused(one(&[32], 0, 4096), &["\"t\"", "its data", "this one has"]);
    refused(one(&[32], 0, 0).tensor("t", &[32], 0, 128), &["\"t\"", "occurs twice"]);
    refused(one(&[64], 0, 0).tensor("u", &[32], 0, 128), &["\"u\"", "overlap", "\"t\""]);
    refused(one(&[32], 0, 0).tensor("u", &[32], 0, 0), &["overlap"]);
    refused(one(&[32], 0, 128).tensor("u", &[64], 0, 0), &["\"t\"", "overlap", "\"u\""]);
    assert!(one(&[64], 0, 0).tensor("u", &[32], 0, 256).open().is_ok());
}

#[test]
fn a_file_cut_short_after_it_was_opened_is_told_by_the_tensor() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&std::fs::read(golden("llama-f32.gguf")).unwrap()).unwrap();
    let gguf = Gguf::open(file.path()).unwrap();
    let last = gguf.tensors().iter().max_by_key(|tensor| tensor.bytes.end).unwrap();
    assert_eq!(gguf.data(last).unwrap().len(), last.bytes.len());
    let end = last.bytes.end as u64;
    file.as_file().set_len(end - 1).unwrap();
    let error = gguf.data(last).unwrap_err().to_string();
    let parts =
        [format!("tensor {:?}", last.name), format!("up to {end}"), format!("now it has {}", end - 1)];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    assert!(error.contains("cut short"), "{error}");
    // What is left of it can be read, and its metadata are in memory.
    assert!(gguf.read(last, 0..last.bytes.len() - 1).is_ok());
    file.as_file().set_len(0).unwrap();
    assert_eq!(gguf.strings("tokenizer.ggml.tokens").unwrap().count(), 320);
}

#[test]
fn a_model_whose_file_is_cut_short_while_it_loads_is_told() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let bytes = std::fs::read(golden("llama-f32.gguf")).unwrap();
    file.write_all(&bytes).unwrap();
    let gguf = Gguf::open(file.path()).unwrap();
    file.as_file().set_len(bytes.len() as u64 / 2).unwrap();
    let limits = BatchLimits { tokens: 8, sequences: 1, context: 64 };
    let plan = Plan { numerics: Numerics::F32, limits, pages: 1 };
    let loaded = Model::load(&Device::cpu(1), &gguf, plan, &mut |_, _| ());
    let error = loaded.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("tensor \"") && error.contains("cut short"), "{error}");
}

#[test]
fn another_alignment_is_followed() {
    let draft = Draft::default().u32("general.alignment", 64).tensor("t", &[8], 24, 64).data(256);
    let gguf = draft.open().unwrap();
    assert_eq!(gguf.tensors()[0].bytes.start % 64, 0);
    refused(
        Draft::default().u32("general.alignment", 64).tensor("t", &[8], 24, 32).data(256),
        &["multiple of 64"],
    );
}
