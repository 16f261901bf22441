//! Models that are drawn: in memory and as files the same, and as large as weights should be.

use std::io::{self, Write};

use cuda_std::Value;
use kernels::embed::{self, Embed, NO_FAULT};
use kernels::format::Stored;
use runtime::batch::BatchLimits;
use runtime::device::{Buffer, Device, Purpose};
use runtime::gguf::{Gguf, Tensor, TensorType};
use runtime::kv_cache::pages_for;
use runtime::model::config::{ModelConfig, Scaling};
use runtime::model::{Model, Plan};
use runtime::numerics::Numerics;
use runtime::synthetic::{self, Family, QUANTS, SHAPES, Shape};
use runtime::tokenizer::Tokenizer;
use runtime::trace::{PromptTrace, trace_prompt};
use tempfile::NamedTempFile;

fn drawn(quant: TensorType, seed: u64) -> Gguf {
    let shape = if quant.block_values() == 256 { "tiny-256" } else { "tiny" };
    synthetic::model(Shape::named(shape).expect("the shape for tests"), quant, seed).expect("a header")
}

/// The model as a file, opened.
fn written(model: &Gguf) -> Gguf {
    let mut file = NamedTempFile::new().expect("a temporary file");
    synthetic::write(&Device::cpu(2), model, &mut file, &mut |_, _| ()).expect("room for it");
    Gguf::open(file.path()).expect("a file that the reader takes")
}

fn trace(gguf: &Gguf) -> PromptTrace {
    trace_in(Numerics::F32, gguf)
}

fn trace_in(numerics: Numerics, gguf: &Gguf) -> PromptTrace {
    let device = Device::cpu(2);
    let limits = BatchLimits { tokens: 8, sequences: 1, context: 32 };
    let plan = Plan { numerics, limits, pages: pages_for(32) };
    let mut model = Model::load(&device, gguf, plan, &mut |_, _| ()).expect("a model");
    trace_prompt(&device, &mut model, &[256, 72, 105, 33, 0], 6, true).expect("a trace")
}

#[test]
fn a_written_model_computes_the_same_bits_as_the_drawn_one() {
    for quant in QUANTS {
        let model = drawn(quant, 7);
        let (here, there) = (trace(&model), trace(&written(&model)));
        assert!(here == there, "{quant}: {:?} and {:?}", here.steps, there.steps);
        let spread: f32 =
            here.final_logits.iter().map(|x| x * x).sum::<f32>() / here.final_logits.len() as f32;
        assert!((0.25..4.0).contains(&spread), "{quant}: the logits' mean square is {spread}");
        assert!(trace(&drawn(quant, 8)).final_logits != here.final_logits, "the seed makes a difference");
    }
}

/// A shape of the same kind that takes no time.
fn scaled_down(shape: &Shape) -> Shape {
    let grouped = if shape.kv_heads < shape.heads { 2 } else { 4 };
    Shape {
        blocks: 2,
        hidden: 64,
        feed_forward: 96,
        heads: 4,
        kv_heads: grouped,
        head_dim: 16,
        vocab: 320,
        context: 256,
        window: shape.window.map(|_| 3),
        ..shape.clone()
    }
}

#[test]
fn a_shape_of_every_family_computes_the_same_bits_drawn_and_written() {
    let mut logits = Vec::new();
    for shape in SHAPES.iter().filter(|shape| !matches!(shape.family, Family::GptOss(_))) {
        let drawn = synthetic::model(&scaled_down(shape), TensorType::BF16, 7).expect("a header");
        let written = written(&drawn);
        for numerics in [Numerics::F32, Numerics::Tc] {
            let (here, there) = (trace_in(numerics, &drawn), trace_in(numerics, &written));
            assert!(here == there, "{} in {numerics}: {:?} and {:?}", shape.name, here.steps, there.steps);
            let squares = here.final_logits.iter().map(|x| x * x).sum::<f32>();
            let spread = squares / here.final_logits.len() as f32;
            assert!((0.25..4.0).contains(&spread), "{}: the logits' mean square is {spread}", shape.name);
            if numerics == Numerics::F32 {
                logits.push((shape, here.final_logits));
            }
        }
    }
    // A bias, a norm or a window that nothing reads would leave two families alike.
    for (i, (one, of_one)) in logits.iter().enumerate() {
        for (other, of_other) in &logits[..i] {
            let alike = Shape { name: one.name, pre: one.pre, ..scaled_down(other) } == scaled_down(one);
            assert_eq!(of_one == of_other, alike, "{} and {}", one.name, other.name);
        }
    }
}

