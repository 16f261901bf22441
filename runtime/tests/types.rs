//! Weights of several types in one model, and what tensor cores ask of one.

#[allow(dead_code, reason = "other tests use the rest of it")]
mod draft;

use draft::llama::{BF16, F16, F32, Q8_0, llama};
use half::{bf16, f16};
use runtime::batch::{Batch, BatchLimits, Chunk};
use runtime::device::Device;
use runtime::gguf::Gguf;
use runtime::model::{Model, Plan};
use runtime::numerics::Numerics;

const N: usize = 32;
const TOKENS: [u32; 5] = [2, 0, 3, 3, 1];

/// Multiples of 1/16 that all types can store; ones for norms, so that no value vanishes.
fn value(name: &str, row: usize, column: usize) -> f32 {
    if name.contains("norm") {
        return 1.0;
    }
    let salt: usize = name.bytes().map(usize::from).sum();
    ((salt + row * 7 + column * 5 + row * column) % 17) as f32 / 16.0 - 0.5
}

/// Bits of the logits after [`TOKENS`], with the tensors' types; or why there are none.
fn logits(
    numerics: Numerics,
    n: usize,
    ty: impl Fn(&str) -> u32,
    value: impl Fn(&str, usize, usize) -> f32,
) -> Result<Vec<u32>, String> {
    of_file(numerics, &llama(n, ty, value))
}

/// [`logits`] of a file's bytes.
fn of_file(numerics: Numerics, file: &[u8]) -> Result<Vec<u32>, String> {
    let device = Device::cpu(2);
    let gguf = draft::open(file)?;
    let limits = BatchLimits { tokens: TOKENS.len(), sequences: 1, context: 64 };
    let plan = Plan { numerics, limits, pages: 1 };
    let mut model = Model::load(&device, &gguf, plan, &mut |_, _| ()).map_err(|error| error.to_string())?;
    let mut batch = Batch::default();
    batch.push(Chunk { tokens: &TOKENS, start: 0, pages: &[0], wants_logits: true });
    model.forward(&device, &batch, None).map_err(|error| error.to_string())?;
    let logits = device.download(model.logits(), 0, model.config().vocab).map_err(|e| e.to_string())?;
    assert!(logits.iter().all(|logit| logit.is_finite()) && logits[0] != logits[1], "{logits:?}");
    Ok(logits.into_iter().map(f32::to_bits).collect())
}

/// `other` for the tensors of these names, `most` for the rest.
fn but(names: &'static [&str], other: u32, most: u32) -> impl Fn(&str) -> u32 {
    move |tensor| if names.iter().any(|name| tensor.contains(name)) { other } else { most }
}

/// Matrices that multiply the same rows, and those of the rest.
const MIXES: [&[&str]; 6] =
    [&["attn_q"], &["attn_k"], &["attn_v"], &["attn_q", "attn_v"], &["ffn_gate"], &["ffn_up"]];

#[test]
fn mixed_types_give_the_bits_of_one_type_that_holds_the_same_values() {
    for (numerics, most, others) in
        [(Numerics::F32, F32, &[F16, Q8_0][..]), (Numerics::F32, F16, &[Q8_0]), (Numerics::Tc, F16, &[Q8_0])]
    {
        let one = logits(numerics, N, |_| most, value).expect("logits");
        for (names, &other) in MIXES.iter().flat_map(|names| others.iter().map(move |other| (names, other))) {
            let mixed = logits(numerics, N, but(names, other, most), value).expect("logits");
            assert!(mixed == one, "{numerics}: {names:?} of type {other} among {most}");
            // The values of these tensors take part at all.
            let altered = |name: &str, row: usize, column: usize| {
                let is_first = names.iter().any(|n| name.contains(n) && name.ends_with("weight"));
                if is_first && column == 0 { -0.5 } else { value(name, row, column) }
            };
            let altered = logits(numerics, N, but(names, other, most), altered).expect("logits");
            assert!(altered != one, "{numerics}: {names:?} has no effect");
        }
    }
}

