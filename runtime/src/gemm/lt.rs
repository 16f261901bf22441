//! cuBLASLt with owners for its handles.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use cublas_sys::{
    AlgoConfigAttribute, ComputeType, Cublas, DataType, LtHandle, MatmulAlgo, MatmulDesc,
    MatmulDescAttribute, MatmulHeuristicResult, MatmulPreference, MatmulPreferenceAttribute, MatrixLayout,
    Operation, Status, Stream,
};

use super::Shape;
use crate::device::DeviceError;

/// cuBLASLt and its handle in the current context.
pub(super) struct Lt {
    cublas: Cublas,
    handle: LtHandle,
}

// SAFETY: cuBLASLt's functions may be called from any thread with any handle.
unsafe impl Send for Lt {}
// SAFETY: as above.
unsafe impl Sync for Lt {}

/// Bytes that the addresses of all matrices are a multiple of.
pub(super) const ALIGNMENT: usize = 16;

impl Lt {
    pub(super) fn new(cublas: Cublas) -> Result<Self, DeviceError> {
        let mut handle = null_mut();
        // SAFETY: a place for a handle.
        check("cublasLtCreate", unsafe { (cublas.cublasLtCreate)(&raw mut handle) })?;
        Ok(Self { cublas, handle })
    }

    pub(super) fn cublas(&self) -> &Cublas {
        &self.cublas
    }
}

impl Drop for Lt {
    fn drop(&mut self) {
        // SAFETY: this handle's only owner.
        unsafe { (self.cublas.cublasLtDestroy)(self.handle) };
    }
}

/// `y = x w^T` for so many rows of `x`, described to cuBLASLt. It sees columns first: W is its A, transposed, `[k, n]`;
/// X its B, `[k, rows]`; Y its C and D, `[n, rows]`.
pub(super) struct Problem {
    lt: Arc<Lt>,
    rows: usize,
    desc: MatmulDesc,
    w: MatrixLayout,
    x: MatrixLayout,
    y: MatrixLayout,
}

// SAFETY: descriptions in host memory that one thread at a time uses.
unsafe impl Send for Problem {}

/// Where the matrices of a problem and cuBLASLt's workspace are.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub(super) w: *const u16,
    pub(super) x: *const u16,
    pub(super) y: *mut f32,
    pub(super) workspace: *mut u8,
    pub(super) workspace_bytes: usize,
}

impl Problem {
    pub(super) fn new(lt: &Arc<Lt>, shape: Shape, rows: usize) -> Result<Self, DeviceError> {
        let Shape { input, n, k } = shape;
        // From here on a failure drops what was made.
        let mut problem =
            Self { lt: lt.clone(), rows, desc: null_mut(), w: null_mut(), x: null_mut(), y: null_mut() };
        let cublas = &lt.cublas;
        let place = &raw mut problem.desc;
        // SAFETY: a place for a handle.
        let code = unsafe { (cublas.cublasLtMatmulDescCreate)(place, ComputeType::C_32F, DataType::R_32F) };
        check("cublasLtMatmulDescCreate", code)?;
        for (which, operation) in
            [(MatmulDescAttribute::TRANSA, Operation::T), (MatmulDescAttribute::TRANSB, Operation::N)]
        {
            // SAFETY: a live description; the attribute is of this type.
            let code = unsafe {
                (cublas.cublasLtMatmulDescSetAttribute)(
                    problem.desc,
                    which,
                    (&raw const operation).cast::<c_void>(),
                    size_of::<Operation>(),
                )
            };
            check("cublasLtMatmulDescSetAttribute", code)?;
        }
        let layout = |place: *mut MatrixLayout, ty, height: usize, width: usize| {
            // SAFETY: a place for a handle.
            let code = unsafe {
                (cublas.cublasLtMatrixLayoutCreate)(place, ty, height as u64, width as u64, height as i64)
            };
            check("cublasLtMatrixLayoutCreate", code)
        };
        layout(&raw mut problem.w, input.data_type(), k, n)?;
        layout(&raw mut problem.x, input.data_type(), k, rows)?;
        layout(&raw mut problem.y, DataType::R_32F, n, rows)?;
        Ok(problem)
    }