#[test]
fn a_shape_says_of_its_model_what_the_models_own_files_say() {
    for (name, window, original) in [
        ("mistral-7b", 4096, None),
        ("qwen3-8b", 0, None),
        ("phi-3.5-mini", 0, Some(4096)),
        ("gpt2-xl", 0, None),
    ] {
        let shape = Shape::named(name).expect("a shape");
        let model = synthetic::model(shape, TensorType::BF16, 0).expect("a header");
        let config = ModelConfig::from_gguf(&model).expect("a model");
        assert_eq!((config.blocks, config.context, config.window), (shape.blocks, shape.context, window));
        let heads = (config.heads.query, config.heads.kv, config.heads.dim);
        assert_eq!(heads, (shape.heads, shape.kv_heads, shape.head_dim), "{name}");
        match (config.rope.scaling, original) {
            (Scaling::Long { original }, Some(wanted)) => {
                assert_eq!(original, wanted);
                // The root of 1 + ln 32 / ln 4096.
                assert!((config.rope.magnitude - 1.190_238).abs() < 1e-6, "{}", config.rope.magnitude);
            }
            (scaling, None) => assert_eq!(scaling, Scaling::Linear { factor: 1.0 }, "{name}"),
            (scaling, _) => panic!("{name}: {scaling:?}"),
        }
    }
}

#[test]
fn a_mixture_is_drawn_as_other_models_are() {
    let shape = Shape::named("tiny-gpt-oss").expect("the shape for tests");
    for quant in [TensorType::BF16, TensorType::Q8_0, TensorType::MXFP4] {
        let model = synthetic::model(shape, quant, 7).expect("a header");
        assert_eq!(model.tensor("blk.1.ffn_up_exps.weight").map(|tensor| tensor.ty), Some(quant));
        let (here, there) = (trace(&model), trace(&written(&model)));
        assert!(here == there, "{quant}: {:?} and {:?}", here.steps, there.steps);
        assert!(here.final_logits.iter().all(|logit| logit.is_finite()));
    }
}

#[test]
fn experts_of_other_types_are_refused_before_anything_is_uploaded() {
    let tiny = Shape::named("tiny-gpt-oss").expect("the shape for tests").clone();
    let shape = Shape { hidden: 256, feed_forward: 256, heads: 4, kv_heads: 2, head_dim: 64, ..tiny };
    let model = synthetic::model(&shape, TensorType::Q4_K, 7).expect("a header");
    for numerics in [Numerics::F32, Numerics::Tc] {
        let device = Device::cpu(1);
        let limits = BatchLimits { tokens: 8, sequences: 1, context: 32 };
        let plan = Plan { numerics, limits, pages: pages_for(32) };
        let mut uploaded = 0;
        let error = Model::load(&device, &model, plan, &mut |done, _| uploaded = done).err();
        let error = error.expect("a refusal").to_string();
        assert!(error.contains("blk.0.ffn_gate_exps.weight") && error.contains("type Q4_K"), "{error}");
        assert_eq!(uploaded, 0);
    }
}

#[test]
fn gpt_oss_20b_is_as_large_as_its_files() {
    let shape = Shape::named("gpt-oss-20b").expect("a shape");
    let model = synthetic::model(shape, TensorType::MXFP4, 0).expect("a header");
    let bytes = |of: &dyn Fn(&Tensor) -> bool| -> usize {
        model.tensors().iter().filter(|&tensor| of(tensor)).map(|tensor| tensor.bytes.len()).sum()
    };
    // Three matrices of 2880 x 2880 for each of 32 experts in 24 blocks, 17 bytes for 32 values.
    let experts = 24 * 3 * 32 * 2880 * 2880 / 32 * 17;
    assert_eq!(bytes(&|tensor| tensor.ty == TensorType::MXFP4), experts);
    assert!((13_500_000_000..14_500_000_000).contains(&bytes(&|_| true)), "{}", bytes(&|_| true));
}

#[test]
fn a_written_model_takes_and_gives_text() {
    let gguf = written(&drawn(TensorType::Q8_0, 0));
    assert_eq!(gguf.quant_kind(), Some(TensorType::Q8_0));
    let tokenizer = Tokenizer::from_gguf(&gguf).expect("a tokenizer");
    assert_eq!((tokenizer.vocab_size(), tokenizer.kind()), (320, "gpt2/llama-bpe"));
    let text = "Ünïcode, 123\n\0 </s>";
    let ids = tokenizer.encode(text);
    assert_eq!((ids[0], ids[ids.len() - 1]), (256, 257));
    assert_eq!(tokenizer.decode_string(&ids), "Ünïcode, 123\n\0 ");
    assert!(tokenizer.is_end(257) && !tokenizer.is_end(300));
}

/// The values of a tensor: as a table, all of its rows looked up.
fn values(gguf: &Gguf, tensor: &Tensor) -> Vec<f32> {
    let device = Device::cpu(1);
    let (n, rows) = (tensor.dims[0], tensor.values() / tensor.dims[0]);
    fn put<V: Value>(device: &Device, values: &[V]) -> Buffer<V> {
        let mut buffer = device.alloc(Purpose::Activations, values.len()).expect("memory");
        device.upload(&mut buffer, 0, values).expect("uploaded");
        buffer
    }
    let (table, ids) =
        (put(&device, &gguf.data(tensor).expect("its data")), put(&device, &Vec::from_iter(0..rows as u32)));
    let (y, fault) = (put(&device, &vec![0f32; n * rows]), put(&device, &[NO_FAULT]));
    // SAFETY: the views are whole buffers, of the sizes that the kernel documents.
    unsafe {
        let args = Embed {
            table: table.view(0, table.len()),
            ids: ids.view(0, rows),
            y: y.view_mut(0, n * rows),
            fault: fault.view_mut(0, 1),
            n: n as u32,
            vocab: rows as u32,
            tokens: rows as u32,
        };
        device.launch(embed::of(tensor.ty.stored().expect("a type that is run")), &args).expect("launched");
    }
    device.download(&y, 0, n * rows).expect("downloaded")
}

