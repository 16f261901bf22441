//! The norms before a layer's parts.

use cuda_std::In;
use kernels::layer_norm::{self, LayerNorm};
use kernels::norm::{self, RmsNorm};
use kernels::product::{Product, Rounding};

use super::{Addend, Done};
use crate::device::{Buffer, Device};
use crate::model::norm::{Norm, Scale};
use crate::numerics::Form;
use crate::rows::{Rows, nothing};

/// `x[t] += addend[t]`, if there is one, then `y[t]` is the norm of `x[t]` in a form.
///
/// With `from`, only the rows named there are read, and row `i` of `y` is that of row `from[i]`.
pub fn norm(
    device: &Device,
    x: &Buffer<f32>,
    addend: Option<Addend<'_>>,
    from: Option<In<u32>>,
    norm: &Norm,
    rows: usize,
    (y, form): (&Rows, Form),
) -> Done {
    let n = norm.width();
    assert_eq!(y.width(), n, "rows of another width");
    // SAFETY: the views have the sizes the kernels document, `x` and `y` are different buffers, and a batch's rows of
    // logits are different tokens.
    unsafe {
        let product = addend.map_or_else(no_product, |addend| addend.product());
        let (x, from, y) = (x.view_mut(0, x.len()), from.unwrap_or_else(nothing), y.view_mut(form, rows));
        let (n, rows) = (n as u32, rows as u32);
        match norm {
            Norm::Rms(Scale { w, epsilon }) => {
                let kernel = match form {
                    Form::F32 => &norm::F32,
                    Form::F16 => &norm::F16_,
                    Form::Bf16 => &norm::BF16,
                };
                let (w, epsilon) = (w.view(0, w.len()), *epsilon);
                device.launch(kernel, &RmsNorm { x, product, from, w, y, epsilon, n, rows })
            }
            Norm::Layer(Scale { w, epsilon }, bias) => {
                let kernel = match form {
                    Form::F32 => &layer_norm::F32,
                    Form::F16 => &layer_norm::F16_,
                    Form::Bf16 => &layer_norm::BF16,
                };
                let (w, bias, epsilon) = (w.view(0, w.len()), bias.view(0, bias.len()), *epsilon);
                device.launch(kernel, &LayerNorm { x, product, from, w, bias, y, epsilon, n, rows })
            }
        }
    }
}

fn no_product() -> Product {
    Product { sums: nothing(), bias: nothing(), factor: 1.0, stride: 0, first: 0, rounding: Rounding::NONE }
}
