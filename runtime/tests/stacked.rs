//! Several matrices of a file as one.

#[allow(dead_code, reason = "other tests use the rest of it")]
mod draft;

use draft::Draft;
use runtime::device::Device;
use runtime::gguf::Gguf;
use runtime::model::linear::Linear;
use runtime::model::weights::{Loader, Matrix, Stored};
use runtime::numerics::{Form, Numerics};

const F32: u32 = 0;
const F16: u32 = 1;
const Q4_K: u32 = 12;
const Q6_K: u32 = 14;
const COLUMNS: usize = 4;

/// A file of matrices `(name, rows, type, has a bias)`, each byte of data with a number of its own.
fn file(matrices: &[(&str, usize, u32, bool)]) -> Gguf {
    let (mut draft, mut at) = (Draft::default(), 0);
    for &(name, rows, ty, bias) in matrices {
        let size = if ty == F32 { 4 } else { 2 };
        draft = draft.tensor(&format!("{name}.weight"), &[COLUMNS as u64, rows as u64], ty, at as u64);
        at += (size * rows * COLUMNS).next_multiple_of(32);
        if bias {
            draft = draft.tensor(&format!("{name}.bias"), &[rows as u64], F32, at as u64);
            at += (4 * rows).next_multiple_of(32);
        }
    }
    let mut bytes = draft.data(at).bytes();
    let start = bytes.len() - at;
    bytes[start..].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 251) as u8);
    draft::open(&bytes).expect("a whole file")
}

fn bytes(device: &Device, matrix: &Matrix) -> Vec<u8> {
    device.download(&matrix.bytes, 0, matrix.bytes.len()).expect("the CPU's memory")
}

fn bias(device: &Device, matrix: &Matrix) -> Option<Vec<u32>> {
    let values = matrix.bias.as_ref()?;
    let values = device.download(values, 0, values.len()).expect("the CPU's memory");
    Some(values.into_iter().map(f32::to_bits).collect())
}

#[test]
fn rows_and_biases_follow_each_other() {
    let gguf = file(&[("q", 3, F16, false), ("k", 1, F16, true), ("v", 2, F16, true)]);
    let device = Device::cpu(1);
    let mut told = 0;
    let mut progress = |done, total| {
        assert!(done <= total);
        told = done;
    };
    let mut load = Loader::new(&device, &gguf, &mut progress).expect("known types");
    let all = load.stacked(&["q", "k", "v"], &[3, 1, 2], COLUMNS).expect("right shapes").expect("one type");
    assert_eq!((all.stored, all.rows, all.columns), (Stored::F16, 6, COLUMNS));
    let of = |name: &str| gguf.data(gguf.tensor(name).expect("a tensor")).expect("read");
    assert_eq!(bytes(&device, &all), [of("q.weight"), of("k.weight"), of("v.weight")].concat());
    let biases = [&[0; 12][..], &of("k.bias"), &of("v.bias")].concat();
    let biases: Vec<u32> = biases.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
    assert_eq!(bias(&device, &all), Some(biases));
    assert_eq!(told, 6 * COLUMNS as u64 * 2 + 3 * 4);
}

#[test]
fn without_any_bias_there_is_none() {
    let gguf = file(&[("gate", 2, F32, false), ("up", 2, F32, false)]);
    let device = Device::cpu(1);
    let mut progress = |_, _| ();
    let mut load = Loader::new(&device, &gguf, &mut progress).expect("known types");
    let both = load.stacked(&["gate", "up"], &[2, 2], COLUMNS).expect("right shapes").expect("one type");
    assert!(both.bias.is_none());
    let alone = load.matrix("up", 2, COLUMNS).expect("right shape");
    assert_eq!(bytes(&device, &both)[2 * COLUMNS * 4..], bytes(&device, &alone));
}

#[test]
fn different_types_are_not_stacked_and_nothing_is_uploaded() {
    let gguf = file(&[("gate", 2, F16, true), ("up", 2, F32, false)]);
    let device = Device::cpu(1);
    let mut progress = |_, _| panic!("nothing is to be uploaded");
    let mut load = Loader::new(&device, &gguf, &mut progress).expect("known types");
    assert!(load.stacked(&["gate", "up"], &[2, 2], COLUMNS).expect("right shapes").is_none());
    assert_eq!(device.usage().total(), 0);
}