#[test]
fn weights_have_the_spread_that_keeps_a_product_as_large_as_its_input() {
    for quant in QUANTS {
        let gguf = written(&drawn(quant, 3));
        for tensor in gguf.tensors() {
            let values: Vec<f64> = values(&gguf, tensor).into_iter().map(f64::from).collect();
            assert_eq!(values.len(), tensor.values());
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            if tensor.dims.len() == 1 {
                assert!(values.iter().all(|x| (0.875..=1.125).contains(x)), "{}", tensor.name);
                assert!((mean - 1.0).abs() < 0.05, "{}: mean {mean}", tensor.name);
                continue;
            }
            let deviation = (values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt();
            let ratio = deviation * (tensor.dims[0] as f64).sqrt();
            // MXFP4's scales are powers of two.
            let near = if quant == TensorType::MXFP4 { 0.7..1.42 } else { 0.95..1.05 };
            assert!(near.contains(&ratio), "{quant} {}: {ratio} of what it should be", tensor.name);
            assert!(mean.abs() < 0.1 * deviation, "{quant} {}: mean {mean}", tensor.name);
        }
    }
}

/// A disk that has room for so many bytes.
struct Disk(usize);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let (model, device) = (drawn(TensorType::BF16, 0), Device::cpu(1));
    let total = model.tensors().iter().map(|tensor| tensor.bytes.end).max().expect("tensors");
    for room in [0, 1000, total / 2, total - 1] {
        let error = synthetic::write(&device, &model, &mut Disk(room), &mut |_, _| ()).expect_err("no room");
        assert!(matches!(&error, synthetic::WriteError::Io(e) if e.kind() == io::ErrorKind::StorageFull));
    }
    let mut told = Vec::new();
    synthetic::write(&device, &model, &mut Disk(total), &mut |done, of| told.push((done, of))).expect("room");
    assert_eq!(told.last(), Some(&(total as u64, total as u64)));
    assert!(told.is_sorted());
}

const QUANT_NAMES: &str =
    "bf16, f16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs, mxfp4";

#[test]
fn every_type_that_kernels_read_can_be_drawn() {
    let drawn = QUANTS.iter().chain(&[TensorType::F32]).filter_map(|ty| ty.stored());
    let (mut drawn, mut all) = (
        Vec::from_iter(drawn.map(Stored::name)),
        Vec::from_iter(Stored::ALL.iter().map(|stored| stored.name())),
    );
    drawn.sort();
    all.sort();
    assert_eq!(drawn, all);
}

#[test]
fn a_shape_whose_rows_are_no_whole_super_blocks_is_refused() {
    let shape = Shape::named("smollm2-135m").expect("a shape");
    let error = synthetic::model(shape, TensorType::Q4_K, 0).expect_err("576 values a row").to_string();
    assert!(error.contains("token_embd.weight") && error.contains("blocks of 256 Q4_K values"), "{error}");
}

#[test]
fn names_that_are_not_known_are_answered_with_those_that_are() {
    assert_eq!(
        Shape::named("llama"),
        Err("there are smollm2-135m, llama-3.2-1b, llama-3-8b, mistral-7b, qwen2.5-7b, qwen3-8b, phi-3.5-mini, \
             gpt2, gpt2-xl, gpt-oss-20b"
            .to_owned())
    );
    assert_eq!(synthetic::quant("q5"), Err(format!("there are {QUANT_NAMES}")));
    assert_eq!(synthetic::quant("q4_1"), Ok(TensorType::Q4_1));
}

#[test]
fn the_shapes_have_as_many_weights_as_the_published_models() {
    for (name, parameters) in [
        ("smollm2-135m", 134_515_008),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3-8b", 8_030_261_248),
        ("mistral-7b", 7_241_732_096),
        ("qwen2.5-7b", 7_615_616_512),
        ("qwen3-8b", 8_190_735_360),
        ("phi-3.5-mini", 3_821_079_552),
        ("gpt2", 124_439_808),
        ("gpt2-xl", 1_557_611_200),
    ] {
        let model =
            synthetic::model(Shape::named(name).expect("a shape"), TensorType::BF16, 0).expect("a header");
        // The factors of frequencies are settings in the published files.
        let weights = model.tensors().iter().filter(|tensor| !tensor.name.starts_with("rope_factors"));
        assert_eq!(weights.map(Tensor::values).sum::<usize>(), parameters, "{name}");
    }
}