#[test]
fn rows_are_rounded_for_each_type_that_multiplies_them() {
    let values = |bits: Vec<u32>| bits.into_iter().map(f32::from_bits).collect::<Vec<_>>();
    for (most, other) in [(F16, F32), (F32, F16), (BF16, F16), (F16, BF16), (Q8_0, BF16), (F32, Q8_0)] {
        for names in MIXES {
            let mixed = |value: &dyn Fn(&str, usize, usize) -> f32, numerics| {
                values(logits(numerics, N, but(names, other, most), value).expect("logits"))
            };
            let tc = mixed(&value, Numerics::Tc);
            assert_near(
                &tc,
                &mixed(&value, Numerics::F32),
                &format!("{names:?} of type {other} among {most}"),
            );
            // Not the rounding of most; of scores too little is left to tell.
            let one = values(logits(Numerics::Tc, N, |_| most, value).expect("logits"));
            assert!(
                tc != one || matches!(names, ["attn_q"] | ["attn_k"]),
                "{names:?} of type {other} among {most}"
            );
        }
    }
}

/// That logits differ by what rounding to 8 bits does.
fn assert_near(got: &[f32], want: &[f32], what: &str) {
    let greatest = want.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let error = got.iter().zip(want).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / greatest;
    assert!(error < 0.02, "{what}: {error} of the greatest");
}

/// The fixture of gpt-oss in F32, with experts' matrices in other types.
fn experts(types: [(&str, u32); 3]) -> Vec<u8> {
    let path = draft::golden("gpt-oss-f32.gguf");
    let gguf = Gguf::open(&path).expect("a fixture");
    let mut bytes = std::fs::read(path).expect("a fixture");
    for block in 0..2 {
        for (part, ty) in types {
            let name = format!("blk.{block}.{part}.weight");
            let tensor = gguf.tensor(&name).expect("experts");
            let values = gguf.data(tensor).expect("its data");
            let values = values.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four));
            let data: Vec<u8> = match ty {
                F32 => continue,
                F16 => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
                _ => values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
            };
            bytes[tensor.bytes.start..][..data.len()].copy_from_slice(&data);
            // Behind the name: the number of dimensions, these, the type.
            let at =
                bytes.windows(name.len()).position(|window| window == name.as_bytes()).expect("its entry");
            bytes[at + name.len() + 4 + 3 * 8..][..4].copy_from_slice(&ty.to_le_bytes());
        }
    }
    bytes
}

#[test]
fn experts_are_of_any_types_together() {
    const TYPES: [u32; 3] = [F32, F16, BF16];
    for (gate, up, down) in TYPES
        .iter()
        .flat_map(|&gate| TYPES.iter().flat_map(move |&up| TYPES.iter().map(move |&down| (gate, up, down))))
    {
        let file = experts([("ffn_gate_exps", gate), ("ffn_up_exps", up), ("ffn_down_exps", down)]);
        let [tc, f32] = [Numerics::Tc, Numerics::F32].map(|numerics| {
            let bits = of_file(numerics, &file).expect("logits");
            bits.into_iter().map(f32::from_bits).collect::<Vec<_>>()
        });
        assert_near(&tc, &f32, &format!("gate {gate}, up {up}, down {down}"));
    }
}

#[test]
fn heads_that_tensor_cores_cannot_take_are_refused_and_run_in_f32() {
    let error = logits(Numerics::Tc, 24, |_| F16, value).expect_err("a refusal");
    let parts = ["llama.attention.key_length", "heads of 24", "multiples of 16", "--numerics f32"];
    assert!(parts.iter().all(|part| error.contains(part)) && !error.contains('\n'), "{error}");
    logits(Numerics::F32, 24, |_| F16, value).expect("f32 takes them");
    // Without 16-bit weights no tensor core takes part.
    let [f32, tc] = [Numerics::F32, Numerics::Tc].map(|numerics| logits(numerics, 24, |_| F32, value));
    assert_eq!(f32.expect("logits"), tc.expect("logits"));
}

#[test]
fn rows_that_tensor_cores_cannot_copy_are_refused_by_name_and_run_in_f32() {
    // All else is F32, so that heads may have any size.
    let rows_of =
        |numerics, n, tensor: &str| logits(numerics, n, |name| if name == tensor { F16 } else { F32 }, value);
    for tensor in ["blk.0.attn_output.weight", "blk.0.ffn_down.weight", "token_embd.weight"] {
        let error = rows_of(Numerics::Tc, 100, tensor).expect_err("a refusal");
        let parts = [tensor, "rows of 100 in F16", "multiples of 8", "--numerics f32"];
        assert!(parts.iter().all(|part| error.contains(part)) && !error.contains('\n'), "{error}");
        rows_of(Numerics::F32, 100, tensor).expect("f32 takes them");
        rows_of(Numerics::Tc, 104, tensor).expect("a multiple of 8");
    }
}
