//! Matrices that multiply the same rows.

use kernels::product::{Product, Rounding};

use crate::device::Buffer;
use crate::gguf::Gguf;
use crate::model::ModelError;
use crate::model::weights::{Loader, Matrix};
use crate::numerics::{Form, Numerics};
use crate::rows::{Rows, nothing};

/// One or several matrices that multiply the same rows: Q, K and V; gate and up. They are one matrix, rows one after the
/// other, where all are stored in one type or the file has them so.
pub struct Linear {
    matrices: Vec<Matrix>,
    parts: Vec<Part>,
    numerics: Numerics,
}

/// Where one of the matrices' products is.
struct Part {
    matrix: usize,
    /// Its first row there.
    first: usize,
    /// Sums a token of the matrices before it.
    before: usize,
}

/// Values that [`kernels::matmul`] copies at once.
const UNIT: usize = 8;

/// That rows of a file's 16-bit matrices begin where the tensor core's kernel can copy from. The tables of an embedding are
/// looked up, not multiplied.
///
/// # Errors
/// Names the first matrix whose rows do not.
pub(super) fn check(gguf: &Gguf, numerics: Numerics) -> Result<(), ModelError> {
    let is_table = |name: &str| match name {
        "token_embd.weight" => gguf.tensor("output.weight").is_some(),
        name => name == "position_embd.weight",
    };
    let matrices = gguf.tensors().iter().filter(|tensor| tensor.dims.len() == 2 && !is_table(&tensor.name));
    for tensor in matrices {
        let Some(stored) = tensor.ty.stored() else { continue };
        let columns = tensor.dims[0];
        if numerics.form(stored) != Form::F32 && !stored.is_quantised() && !columns.is_multiple_of(UNIT) {
            let problem = format!(
                "rows of {columns} in {}; in tc numerics multiples of {UNIT} are supported: use --numerics f32",
                stored.name()
            );
            let (path, name) = (gguf.path().to_owned(), tensor.name.clone());
            return Err(ModelError::Tensor { path, name, problem });
        }
    }
    Ok(())
}

impl Linear {
    /// The matrices `names[i]` of `rows[i]` x `columns`.
    ///
    /// # Errors
    /// See [`Loader::matrix`].
    pub fn load(
        load: &mut Loader<'_>,
        numerics: Numerics,
        names: &[&str],
        rows: &[usize],
        columns: usize,
    ) -> Result<Self, ModelError> {
        let stacked = load.stacked(names, rows, columns)?;
        let one = stacked.is_some();
        let matrices = match stacked {
            Some(matrix) => vec![matrix],
            None => names
                .iter()
                .zip(rows)
                .map(|(name, &rows)| load.matrix(name, rows, columns))
                .collect::<Result<_, _>>()?,
        };
        let mut before = 0;
        let mut parts = Vec::new();
        for (i, &rows) in rows.iter().enumerate() {
            parts.push(if one {
                Part { matrix: 0, first: before, before: 0 }
            } else {
                Part { matrix: i, first: 0, before }
            });
            before += rows;
        }
        Ok(Self { matrices, parts, numerics })
    }

    /// Matrices of `rows[i]` x `columns` which the file holds as one, `name`.
    ///
    /// # Errors
    /// See [`Loader::matrix`].
    pub fn fused(
        load: &mut Loader<'_>,
        numerics: Numerics,
        name: &str,
        rows: &[usize],
        columns: usize,
    ) -> Result<Self, ModelError> {
        let matrix = load.matrix(name, rows.iter().sum(), columns)?;
        let mut first = 0;
        let parts = rows.iter().map(|&rows| {
            let part = Part { matrix: 0, first, before: 0 };
            first += rows;
            part
        });
        Ok(Self { parts: parts.collect(), matrices: vec![matrix], numerics })
    }

    /// A matrix by itself.
    pub fn of(matrix: Matrix, numerics: Numerics) -> Self {
        Self { matrices: vec![matrix], parts: vec![Part { matrix: 0, first: 0, before: 0 }], numerics }
    }

