//! Rows that matrices are multiplied with, in every form that one of these matrices takes.

use cuda_std::{In, Out, Value};
use kernels::rows;

use crate::device::{Buffer, Device, DeviceError, Purpose};
use crate::numerics::Form;

/// Memory for `[rows, width]` in some forms, of which one is filled at a time.
pub struct Rows {
    width: usize,
    /// What values are multiplied by in the form f16.
    scale: f32,
    values: Option<Buffer<f32>>,
    bits: Option<Buffer<u16>>,
}

impl Rows {
    /// Memory for `rows` rows in each of `forms`, which are not scaled.
    ///
    /// # Errors
    /// Out of memory, or a failing driver.
    pub fn new(device: &Device, rows: usize, width: usize, forms: &[Form]) -> Result<Self, DeviceError> {
        let any = |wanted: &[Form]| forms.iter().any(|form| wanted.contains(form));
        let purpose = Purpose::Activations;
        Ok(Self {
            width,
            scale: 1.0,
            values: any(&[Form::F32]).then(|| device.alloc(purpose, rows * width)).transpose()?,
            bits: any(&[Form::F16, Form::Bf16]).then(|| device.alloc(purpose, rows * width)).transpose()?,
        })
    }

    /// The same for an activation, see [`rows::ACTIVATION`].
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn activation(
        device: &Device,
        rows: usize,
        width: usize,
        forms: &[Form],
    ) -> Result<Self, DeviceError> {
        Ok(Self { scale: rows::ACTIVATION, ..Self::new(device, rows, width, forms)? })
    }

    /// Elements in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The memory of the form f32.
    ///
    /// # Panics
    /// If there is none: [`new`](Self::new) was not asked for it.
    pub fn values(&self) -> &Buffer<f32> {
        self.values.as_ref().expect("rows were made for this form")
    }

    /// The memory of the 16-bit forms.
    ///
    /// # Panics
    /// As [`values`](Self::values).
    pub fn bits(&self) -> &Buffer<u16> {
        self.bits.as_ref().expect("rows were made for this form")
    }

    /// What the sums of rows in this form are multiplied by.
    pub fn factor(&self, form: Form) -> f32 {
        if form == Form::F16 { 1.0 / self.scale } else { 1.0 }
    }

    /// Where a kernel writes `rows` rows in this form.
    ///
    /// # Safety
    /// See [`Out::new`].
    pub unsafe fn view_mut(&self, form: Form, rows: usize) -> rows::Rows {
        let len = rows * self.width;
        // SAFETY: the caller's promise.
        unsafe {
            match form {
                Form::F32 => {
                    rows::Rows { values: self.values().view_mut(0, len), bits: nothing_out(), scale: 0.0 }
                }
                Form::Bf16 | Form::F16 => rows::Rows {
                    values: nothing_out(),
                    bits: self.bits().view_mut(0, len),
                    scale: if form == Form::F16 { self.scale } else { 0.0 },
                },
            }
        }
    }
}

/// A view of no value.
pub(crate) fn nothing<V: Value>() -> In<V> {
    // SAFETY: no index is below 0.
    unsafe { In::new(std::ptr::dangling(), 0) }
}

/// A view of no value.
pub(crate) fn nothing_out<V: Value>() -> Out<V> {
    // SAFETY: no index is below 0.
    unsafe { Out::new(std::ptr::dangling_mut(), 0) }
}
