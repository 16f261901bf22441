//! Tensors from a file to a device, in their stored form.

use crate::device::{Buffer, Device, Purpose};
use crate::gguf::{Gguf, Tensor, TensorType};
use crate::model::ModelError;

/// A weight matrix: `rows` output features of `columns` input features.
pub struct Matrix {
    /// The rows, stored one after the other.
    pub bytes: Buffer<u8>,
    /// How a row is stored.
    pub stored: Stored,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
    /// `[rows]`, added to the product where the model has it.
    pub bias: Option<Buffer<f32>>,
}

/// Types of weights that the kernels read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the GGUF format")]
pub enum Stored {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
}

impl Stored {
    fn from(ty: TensorType) -> Option<Self> {
        Some(match ty {
            TensorType::F32 => Self::F32,
            TensorType::F16 => Self::F16,
            TensorType::BF16 => Self::BF16,
            TensorType::Q8_0 => Self::Q8_0,
            TensorType::Q4_0 => Self::Q4_0,
            TensorType::Q4_1 => Self::Q4_1,
            _ => return None,
        })
    }
}

/// Bytes uploaded at once.
const CHUNK: usize = 16 << 20;

/// Loads tensors and tells the progress.
pub struct Loader<'a> {
    device: &'a Device,
    gguf: &'a Gguf,
    progress: &'a mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
}

impl<'a> Loader<'a> {
    /// Checks first that every tensor has a type this program runs, so that nothing is uploaded in vain.
    ///
    /// # Errors
    /// Names the first tensor of another type.
    pub fn new(
        device: &'a Device,
        gguf: &'a Gguf,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Result<Self, ModelError> {
        let unknown = gguf.tensors().iter().find(|tensor| Stored::from(tensor.ty).is_none());
        if let Some(tensor) = unknown {
            let problem = format!(
                "type {} is not supported; supported: F32, F16, BF16, Q8_0, Q4_0, Q4_1",
                tensor.ty.name()
            );
            return Err(wrong(gguf, &tensor.name, problem));
        }
        let total = gguf.tensors().iter().map(|tensor| tensor.bytes.len() as u64).sum();
        Ok(Self { device, gguf, progress, done: 0, total })
    }

    /// Whether the file has the tensor.
    pub fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// The matrix `{name}.weight` of `rows` x `columns`, with `{name}.bias` where the file has it.
    ///
    /// # Errors
    /// A missing tensor or another shape; no memory.
    pub fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, ModelError> {
        let weight = format!("{name}.weight");
        let tensor = self.tensor(&weight, &[columns, rows])?;
        let stored = Stored::from(tensor.ty).ok_or_else(|| {
            wrong(self.gguf, &weight, format!("type {} is not supported", tensor.ty.name()))
        })?;
        let data = self.gguf.data(tensor);
        let mut bytes = self.device.alloc::<u8>(Purpose::Weights, data.len())?;
        for (i, chunk) in data.chunks(CHUNK).enumerate() {
            self.device.upload(&mut bytes, i * CHUNK, chunk)?;
            self.advance(chunk.len());
        }
        let bias = format!("{name}.bias");
        let bias = if self.has(&bias) { Some(self.vector(&bias, rows)?) } else { None };
        Ok(Matrix { bytes, stored, rows, columns, bias })
    }

    /// The f32 vector `name` of `len` values.
    ///
    /// # Errors
    /// A missing tensor, another shape or type; no memory.
    pub fn vector(&mut self, name: &str, len: usize) -> Result<Buffer<f32>, ModelError> {
        let tensor = self.tensor(name, &[len])?;
        if tensor.ty != TensorType::F32 {
            return Err(wrong(self.gguf, name, format!("type {} where F32 was expected", tensor.ty.name())));
        }
        let values: Vec<f32> = self
            .gguf
            .data(tensor)
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let mut buffer = self.device.alloc(Purpose::Weights, len)?;
        self.device.upload(&mut buffer, 0, &values)?;
        self.advance(4 * len);
        Ok(buffer)
    }

    fn tensor(&self, name: &str, dims: &[usize]) -> Result<&'a Tensor, ModelError> {
        let tensor = self.gguf.tensor(name).ok_or_else(|| wrong(self.gguf, name, "is missing".to_owned()))?;
        if tensor.dims != dims {
            let problem = format!("has dimensions {:?}, {dims:?} were expected", tensor.dims);
            return Err(wrong(self.gguf, name, problem));
        }
        Ok(tensor)
    }

    fn advance(&mut self, bytes: usize) {
        self.done += bytes as u64;
        (self.progress)(self.done, self.total);
    }
}

fn wrong(gguf: &Gguf, name: &str, problem: String) -> ModelError {
    ModelError::Tensor { path: gguf.path().to_owned(), name: name.to_owned(), problem }
}