    /// The form that the rows are left in: the one that all matrices take, or f32, of which each form is made in its turn.
    pub fn form(&self) -> Form {
        Form::of_all(self.matrices().map(|(_, form)| form))
    }

    /// The matrices, and the form of the rows that each is multiplied with.
    pub fn matrices(&self) -> impl Iterator<Item = (&Matrix, Form)> {
        self.matrices.iter().map(|matrix| (matrix, self.numerics.form(matrix.stored)))
    }

    /// The first matrix.
    pub fn first(&self) -> &Matrix {
        &self.matrices[0]
    }

    /// What the values of product `i` are rounded to where they take part in a product themselves.
    pub fn rounding(&self, i: usize) -> Rounding {
        self.form_of(i).rounding()
    }

    fn form_of(&self, i: usize) -> Form {
        self.numerics.form(self.matrices[self.parts[i].matrix].stored)
    }

    /// Input features.
    pub fn columns(&self) -> usize {
        self.matrices[0].columns
    }

    /// Output features of all.
    pub fn rows(&self) -> usize {
        self.matrices.iter().map(|matrix| matrix.rows).sum()
    }

    /// The product of matrix `i` with `tokens` rows `x`, whose sums [`ops::multiply`](crate::ops::multiply) left in `sums`.
    ///
    /// # Safety
    /// The view is used as [`cuda_std::In::new`] asks.
    pub unsafe fn product(
        &self,
        i: usize,
        x: &Rows,
        tokens: usize,
        sums: &Buffer<f32>,
        rounding: Rounding,
    ) -> Product {
        let part = &self.parts[i];
        let matrix = &self.matrices[part.matrix];
        let rows =
            self.parts.get(i + 1).map_or(matrix.rows, |next| {
                if next.matrix == part.matrix { next.first } else { matrix.rows }
            }) - part.first;
        // SAFETY: the caller's promise; the sizes are those that `multiply` filled.
        unsafe {
            Product {
                sums: sums.view(tokens * part.before, tokens * matrix.rows),
                bias: matrix.bias.as_ref().map_or_else(nothing, |bias| bias.view(part.first, rows)),
                factor: x.factor(self.form_of(i)),
                stride: matrix.rows as u32,
                first: part.first as u32,
                rounding,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{TensorType, Writer};

    /// What is said of matrices `(name, columns, type)` of one row.
    fn checked(numerics: Numerics, matrices: &[(&str, usize, TensorType)]) -> Result<(), String> {
        let mut header = Writer::new();
        for &(name, columns, ty) in matrices {
            header.tensor(name, &[columns, 1], ty);
        }
        let gguf = Gguf::drawn("x", header.header(), 0).expect("a header");
        check(&gguf, numerics).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_in_16_bits_are_multiples_of_8_but_those_that_are_looked_up() {
        use TensorType::{BF16, F16, F32, Q8_0};
        let (tc, f32) = (Numerics::Tc, Numerics::F32);
        for ty in [F16, BF16] {
            let refused = [("output.weight", 100, ty), ("token_embd.weight", 100, ty)];
            let error = checked(tc, &refused).expect_err("a refusal");
            assert_eq!(
                error,
                format!(
                    "x: tensor \"output.weight\": rows of 100 in {ty}; in tc numerics multiples of 8 are supported: use --numerics f32"
                )
            );
            assert_eq!(checked(f32, &refused), Ok(()));
            let error = checked(tc, &refused[1..]).expect_err("it makes the logits");
            assert!(error.contains("token_embd.weight"), "{error}");
            let looked_up = [
                ("output.weight", 104, ty),
                ("token_embd.weight", 100, ty),
                ("position_embd.weight", 100, ty),
            ];
            assert_eq!(checked(tc, &looked_up), Ok(()));
        }
        assert_eq!(
            checked(tc, &[("blk.0.attn_q.weight", 100, F32), ("blk.0.attn_k.weight", 32, Q8_0)]),
            Ok(())
        );
    }
}
