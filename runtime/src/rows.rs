//! Rows that matrices are multiplied with, in every form that one of these matrices takes.

use cuda_std::{In, Out, Value};
use kernels::rows;

use crate::device::{Buffer, Device, DeviceError, Purpose};
use crate::numerics::Form;

/// Memory for `[rows, width]` in some forms, of which one is filled at a time.
pub struct Rows {
    width: usize,
    values: Option<Buffer<f32>>,
    bits: Option<Buffer<u16>>,
    factors: Option<Buffer<f32>>,
    shared: Option<Shared>,
}

/// Memory for the first rows of the form f16, of which blocks of a kernel share one.
struct Shared {
    values: Buffer<f32>,
    tops: Buffer<f32>,
    done: Buffer<u32>,
}

/// Rows that blocks share at most; more occupy a GPU by themselves.
const SHARED: usize = 8;

impl Rows {
    /// Memory for `rows` rows in each of `forms`.
    ///
    /// # Errors
    /// Out of memory, or a failing driver.
    pub fn new(device: &Device, rows: usize, width: usize, forms: &[Form]) -> Result<Self, DeviceError> {
        let any = |wanted: &[Form]| forms.iter().any(|form| wanted.contains(form));
        let purpose = Purpose::Activations;
        Ok(Self {
            width,
            values: any(&[Form::F32]).then(|| device.alloc(purpose, rows * width)).transpose()?,
            bits: any(&[Form::F16, Form::Bf16]).then(|| device.alloc(purpose, rows * width)).transpose()?,
            factors: any(&[Form::F16]).then(|| device.alloc(purpose, rows)).transpose()?,
            shared: any(&[Form::F16]).then(|| Shared::new(device, rows.min(SHARED), width)).transpose()?,
        })
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

    /// What the sums of `rows` rows in this form are multiplied by; empty where that is 1.
    ///
    /// # Safety
    /// See [`In::new`].
    pub unsafe fn factors(&self, form: Form, rows: usize) -> In<f32> {
        match (&self.factors, form) {
            // SAFETY: the caller's promise.
            (Some(factors), Form::F16) => unsafe { factors.view(0, rows) },
            _ => nothing(),
        }
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
                Form::F32 => rows::Rows {
                    values: self.values().view_mut(0, len),
                    bits: nothing_out(),
                    factors: nothing_out(),
                    shared: Shared::nothing(),
                },
                Form::Bf16 => rows::Rows {
                    values: nothing_out(),
                    bits: self.bits().view_mut(0, len),
                    factors: nothing_out(),
                    shared: Shared::nothing(),
                },
                Form::F16 => rows::Rows {
                    values: nothing_out(),
                    bits: self.bits().view_mut(0, len),
                    factors: self.factors.as_ref().map_or_else(nothing_out, |f| f.view_mut(0, rows)),
                    shared: match &self.shared {
                        Some(shared) if rows <= SHARED => shared.view_mut(rows, self.width),
                        _ => Shared::nothing(),
                    },
                },
            }
        }
    }
}

impl Shared {
    fn new(device: &Device, rows: usize, width: usize) -> Result<Self, DeviceError> {
        let purpose = Purpose::Activations;
        Ok(Self {
            values: device.alloc(purpose, rows * width)?,
            tops: device.alloc(purpose, rows * rows::parts(width))?,
            done: device.alloc(purpose, rows)?,
        })
    }

    /// # Safety
    /// See [`Out::new`].
    unsafe fn view_mut(&self, rows: usize, width: usize) -> rows::Shared {
        // SAFETY: the caller's promise; zeros when made, and after every kernel.
        unsafe {
            rows::Shared {
                values: self.values.view_mut(0, rows * width),
                tops: self.tops.view_mut(0, rows * rows::parts(width)),
                done: self.done.view_mut(0, rows),
            }
        }
    }

    fn nothing() -> rows::Shared {
        rows::Shared { values: nothing_out(), tops: nothing_out(), done: nothing_out() }
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
