//! Products of many rows by cuBLASLt, in the one order: `y[t, n] = sum over k of w[n, k] x[t, k]`.
//!
//! `w` is `[n, k]` and `x` `[rows, k]`, both bf16 or both f16; `y` is f32 `[rows, n]`. cuBLASLt offers algorithms for a
//! product; which of them keep the order of our own kernel is not taken on trust. When a model is loaded, those that do not
//! split K run on random data, and one is admitted only if every bit of every row is our kernel's. Where none is, for a
//! shape, a chip or a version of cuBLAS, [`Gemm::run`] says so and the caller runs its own kernel, with the same result.
//!
//! An algorithm is admitted for a number of rows, its bucket, unless one for more rows takes less time. Fewer rows are computed as the next bucket up: some of what
//! lies behind them in the buffers is multiplied too, and the answer for it written behind theirs.

mod lt;
mod trial;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cublas_sys::{Cublas, DataType};
use cuda_std::{In, Out};

use crate::device::{Buffer, Device, DeviceError, Purpose};
use lt::{Lt, Operands};
use trial::{Admitted, Trial};

/// The type of weights and inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl Input {
    fn data_type(self) -> DataType {
        match self {
            Input::F16 => DataType::R_16F,
            Input::Bf16 => DataType::R_16BF,
        }
    }
}

/// What an algorithm is admitted for, but for its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    input: Input,
    n: usize,
    k: usize,
}

/// One product.
#[derive(Clone, Copy)]
pub struct Product {
    /// The type of `w` and `x`.
    pub input: Input,
    /// `[n, k]`, as bits.
    pub w: In<u16>,
    /// `[rows, k]`, as bits; up to the bucket's rows are read.
    pub x: In<u16>,
    /// `[rows, n]`; up to the bucket's rows are written.
    pub y: Out<f32>,
    /// Rows of the weights.
    pub n: usize,
    /// Columns of the weights.
    pub k: usize,
    /// Rows of `x`.
    pub rows: usize,
}

/// Bytes that cuBLASLt may use for itself.
pub(crate) const WORKSPACE: usize = 32 << 20;
/// Algorithms asked for.
const OFFERS: usize = 8;
/// Of so many that agree the fastest is taken; the heuristics' first are good ones.
const WANTED: usize = 3;

/// cuBLASLt on a device, and the algorithms admitted so far. Dropped before the device.
pub struct Gemm {
    admitted: HashMap<Shape, Vec<Admitted>>,
    /// Shapes and rows that were tried.
    tried: HashMap<Shape, usize>,
    spent: Duration,
    workspace: Buffer<u8>,
    lt: Arc<Lt>,
}

impl Gemm {
    /// cuBLASLt, with nothing admitted. `None` on the CPU, and where there is no cuBLAS, which is logged.
    ///
    /// # Errors
    /// Memory for its workspace, or a failing driver or cuBLAS.
    pub fn new(device: &Device) -> Result<Option<Self>, DeviceError> {
        let Some(cuda) = device.as_cuda() else { return Ok(None) };
        let cublas = match Cublas::load() {
            Ok(cublas) => cublas,
            Err(error) => {
                tracing::warn!("prompts are slower than they could be: {error}");
                return Ok(None);
            }
        };
        cuda.enter()?;
        let workspace = device.alloc(Purpose::Activations, WORKSPACE)?;
        let lt = Arc::new(Lt::new(cublas)?);
        let (admitted, tried, spent) = Default::default();
        Ok(Some(Self { admitted, tried, spent, workspace, lt }))
    }