    /// Rows of x and y.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// What the heuristics offer, best first: algorithms that do not split K and need at most so many bytes of workspace.
    pub(super) fn offers(&self, most: usize, workspace_bytes: usize) -> Result<Vec<MatmulAlgo>, DeviceError> {
        let cublas = &self.lt.cublas;
        let preference = Preference::new(&self.lt)?;
        preference.set(MatmulPreferenceAttribute::MAX_WORKSPACE_BYTES, &(workspace_bytes as u64))?;
        preference.set(MatmulPreferenceAttribute::REDUCTION_SCHEME_MASK, &0u32)?;
        for which in [
            MatmulPreferenceAttribute::MIN_ALIGNMENT_A_BYTES,
            MatmulPreferenceAttribute::MIN_ALIGNMENT_B_BYTES,
            MatmulPreferenceAttribute::MIN_ALIGNMENT_C_BYTES,
            MatmulPreferenceAttribute::MIN_ALIGNMENT_D_BYTES,
        ] {
            preference.set(which, &(ALIGNMENT as u32))?;
        }
        let mut results = vec![MatmulHeuristicResult::default(); most];
        let mut count = 0;
        // SAFETY: live handles, and places for `most` answers and for their number.
        let code = unsafe {
            (cublas.cublasLtMatmulAlgoGetHeuristic)(
                self.lt.handle,
                self.desc,
                self.w,
                self.x,
                self.y,
                self.y,
                preference.handle,
                most as i32,
                results.as_mut_ptr(),
                &raw mut count,
            )
        };
        if code == Status::NOT_SUPPORTED {
            return Ok(Vec::new()); // its way to offer nothing
        }
        check("cublasLtMatmulAlgoGetHeuristic", code)?;
        results.truncate(count.max(0) as usize);
        let valid = results.iter().filter(|result| result.state == Status::SUCCESS);
        Ok(valid.map(|result| result.algo).filter(|algo| !self.splits(algo)).collect())
    }

    /// Whether an algorithm sums parts of K apart, or does not say.
    fn splits(&self, algo: &MatmulAlgo) -> bool {
        let read = |which| {
            let (mut value, mut written) = (0u32, 0);
            // SAFETY: an algorithm, places for the value and for its size.
            let code = unsafe {
                (self.lt.cublas.cublasLtMatmulAlgoConfigGetAttribute)(
                    algo,
                    which,
                    (&raw mut value).cast::<c_void>(),
                    size_of::<u32>(),
                    &raw mut written,
                )
            };
            (code == Status::SUCCESS && written == size_of::<u32>()).then_some(value)
        };
        // Zero parts is how some algorithms say that they know no parts.
        !matches!(read(AlgoConfigAttribute::SPLITK_NUM), Some(0 | 1))
            || read(AlgoConfigAttribute::REDUCTION_SCHEME) != Some(0)
    }

    /// Puts the product on the stream.
    ///
    /// # Safety
    /// The operands are matrices of this problem in device memory, aligned, and stay until the stream is done with them;
    /// the algorithm was offered for this problem and so much workspace.
    pub(super) unsafe fn run(
        &self,
        algo: &MatmulAlgo,
        operands: &Operands,
        stream: Stream,
    ) -> Result<(), Status> {
        let (one, zero) = (1f32, 0f32);
        // SAFETY: alpha and beta are of the description's type, on the host, and read before the call returns; the rest
        // is the caller's promise.
        let code = unsafe {
            (self.lt.cublas.cublasLtMatmul)(
                self.lt.handle,
                self.desc,
                (&raw const one).cast::<c_void>(),
                operands.w.cast::<c_void>(),
                self.w,
                operands.x.cast::<c_void>(),
                self.x,
                (&raw const zero).cast::<c_void>(),
                operands.y.cast::<c_void>(),
                self.y,
                operands.y.cast::<c_void>(),
                self.y,
                algo,
                operands.workspace.cast::<c_void>(),
                operands.workspace_bytes,
                stream,
            )
        };
        if code == Status::SUCCESS { Ok(()) } else { Err(code) }
    }
}

impl Drop for Problem {
    fn drop(&mut self) {
        let cublas = &self.lt.cublas;
        for layout in [self.w, self.x, self.y].into_iter().filter(|layout| !layout.is_null()) {
            // SAFETY: this handle's only owner.
            unsafe { (cublas.cublasLtMatrixLayoutDestroy)(layout) };
        }
        if !self.desc.is_null() {
            // SAFETY: as above.
            unsafe { (cublas.cublasLtMatmulDescDestroy)(self.desc) };
        }
    }
}

/// What the heuristics are to prefer.
struct Preference<'l> {
    lt: &'l Lt,
    handle: MatmulPreference,
}

impl<'l> Preference<'l> {
    fn new(lt: &'l Lt) -> Result<Self, DeviceError> {
        let mut handle = null_mut();
        // SAFETY: a place for a handle.
        let code = unsafe { (lt.cublas.cublasLtMatmulPreferenceCreate)(&raw mut handle) };
        check("cublasLtMatmulPreferenceCreate", code)?;
        Ok(Self { lt, handle })
    }

    fn set<V: Copy>(&self, which: MatmulPreferenceAttribute, value: &V) -> Result<(), DeviceError> {
        let place = std::ptr::from_ref(value).cast::<c_void>();
        // SAFETY: a live handle, and a value of the size that is said.
        let code = unsafe {
            (self.lt.cublas.cublasLtMatmulPreferenceSetAttribute)(self.handle, which, place, size_of::<V>())
        };
        check("cublasLtMatmulPreferenceSetAttribute", code)
    }
}

impl Drop for Preference<'_> {
    fn drop(&mut self) {
        // SAFETY: this handle's only owner.
        unsafe { (self.lt.cublas.cublasLtMatmulPreferenceDestroy)(self.handle) };
    }
}

pub(super) fn check(call: &str, status: Status) -> Result<(), DeviceError> {
    if status == Status::SUCCESS {
        return Ok(());
    }
    Err(DeviceError::Library { call: call.to_owned(), error: status.to_string() })
}
