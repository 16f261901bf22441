//! What computes products of many rows: a library's algorithms, and room for weights that it cannot read as they are stored.

use kernels::dequantise::{self, Dequantise};
use kernels::warpgroup;

use crate::device::{Buffer, Device, DeviceError, Purpose};
use crate::gemm::{self, Gemm, Input};
use crate::model::linear::Linear;
use crate::model::weights::{Matrix, Stored};
use crate::numerics::Form;
use crate::rows::Rows;

/// Up to so many rows our own kernels read 16-bit weights once, which no library does faster.
const FEW: usize = 8;
/// Up to so many rows our own kernels read quantised weights once.
const FEW_QUANTISED: usize = 64;
/// And up to so many, where warps multiply together and there is a kernel for as many.
const FEW_OF_WARPGROUPS: usize = 128;
/// And of four bits twice as many: to read them twice costs less than to dequantise them into memory.
const FEW_OF_FOUR_BITS: usize = 256;
/// Bytes of dequantised weights at most: larger matrices are our own kernel's.
const MAX_DEQUANTISED: usize = 512 << 20;

/// Ways to compute products of many rows. On the CPU there are none, and nothing is kept.
pub struct Products {
    gemm: Option<Gemm>,
    /// On a planned GPU, in place of the library's own.
    _workspace: Option<Buffer<u8>>,
    /// The weights of one matrix at a time, f16 or bf16.
    dequantised: Option<Buffer<u16>>,
}

impl Products {
    /// Finds algorithms for each of these matrices with up to so many rows.
    ///
    /// # Errors
    /// A failing driver.
    pub fn new<'a>(
        device: &Device,
        linears: impl Iterator<Item = (&'a Linear, usize)>,
    ) -> Result<Self, DeviceError> {
        let mut gemm = Gemm::new(device)?;
        let mut workspace = None;
        if device.is_planned_gpu() {
            workspace = Some(device.alloc(Purpose::Activations, gemm::WORKSPACE)?);
        } else if gemm.is_none() {
            return Ok(Self { gemm, _workspace: None, dequantised: None });
        }
        let mut largest = 0;
        for (linear, rows) in linears {
            for (matrix, form) in linear.matrices() {
                let Some(input) = input(form) else { continue };
                let (len, quantised) = (matrix.rows * matrix.columns, matrix.stored.is_quantised());
                if rows <= few(device, matrix.stored) || (quantised && 2 * len > MAX_DEQUANTISED) {
                    continue;
                }
                if let Some(gemm) = &mut gemm {
                    gemm.admit(device, input, matrix.rows, matrix.columns, rows)?;
                }
                if quantised {
                    largest = largest.max(len);
                }
            }
        }
        if let Some(gemm) = &gemm {
            gemm.report();
        }
        let dequantised = (largest > 0).then(|| device.alloc(Purpose::Activations, largest)).transpose()?;
        Ok(Self { gemm, _workspace: workspace, dequantised })
    }

    /// Whether a library may take so many rows, so that our own kernel is not the only one to ask.
    pub(crate) fn library_takes(&self, device: &Device, w: &Matrix, rows: usize) -> bool {
        self.gemm.is_some() && rows > few(device, w.stored)
    }

    /// Leaves the sums of `rows` rows `x` with `w` in `sums` from `at` on, and perhaps others behind them; `false`, and
    /// nothing done, where our own kernel has to.
    ///
    /// # Errors
    /// A failing driver.
    pub(crate) fn run(
        &self,
        device: &Device,
        w: &Matrix,
        form: Form,
        (x, rows): (&Rows, usize),
        sums: &Buffer<f32>,
        at: usize,
    ) -> Result<bool, DeviceError> {
        let (Some(gemm), Some(input)) = (&self.gemm, input(form)) else { return Ok(false) };
        if !self.library_takes(device, w, rows) {
            return Ok(false);
        }
        let (n, k) = (w.rows, w.columns);
        // Algorithms may have been admitted for a matrix of this shape that multiplies more rows.
        let room = (x.bits().len() / k).min((sums.len() - at) / n);
        if gemm.bucket(input, n, k, rows).is_none_or(|computed| computed > room) {
            return Ok(false);
        }
        // SAFETY: `Matrix` holds its rows whole, and `x` and `sums` hold the rows that are computed.
        unsafe {
            let weights = match (&self.dequantised, w.stored.is_quantised()) {
                (_, false) => w.bytes.view_as::<u16>(),
                (Some(room), true) if n * k <= room.len() => {
                    dequantise(device, w, room)?;
                    room.view(0, n * k)
                }
                _ => return Ok(false),
            };
            let (x, y) = (x.bits(), sums.view_mut(at, sums.len() - at));
            let product = gemm::Product { input, w: weights, x: x.view(0, x.len()), y, n, k, rows };
            gemm.run(device, &product)
        }
    }
}

/// # Safety
/// See [`Device::launch`]; `room` holds the matrix.
unsafe fn dequantise(device: &Device, w: &Matrix, room: &Buffer<u16>) -> Result<(), DeviceError> {
    let kernel = dequantise::of(w.stored).expect("a quantised matrix");
    let len = w.rows * w.columns;
    // SAFETY: the caller's promise.
    unsafe {
        let args =
            Dequantise { w: w.bytes.view(0, w.bytes.len()), y: room.view_mut(0, len), len: len as u64 };
        device.launch(kernel, &args)
    }
}

fn input(form: Form) -> Option<Input> {
    match form {
        Form::F32 => None,
        Form::F16 => Some(Input::F16),
        Form::Bf16 => Some(Input::Bf16),
    }
}

fn few(device: &Device, stored: Stored) -> usize {
    if !stored.is_quantised() {
        return FEW;
    }
    if !device.has_warpgroups() || warpgroup::of(stored, usize::MAX, FEW_OF_WARPGROUPS).is_none() {
        return FEW_QUANTISED;
    }
    if matches!(stored, Stored::Q4_0 | Stored::Q4_1 | Stored::Q4_K) {
        FEW_OF_FOUR_BITS
    } else {
        FEW_OF_WARPGROUPS
    }
}
