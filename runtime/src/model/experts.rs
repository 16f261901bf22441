//! The matrices of a mixture's experts.

use crate::gguf::Gguf;
use crate::model::ModelError;
use crate::model::weights::{Loader, Matrix};
use crate::numerics::{Form, Numerics};

/// One matrix for each expert, all of one size and type.
pub struct Experts {
    /// The rows of one expert after those of the other.
    matrix: Matrix,
    count: usize,
    form: Form,
}

/// That the experts of a file are stored in types and rows whose products this program computes.
///
/// # Errors
/// Names the first matrix that is not.
pub(super) fn check(gguf: &Gguf, numerics: Numerics) -> Result<(), ModelError> {
    for tensor in gguf.tensors().iter().filter(|tensor| tensor.name.ends_with("_exps.weight")) {
        let wrong = |problem: String| {
            let (path, name) = (gguf.path().to_owned(), tensor.name.clone());
            Err(ModelError::Tensor { path, name, problem })
        };
        let Some(stored) = tensor.ty.stored() else { continue };
        let form = numerics.form(stored);
        let runs = match form {
            Form::F32 => kernels::expert_matvec::of(stored, 8).is_some(),
            _ => kernels::expert_matmul::of(stored, 8).is_some(),
        };
        if !runs {
            return wrong(format!("type {} is not supported in experts", stored.name()));
        }
        let columns = tensor.dims[0];
        if form != Form::F32 && !columns.is_multiple_of(32) {
            return wrong(format!(
                "rows of {columns}; in tc numerics multiples of 32 are supported in experts: use --numerics f32"
            ));
        }
    }
    Ok(())
}

impl Experts {
    /// The matrices of `count` experts, `{name}.weight`, each of `rows` x `columns`, and their biases where the file has
    /// them. The file was checked before.
    ///
    /// # Errors
    /// See [`Loader::experts`].
    pub fn load(
        load: &mut Loader<'_>,
        numerics: Numerics,
        name: &str,
        [count, rows, columns]: [usize; 3],
    ) -> Result<Self, ModelError> {
        let matrix = load.experts(name, count, rows, columns)?;
        Ok(Self { form: numerics.form(matrix.stored), matrix, count })
    }

    /// The form that the rows take.
    pub fn form(&self) -> Form {
        self.form
    }

    /// All of them as one matrix.
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// Experts.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Output features of one.
    pub fn rows(&self) -> usize {
        self.matrix.rows / self.count
    }
}
