//! A step takes no memory of the device.

#[allow(dead_code, reason = "other tests use the rest of it")]
mod draft;

use runtime::batch::{Batch, BatchLimits, Chunk};
use runtime::device::Device;
use runtime::gguf::{Gguf, TensorType};
use runtime::model::{Model, Plan};
use runtime::numerics::Numerics;
use runtime::synthetic::{self, Shape};

#[test]
fn a_step_allocates_nothing() {
    let shape = Shape::named("tiny").expect("the shape for tests");
    allocates_nothing(&synthetic::model(shape, TensorType::Q8_0, 0).expect("a header"));
    for name in ["qwen3-f16", "phi3-window-bf16", "gpt2-f16"] {
        allocates_nothing(&Gguf::open(&draft::golden(&format!("{name}.gguf"))).expect(name));
    }
}

fn allocates_nothing(gguf: &Gguf) {
    for numerics in [Numerics::F32, Numerics::Tc] {
        let device = Device::cpu(2);
        let limits = BatchLimits { tokens: 16, sequences: 3, context: 64 };
        let plan = Plan { numerics, limits, pages: 6 };
        let mut model = Model::load(&device, gguf, plan, &mut |_, _| ()).expect("a model");
        let (made, used) = (device.allocations(), device.usage());
        assert!(made > 10, "the model's own are counted: {made}");

        for step in 0..40 {
            let mut batch = Batch::default();
            for (i, pages) in [[0, 1], [2, 3], [4, 5]].iter().enumerate() {
                // A prompt of five tokens, then decoding; one sequence begins later.
                let (start, tokens): (usize, &[u32]) = match step {
                    0 => (0, &[1, 2, 3, 4, 5]),
                    _ => (4 + step, &[7]),
                };
                if i < 2 || step > 20 {
                    batch.push(Chunk { tokens, start, pages, wants_logits: true });
                }
            }
            model.forward(&device, &batch, None).expect("a step");
            let logits =
                device.download(model.logits(), 0, batch.outputs() * model.config().vocab).expect("logits");
            assert!(logits.iter().all(|logit| logit.is_finite()) && logits.iter().any(|&logit| logit != 0.0));
        }
        assert_eq!((device.allocations(), device.usage()), (made, used), "{numerics}");
    }
}