    /// Looks for algorithms for this shape and every bucket up to `max_rows` rows; once is enough for all weights of a
    /// shape. Takes device memory for a weight matrix and twice the results, and frees it; where there is not enough,
    /// nothing is admitted, which is logged.
    ///
    /// # Errors
    /// A failing driver or cuBLAS.
    pub fn admit(
        &mut self,
        device: &Device,
        input: Input,
        n: usize,
        k: usize,
        max_rows: usize,
    ) -> Result<(), DeviceError> {
        let shape = Shape { input, n, k };
        let Some(cuda) = device.as_cuda() else { return Ok(()) };
        if n == 0 || k == 0 || max_rows <= self.tried.get(&shape).copied().unwrap_or(0) {
            return Ok(());
        }
        let start = Instant::now();
        self.tried.insert(shape, max_rows);
        let mut trial = match Trial::new(device, cuda, shape, max_rows) {
            Ok(trial) => trial,
            Err(error @ DeviceError::OutOfMemory { .. }) => {
                tracing::warn!(?input, n, k, "cuBLASLt's algorithms cannot be tried: {error}");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut admitted = Vec::new();
        for rows in buckets(max_rows) {
            admitted.extend(trial::admit(self, &mut trial, shape, rows)?);
        }
        self.admitted.insert(shape, trial::fastest(admitted));
        self.spent += start.elapsed();
        Ok(())
    }

    /// Logs in one line what was admitted, and how long that took.
    pub fn report(&self) {
        let (major, minor, patch) = self.lt.cublas().version();
        let without: Vec<String> = self
            .tried
            .keys()
            .filter(|shape| self.admitted.get(shape).is_none_or(Vec::is_empty))
            .map(|shape| format!("{:?} {}x{}", shape.input, shape.n, shape.k))
            .collect();
        tracing::info!(
            cublas = format!("{major}.{minor}.{patch}"),
            shapes = self.tried.len(),
            algorithms = self.admitted.values().map(Vec::len).sum::<usize>(),
            shapes_without = without.join(", "),
            seconds = self.spent.as_secs_f32(),
            "cuBLASLt's algorithms that keep the order"
        );
    }

    /// Rows that are computed where `rows` are asked for, and which the buffers must have; `None` where nothing is admitted.
    pub fn bucket(&self, input: Input, n: usize, k: usize, rows: usize) -> Option<usize> {
        self.find(Shape { input, n, k }, rows).map(Admitted::rows)
    }

    /// Computes a product after what was launched before. `false`, and nothing done, where nothing is admitted for it: the
    /// caller then runs its own kernel. May be captured in a graph.
    ///
    /// # Errors
    /// A failing driver or cuBLAS; a fault may show later.
    ///
    /// # Panics
    /// If a view ends before the [`bucket`](Self::bucket)'s rows, or is not aligned to 16 bytes.
    ///
    /// # Safety
    /// As [`Device::launch`]. The views are of this device's memory.
    pub unsafe fn run(&self, device: &Device, product: &Product) -> Result<bool, DeviceError> {
        let &Product { input, w, x, y, n, k, rows } = product;
        let (Some(cuda), Some(admitted)) = (device.as_cuda(), self.find(Shape { input, n, k }, rows)) else {
            return Ok(false);
        };
        let computed = admitted.rows();
        assert!(w.len() >= n * k, "{} weights of {n} x {k}", w.len());
        assert!(x.len() >= computed * k, "{} inputs for {computed} rows of {k}", x.len());
        assert!(y.len() >= computed * n, "{} results for {computed} rows of {n}", y.len());
        let aligned = |address: usize| address.is_multiple_of(lt::ALIGNMENT);
        let operands = self.operands(w.as_ptr(), x.as_ptr(), y.as_ptr());
        assert!(
            aligned(operands.w as usize) && aligned(operands.x as usize) && aligned(operands.y as usize),
            "a matrix is not aligned to {} bytes",
            lt::ALIGNMENT
        );
        cuda.enter()?;
        device.timed(
            || format!("cublaslt [{n}, {k}] x {rows}"),
            // SAFETY: long enough, as just checked; the rest is the caller's promise.
            || unsafe { admitted.run(cuda, &operands) },
        )?;
        Ok(true)
    }

    /// The algorithm of the least bucket that holds the rows.
    fn find(&self, shape: Shape, rows: usize) -> Option<&Admitted> {
        self.admitted.get(&shape)?.iter().find(|admitted| admitted.rows() >= rows)
    }

    fn operands(&self, w: *const u16, x: *const u16, y: *mut f32) -> Operands {
        // SAFETY: the whole workspace; one product at a time uses it, in the stream's order.
        let workspace = unsafe { self.workspace.view_mut(0, WORKSPACE) }.as_ptr();
        Operands { w, x, y, workspace, workspace_bytes: WORKSPACE }
    }
}

/// Numbers of rows that algorithms are looked for, ascending; the last is `max_rows` itself. Two to an octave, and four
/// where a product takes long enough for its rows to count.
fn buckets(max_rows: usize) -> impl Iterator<Item = usize> {
    let mut next = 16usize;
    std::iter::from_fn(move || {
        let rows = next;
        let octave = 1usize << rows.ilog2();
        next += (if octave < 512 { octave / 2 } else { octave / 4 }).max(16);
        (rows < max_rows).then_some(rows)
    })
    .chain((max_rows > 0).then_some(max_rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_ascend_to_the_most_rows() {
        let all = |max_rows| buckets(max_rows).collect::<Vec<_>>();
        assert!(all(0).is_empty());
        assert_eq!(all(8), [8]);
        assert_eq!(all(16), [16]);
        assert_eq!(all(100), [16, 32, 48, 64, 96, 100]);
        assert_eq!(
            all(2048),
            [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048]
        );
    }

    #[test]
    fn at_most_half_of_a_large_bucket_more_is_computed() {
        let buckets: Vec<usize> = buckets(8192).collect();
        for pair in buckets.windows(2).filter(|pair| pair[0] >= 32) {
            let more = if pair[0] < 512 { 2 } else { 4 };
            assert!((pair[1] - pair[0]) * more <= pair[0], "{pair:?}");
        }
    }

    #[test]
    fn there_is_none_on_the_cpu() {
        assert!(Gemm::new(&Device::cpu(1)).unwrap().is_none());
    }
}
