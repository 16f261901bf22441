//! The angles of rotary position embedding, computed once on the host with a portable `libm`: every machine gets the same
//! bits.

use crate::device::{Device, Purpose};
use crate::gguf::{Gguf, TensorType};
use crate::model::ModelError;
use crate::model::config::ModelConfig;
use crate::ops::RopeTable;

/// Divides each frequency, where a model has it (Llama 3.1 and later).
const FACTORS: &str = "rope_freqs.weight";

/// Cosines and sines for `context` positions.
pub(super) fn load(
    device: &Device,
    gguf: &Gguf,
    config: &ModelConfig,
    context: usize,
) -> Result<RopeTable, ModelError> {
    let rope = config.rope;
    let half = rope.rotated / 2;
    let mut frequencies: Vec<f64> =
        (0..half).map(|i| libm::pow(rope.base, -2.0 * i as f64 / rope.rotated as f64) / rope.scale).collect();
    if let Some(tensor) = gguf.tensor(FACTORS) {
        let wrong = |problem: String| ModelError::Tensor {
            path: gguf.path().to_owned(),
            name: FACTORS.to_owned(),
            problem,
        };
        if tensor.ty != TensorType::F32 || tensor.values() != half {
            return Err(wrong(format!("is {:?} {:?}, F32 [{half}] was expected", tensor.ty, tensor.dims)));
        }
        for (frequency, bytes) in frequencies.iter_mut().zip(gguf.data(tensor)?.chunks_exact(4)) {
            let factor = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as f64;
            if !factor.is_finite() || factor == 0.0 {
                return Err(wrong(format!("a factor is {factor}")));
            }
            *frequency /= factor;
        }
    }
    // A planned device keeps none.
    let computed = if device.is_planned() { 0 } else { context };
    let mut angles = Vec::with_capacity(computed * half * 2);
    for position in 0..computed {
        for frequency in &frequencies {
            let (sin, cos) = libm::sincos(position as f64 * frequency);
            angles.extend([cos as f32, sin as f32]);
        }
    }
    let mut buffer = device.alloc(Purpose::Inputs, context * half * 2)?;
    device.upload(&mut buffer, 0, &angles)?;
    Ok(RopeTable { angles: buffer, rotated: rope.rotated })
}
