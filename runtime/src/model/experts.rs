//! The matrices of a mixture's experts.

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

impl Experts {
    /// The matrices of `count` experts, `{name}.weight`, each of `rows` x `columns`, and their biases where the file has
    /// them.
    ///
    /// # Errors
    /// See [`Loader::experts`]; a type whose products with experts this program does not compute.
    pub fn load(
        load: &mut Loader<'_>,
        numerics: Numerics,
        name: &str,
        [count, rows, columns]: [usize; 3],
    ) -> Result<Self, ModelError> {
        let stored = load.stored(name)?;
        let form = numerics.form(stored);
        let runs = match form {
            Form::F32 => kernels::expert_matvec::of(stored, 8).is_some(),
            _ => kernels::expert_matmul::of(stored, 32).is_some(),
        };
        let weight = format!("{name}.weight");
        if !runs {
            let problem = format!("type {} is not supported in experts", stored.name());
            return Err(load.wrong(&weight, problem));
        }
        if form != Form::F32 && !columns.is_multiple_of(32) {
            let problem = format!(
                "rows of {columns}; in tc numerics multiples of 32 are supported in experts: use --numerics f32"
            );
            return Err(load.wrong(&weight, problem));
        }
        Ok(Self { matrix: load.experts(name, count, rows, columns)?, count, form })
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
