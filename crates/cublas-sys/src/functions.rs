//! The functions, with the signatures of the public headers.

use std::ffi::{c_char, c_int, c_void};
use std::path::{Path, PathBuf};

use crate::library::{Libraries, LoadError};
use crate::types::*;

/// Defines [`Cublas`] and how its fields are filled: `library: name(types) -> type;`.
macro_rules! functions {
    ($($(#[$meta:meta])* $library:ident: $name:ident($($type:ty),*) -> $result:ty;)*) => {
        /// cuBLAS and cuBLASLt, open for the rest of the process. Each field is the C function of that name, and
        /// calling it is as unsafe as calling C.
        // C's own names, since these are C's own functions.
        #[allow(non_snake_case)]
        #[derive(Debug)]
        pub struct Cublas {
            path: PathBuf,
            $($(#[$meta])* pub $name: unsafe extern "C" fn($($type),*) -> $result,)*
        }

        impl Cublas {
            fn resolve(libraries: &Libraries) -> Result<Cublas, LoadError> {
                Ok(Cublas {
                    path: libraries.path().to_owned(),
                    // SAFETY: the signatures are those of the public headers of CUDA 12 and 13.
                    $($name: unsafe { libraries.$library(stringify!($name))? },)*
                })
            }
        }
    };
}

impl Cublas {
    /// Opens cuBLAS: what [`LIBRARY_VARIABLE`](crate::LIBRARY_VARIABLE) names where it is set, else version 13, else
    /// version 12, from where the system's loader finds libraries.
    ///
    /// # Errors
    /// [`LoadError`]: nothing could be opened, or what was opened is not a cuBLAS of these versions.
    pub fn load() -> Result<Cublas, LoadError> {
        let cublas = Cublas::resolve(&Libraries::open()?)?;
        match cublas.version() {
            (12.., _, _) => Ok(cublas),
            (major, minor, patch) => {
                Err(LoadError::TooOld { path: cublas.path, version: format!("{major}.{minor}.{patch}") })
            }
        }
    }

    /// What was opened: a path, or a name that the system's loader resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Version of cuBLASLt: major, minor, patch.
    pub fn version(&self) -> (usize, usize, usize) {
        // SAFETY: it takes nothing and may be called at any time.
        let version = unsafe { (self.cublasLtGetVersion)() };
        (version / 10_000, version / 100 % 100, version % 100)
    }
}

functions! {
    /// Makes a handle for the current context.
    blas: cublasCreate_v2(*mut Handle) -> Status;
    /// Frees a handle; waits for the device.
    blas: cublasDestroy_v2(Handle) -> Status;
    /// Later calls with the handle go to this stream.
    blas: cublasSetStream_v2(Handle, Stream) -> Status;
    /// The version, as major * 10000 + minor * 100 + patch.
    blas: cublasGetVersion_v2(Handle, *mut c_int) -> Status;
    /// C = alpha op(A) op(B) + beta C: operations on A and B; m, n, k; alpha; A, its type and leading dimension; B
    /// the same; beta; C the same; compute type; algorithm.
    blas: cublasGemmEx(
        Handle, Operation, Operation, c_int, c_int, c_int, *const c_void, *const c_void, DataType, c_int,
        *const c_void, DataType, c_int, *const c_void, *mut c_void, DataType, c_int, ComputeType, GemmAlgo
    ) -> Status;
    /// A description of a status.
    blas: cublasGetStatusString(Status) -> *const c_char;

    /// Makes a handle for the current context.
    lt: cublasLtCreate(*mut LtHandle) -> Status;
    /// Frees a handle.
    lt: cublasLtDestroy(LtHandle) -> Status;
    /// The version, as major * 10000 + minor * 100 + patch.
    lt: cublasLtGetVersion() -> usize;
    /// Makes a description of a product: compute type, type of alpha and beta.
    lt: cublasLtMatmulDescCreate(*mut MatmulDesc, ComputeType, DataType) -> Status;
    /// Frees it.
    lt: cublasLtMatmulDescDestroy(MatmulDesc) -> Status;
    /// Sets an attribute from so many bytes.
    lt: cublasLtMatmulDescSetAttribute(MatmulDesc, MatmulDescAttribute, *const c_void, usize) -> Status;
    /// Makes the layout of a matrix: type, rows, columns, leading dimension.
    lt: cublasLtMatrixLayoutCreate(*mut MatrixLayout, DataType, u64, u64, i64) -> Status;
    /// Frees it.
    lt: cublasLtMatrixLayoutDestroy(MatrixLayout) -> Status;
    /// Sets an attribute from so many bytes.
    lt: cublasLtMatrixLayoutSetAttribute(MatrixLayout, MatrixLayoutAttribute, *const c_void, usize) -> Status;
    /// Makes what the heuristics should prefer.
    lt: cublasLtMatmulPreferenceCreate(*mut MatmulPreference) -> Status;
    /// Frees it.
    lt: cublasLtMatmulPreferenceDestroy(MatmulPreference) -> Status;
    /// Sets an attribute from so many bytes.
    lt: cublasLtMatmulPreferenceSetAttribute(
        MatmulPreference, MatmulPreferenceAttribute, *const c_void, usize
    ) -> Status;
    /// Algorithms for a product with layouts of A, B, C and D, best first: how many may be offered, their places,
    /// how many were.
    lt: cublasLtMatmulAlgoGetHeuristic(
        LtHandle, MatmulDesc, MatrixLayout, MatrixLayout, MatrixLayout, MatrixLayout, MatmulPreference, c_int,
        *mut MatmulHeuristicResult, *mut c_int
    ) -> Status;
    /// Reads an attribute of an algorithm into so many bytes; how many were written.
    lt: cublasLtMatmulAlgoConfigGetAttribute(
        *const MatmulAlgo, AlgoConfigAttribute, *mut c_void, usize, *mut usize
    ) -> Status;
    /// Sets an attribute of an algorithm from so many bytes.
    lt: cublasLtMatmulAlgoConfigSetAttribute(*mut MatmulAlgo, AlgoConfigAttribute, *const c_void, usize) -> Status;
    /// D = alpha op(A) op(B) + beta C: alpha; A and its layout; B; beta; C; D; algorithm; workspace and its bytes;
    /// stream.
    lt: cublasLtMatmul(
        LtHandle, MatmulDesc, *const c_void, *const c_void, MatrixLayout, *const c_void, MatrixLayout,
        *const c_void, *const c_void, MatrixLayout, *mut c_void, MatrixLayout, *const MatmulAlgo, *mut c_void,
        usize, Stream
    ) -> Status;
}
