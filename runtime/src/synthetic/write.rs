//! A drawn model as the bytes of a file.

use std::io::{self, Write};

use crate::device::{Device, DeviceError, Purpose};
use crate::gguf::{Content, Gguf};

/// Bytes drawn and written at once.
const CHUNK: usize = 16 << 20;

/// Why a model could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The device failed or lacks memory.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The output failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes a drawn model, [`super::model`], as a GGUF file; `progress` is told the bytes written so far and in all. Takes
/// memory for a few pieces of a tensor, whatever its size.
///
/// # Errors
/// A failing device or output.
///
/// # Panics
/// If the model is a file already.
pub fn write(
    device: &Device,
    gguf: &Gguf,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), WriteError> {
    let total = gguf.tensors().iter().map(|tensor| tensor.bytes.end).max().unwrap_or(0) as u64;
    let buffer = device.alloc::<u8>(Purpose::Weights, CHUNK)?;
    let mut at = gguf.header().len();
    out.write_all(gguf.header())?;
    let Content::Drawn(seed) = gguf.content() else { panic!("only drawn models are written") };
    for tensor in gguf.tensors() {
        // Tensors lie in the order in which the header has them.
        out.write_all(&vec![0; tensor.bytes.start - at])?;
        for start in (0..tensor.bytes.len()).step_by(CHUNK) {
            let piece = start..tensor.bytes.len().min(start + CHUNK);
            let len = piece.len();
            super::draw(device, tensor, seed, piece, &buffer, 0)?;
            out.write_all(&device.download(&buffer, 0, len)?)?;
            progress((tensor.bytes.start + start + len) as u64, total);
        }
        at = tensor.bytes.end;
    }
    Ok(out.flush()?)
}
