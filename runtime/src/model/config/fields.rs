//! The metadata under an architecture's name.

use crate::gguf::Gguf;
use crate::model::ModelError;

/// Sizes beyond these are taken for damage.
const MAX_SIZE: u32 = 1 << 20;

/// The metadata under the architecture's name.
pub(super) struct Fields<'a> {
    pub(super) gguf: &'a Gguf,
    pub(super) architecture: &'a str,
}

impl Fields<'_> {
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    pub(super) fn wrong(&self, name: &str, problem: String) -> ModelError {
        ModelError::Field { path: self.gguf.path().to_owned(), field: self.key(name), problem }
    }

    pub(super) fn number(&self, name: &str) -> Result<u32, ModelError> {
        Ok(self.gguf.u32(&self.key(name))?)
    }

    pub(super) fn float(&self, name: &str) -> Result<f64, ModelError> {
        let value = self.gguf.f32(&self.key(name))? as f64;
        if value.is_finite() {
            Ok(value)
        } else {
            Err(self.wrong(name, format!("{value} is not a number to use")))
        }
    }

    pub(super) fn size(&self, name: &str) -> Result<usize, ModelError> {
        self.size_up_to(name, MAX_SIZE)
    }

    pub(super) fn size_up_to(&self, name: &str, most: u32) -> Result<usize, ModelError> {
        match self.number(name)? {
            0 => Err(self.wrong(name, "0 is no size".to_owned())),
            n if n > most => Err(self.wrong(name, format!("{n} is over {most}"))),
            n => Ok(n as usize),
        }
    }

    /// `read(name)` if the file has the field.
    pub(super) fn optional<T>(
        &self,
        name: &str,
        read: impl Fn(&Self, &str) -> Result<T, ModelError>,
    ) -> Result<Option<T>, ModelError> {
        if self.gguf.get(&self.key(name)).is_some() { read(self, name).map(Some) } else { Ok(None) }
    }

    /// The embedding's rows decide: the tokenizer may know fewer tokens.
    pub(super) fn vocab(&self) -> Result<usize, ModelError> {
        let tensor = self.gguf.tensor("token_embd.weight").ok_or_else(|| ModelError::Tensor {
            path: self.gguf.path().to_owned(),
            name: "token_embd.weight".to_owned(),
            problem: "is missing".to_owned(),
        })?;
        Ok(tensor.dims.get(1).copied().unwrap_or(1))
    }

    /// `name` if the file has it, a number above zero.
    pub(super) fn positive(&self, name: &str) -> Result<Option<f64>, ModelError> {
        match self.optional(name, Fields::float)? {
            Some(value) if value <= 0.0 => Err(self.wrong(name, format!("{value} is not above zero"))),
            value => Ok(value),
        }
    }
}
