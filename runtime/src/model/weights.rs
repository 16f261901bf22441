//! Tensors from a file to a device, in their stored form; those of a model without a file are drawn there, those of a folder
//! made on the way.

use crate::device::{Buffer, Device, Purpose};
use crate::gguf::{Content, Gguf, Tensor, TensorType};
use crate::model::ModelError;
use crate::synthetic;

pub use kernels::format::Stored;

/// A weight matrix: `rows` output features of `columns` input features.
pub struct Matrix {
    /// The rows, stored one after the other; and what fills the last 16 bytes up.
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

impl TensorType {
    /// How kernels read it; none if this program does not run it.
    pub fn stored(self) -> Option<Stored> {
        Stored::ALL.iter().copied().find(|stored| stored.name() == self.name())
    }
}

/// Tensors of a matrix, checked.
struct Part<'a> {
    tensor: &'a Tensor,
    stored: Stored,
    rows: usize,
    bias: Option<&'a Tensor>,
}

/// Bytes uploaded or drawn at once; whole words of [`synthetic::draw`].
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
        let unknown = gguf.tensors().iter().find(|tensor| tensor.ty.stored().is_none());
        if let Some(tensor) = unknown {
            return Err(wrong(gguf, &tensor.name, unsupported(tensor.ty)));
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
        let part = self.part(name, rows, columns)?;
        self.join(&[part], columns)
    }

    /// The matrices `{name}.weight` of `rows[i]` x `columns` as one, the rows of one after those of the other; and their
    /// biases, zeros for a matrix that has none while another has one. `None`, and nothing uploaded, if they are stored in
    /// different types.
    ///
    /// # Errors
    /// A missing tensor or another shape; no memory.
    ///
    /// # Panics
    /// If there are not as many names as numbers of rows, or none.
    pub fn stacked(
        &mut self,
        names: &[&str],
        rows: &[usize],
        columns: usize,
    ) -> Result<Option<Matrix>, ModelError> {
        assert!(names.len() == rows.len() && !names.is_empty(), "a number of rows for each matrix");
        let parts: Vec<Part<'a>> = names
            .iter()
            .zip(rows)
            .map(|(name, &rows)| self.part(name, rows, columns))
            .collect::<Result<_, _>>()?;
        if parts.iter().any(|part| part.stored != parts[0].stored) {
            return Ok(None);
        }
        self.join(&parts, columns).map(Some)
    }

    /// The matrices of `count` experts, each of `rows` x `columns`, which the file holds as one tensor, `{name}.weight`, and
    /// their biases in another, `{name}.bias`, where it has them. As one matrix.
    ///
    /// # Errors
    /// A missing tensor or another shape; no memory.
    pub fn experts(
        &mut self,
        name: &str,
        count: usize,
        rows: usize,
        columns: usize,
    ) -> Result<Matrix, ModelError> {
        let part = self.part_of(name, &[columns, rows, count], &[rows, count])?;
        self.join(&[part], columns)
    }

    /// The f32 vector `name` of `len` values.
    ///
    /// # Errors
    /// A missing tensor, another shape or type; no memory.
    pub fn vector(&mut self, name: &str, len: usize) -> Result<Buffer<f32>, ModelError> {
        let tensor = self.vector_tensor(name, &[len])?;
        let mut buffer = self.device.alloc_unset(Purpose::Weights, len)?;
        self.put_floats(&mut buffer, 0, tensor)?;
        Ok(buffer)
    }

    /// What there is of a matrix, checked.
    fn part(&self, name: &str, rows: usize, columns: usize) -> Result<Part<'a>, ModelError> {
        self.part_of(name, &[columns, rows], &[rows])
    }

    /// What there is of tensors with these dimensions, checked.
    fn part_of(&self, name: &str, dims: &[usize], bias_dims: &[usize]) -> Result<Part<'a>, ModelError> {
        let weight = format!("{name}.weight");
        let tensor = self.tensor(&weight, dims)?;
        let stored = tensor.ty.stored().ok_or_else(|| wrong(self.gguf, &weight, unsupported(tensor.ty)))?;
        let bias = format!("{name}.bias");
        let bias = if self.has(&bias) { Some(self.vector_tensor(&bias, bias_dims)?) } else { None };
        Ok(Part { tensor, stored, rows: bias_dims.iter().product(), bias })
    }

    /// Matrices of one stored type, one after the other.
    fn join(&mut self, parts: &[Part<'a>], columns: usize) -> Result<Matrix, ModelError> {
        let rows = parts.iter().map(|part| part.rows).sum();
        let total: usize = parts.iter().map(|part| part.tensor.bytes.len()).sum();
        // Kernels copy 16 bytes at once.
        let mut bytes = self.device.alloc_unset::<u8>(Purpose::Weights, total.next_multiple_of(16))?;
        let mut at = 0;
        for part in parts {
            self.put(&mut bytes, at, part.tensor)?;
            at += part.tensor.bytes.len();
        }
        let mut bias = None;
        if parts.iter().any(|part| part.bias.is_some()) {
            let mut values = self.device.alloc(Purpose::Weights, rows)?;
            let mut at = 0;
            for part in parts {
                if let Some(tensor) = part.bias {
                    self.put_floats(&mut values, at, tensor)?;
                }
                at += part.rows;
            }
            bias = Some(values);
        }
        Ok(Matrix { bytes, stored: parts[0].stored, rows, columns, bias })
    }

    /// Uploads or draws a tensor's bytes.
    fn put(&mut self, bytes: &mut Buffer<u8>, at: usize, tensor: &Tensor) -> Result<(), ModelError> {
        let len = tensor.bytes.len();
        for start in (0..len).step_by(CHUNK) {
            let piece = start..len.min(start + CHUNK);
            match self.gguf.content() {
                Content::Stored => {
                    self.device.upload_with(bytes, at + start, piece.len(), &|from, into| {
                        Ok::<(), ModelError>(self.gguf.read_into(tensor, start + from, into)?)
                    })?
                }
                Content::Drawn(seed) => {
                    synthetic::draw(self.device, tensor, seed, piece.clone(), bytes, at + start)?;
                }
            }
            self.advance(piece.len());
        }
        Ok(())
    }

    /// Uploads or draws the values of an f32 tensor.
    fn put_floats(&mut self, values: &mut Buffer<f32>, at: usize, tensor: &Tensor) -> Result<(), ModelError> {
        match self.gguf.content() {
            Content::Stored => {
                let data = self.gguf.data(tensor)?;
                let stored: Vec<f32> = data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
                self.device.upload(values, at, &stored)?;
            }
            Content::Drawn(seed) => {
                synthetic::draw(self.device, tensor, seed, 0..tensor.bytes.len(), values, at)?;
            }
        }
        self.advance(tensor.bytes.len());
        Ok(())
    }

    fn vector_tensor(&self, name: &str, dims: &[usize]) -> Result<&'a Tensor, ModelError> {
        let tensor = self.tensor(name, dims)?;
        if tensor.ty != TensorType::F32 {
            return Err(wrong(self.gguf, name, format!("type {} where F32 was expected", tensor.ty.name())));
        }
        Ok(tensor)
    }

    fn tensor(&self, name: &str, dims: &[usize]) -> Result<&'a Tensor, ModelError> {
        let tensor = self.gguf.tensor(name).ok_or_else(|| wrong(self.gguf, name, "is missing".to_owned()))?;
        if tensor.dims != dims {
            let problem = format!("has dimensions {:?}, {dims:?} were expected", tensor.dims);
            return Err(wrong(self.gguf, name, problem));
        }
        Ok(tensor)
    }

    /// What is wrong with a tensor.
    pub(super) fn wrong(&self, name: &str, problem: String) -> ModelError {
        wrong(self.gguf, name, problem)
    }

    /// Tells that all is loaded: a file may have tensors that nobody asked for.
    pub(super) fn finish(self) {
        if self.done < self.total {
            (self.progress)(self.total, self.total);
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.done += bytes as u64;
        (self.progress)(self.done, self.total);
    }
}

/// What is wrong with a tensor of such a type.
fn unsupported(ty: TensorType) -> String {
    let names: Vec<&str> = Stored::ALL.iter().map(|stored| stored.name()).collect();
    format!("type {ty} is not supported; supported: {}", names.join(", "))
}

fn wrong(gguf: &Gguf, name: &str, problem: String) -> ModelError {
    ModelError::Tensor { path: gguf.path().to_owned(), name: name.to_owned(), problem }
}