#[test]
fn a_type_that_is_not_run_is_refused_by_name_before_anything_is_uploaded() {
    const IQ3_XXS: u32 = 18;
    let draft =
        Draft::default().tensor("a.weight", &[32], F32, 0).tensor("b.weight", &[256, 3], IQ3_XXS, 128);
    let gguf = draft::open(&draft.data(128 + 3 * 98).bytes()).expect("a whole file");
    let device = Device::cpu(1);
    let mut progress = |_, _| panic!("nothing is to be uploaded");
    let error = Loader::new(&device, &gguf, &mut progress).err().expect("an error").to_string();
    let supported =
        "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4";
    let part = format!("tensor \"b.weight\": type IQ3_XXS is not supported; supported: {supported}");
    assert!(error.contains(&part), "{error}");
    assert_eq!(device.usage().total(), 0);
}

#[test]
fn rows_are_left_in_the_form_of_all_types_or_in_f32() {
    const MXFP4: u32 = 39;
    let load = |numerics, other: u32, bytes: usize| {
        let draft = Draft::default().tensor("q.weight", &[256, 2], Q4_K, 0);
        let draft = draft.tensor("k.weight", &[256, 1], other, 288).data(288 + bytes);
        let (device, gguf) = (Device::cpu(1), draft::open(&draft.bytes()).expect("a whole file"));
        let mut progress = |_, _| ();
        let mut load = Loader::new(&device, &gguf, &mut progress).expect("known types");
        let linear = Linear::load(&mut load, numerics, &["q", "k"], &[2, 1], 256);
        linear.map(|linear| linear.form()).map_err(|error| error.to_string())
    };
    assert_eq!(load(Numerics::Tc, Q6_K, 210), Ok(Form::F16));
    assert_eq!(load(Numerics::F32, MXFP4, 8 * 17), Ok(Form::F32));
    assert_eq!(load(Numerics::Tc, MXFP4, 8 * 17), Ok(Form::F32));
}

#[test]
fn super_blocks_of_one_type_follow_each_other() {
    let draft = Draft::default().tensor("gate.weight", &[256, 3], Q6_K, 0);
    let draft = draft.tensor("up.weight", &[256, 1], Q6_K, 640).data(640 + 210);
    let mut file = draft.bytes();
    let start = file.len() - 850;
    file[start..].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 251) as u8);
    let gguf = draft::open(&file).expect("a whole file");
    let device = Device::cpu(1);
    let mut progress = |_, _| ();
    let mut load = Loader::new(&device, &gguf, &mut progress).expect("known types");
    let both = load.stacked(&["gate", "up"], &[3, 1], 256).expect("right shapes").expect("one type");
    assert_eq!((both.stored, both.rows), (Stored::Q6_K, 4));
    let of = |name: &str| gguf.data(gguf.tensor(name).expect("a tensor")).expect("its data");
    let (got, want) = (bytes(&device, &both), [of("gate.weight"), of("up.weight")].concat());
    // What fills the last 16 bytes up follows.
    assert_eq!(got[..want.len()], want);
    assert_eq!(got.len(), want.len().next_multiple_of(16));
}

#[test]
fn a_part_of_another_shape_is_refused_by_name_before_anything_is_uploaded() {
    let gguf = file(&[("gate", 2, F32, false), ("up", 2, F32, true)]);
    let device = Device::cpu(1);
    let mut progress = |_, _| panic!("nothing is to be uploaded");
    let mut load = Loader::new(&device, &gguf, &mut progress).expect("known types");
    for (names, rows, part) in [
        (["gate", "up"], [2, 3], "\"up.weight\": has dimensions [4, 2], [4, 3] were expected"),
        (["gate", "down"], [2, 2], "\"down.weight\": is missing"),
    ] {
        let error = load.stacked(&names, &rows, COLUMNS).err().expect("an error").to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(device.usage().total(), 0);
}
