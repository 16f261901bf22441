//! The libraries' types: handles, codes, attributes, as the public headers of CUDA 12 and 13 lay them out.

use std::ffi::{c_float, c_int, c_void};
use std::fmt;

/// `cublasHandle_t`.
pub type Handle = *mut c_void;
/// `cublasLtHandle_t`.
pub type LtHandle = *mut c_void;
/// `cudaStream_t`, which is the driver's `CUstream`.
pub type Stream = *mut c_void;
/// `cublasLtMatmulDesc_t`.
pub type MatmulDesc = *mut c_void;
/// `cublasLtMatrixLayout_t`.
pub type MatrixLayout = *mut c_void;
/// `cublasLtMatmulPreference_t`.
pub type MatmulPreference = *mut c_void;

/// Defines an integer newtype and the values in use.
macro_rules! code {
    ($(#[$about:meta])* $name:ident { $($(#[$meta:meta])* $value:ident = $number:literal,)* }) => {
        $(#[$about])*
        #[repr(transparent)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub c_int);

        impl $name {
            $($(#[$meta])* pub const $value: $name = $name($number);)*
        }
    };
}

code! {
    /// `cublasStatus_t`: what a call answers.
    Status {
        /// Done, or under way on the stream.
        SUCCESS = 0,
        /// The library was not initialised.
        NOT_INITIALIZED = 1,
        /// Host or device memory ran out.
        ALLOC_FAILED = 3,
        /// An argument is invalid.
        INVALID_VALUE = 7,
        /// The device lacks what the call needs.
        ARCH_MISMATCH = 8,
        /// Device memory could not be reached.
        MAPPING_ERROR = 11,
        /// A kernel failed.
        EXECUTION_FAILED = 13,
        /// A fault of the library.
        INTERNAL_ERROR = 14,
        /// The combination of arguments is not supported.
        NOT_SUPPORTED = 15,
        /// A licence is missing.
        LICENSE_ERROR = 16,
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Status::SUCCESS => "SUCCESS",
            Status::NOT_INITIALIZED => "NOT_INITIALIZED",
            Status::ALLOC_FAILED => "ALLOC_FAILED",
            Status::INVALID_VALUE => "INVALID_VALUE",
            Status::ARCH_MISMATCH => "ARCH_MISMATCH",
            Status::MAPPING_ERROR => "MAPPING_ERROR",
            Status::EXECUTION_FAILED => "EXECUTION_FAILED",
            Status::INTERNAL_ERROR => "INTERNAL_ERROR",
            Status::NOT_SUPPORTED => "NOT_SUPPORTED",
            Status::LICENSE_ERROR => "LICENSE_ERROR",
            Status(other) => return write!(f, "CUBLAS_STATUS {other}"),
        };
        write!(f, "CUBLAS_STATUS_{name}")
    }
}

code! {
    /// `cublasOperation_t`.
    Operation {
        /// The matrix as it is.
        N = 0,
        /// Transposed.
        T = 1,
    }
}

code! {
    /// `cudaDataType_t`.
    DataType {
        /// f32.
        R_32F = 0,
        /// f16.
        R_16F = 2,
        /// bf16.
        R_16BF = 14,
    }
}

code! {
    /// `cublasComputeType_t`.
    ComputeType {
        /// Sums in f32.
        C_32F = 68,
        /// Sums in f32 and leaves out tricks that would round otherwise.
        C_32F_PEDANTIC = 69,
    }
}

code! {
    /// `cublasGemmAlgo_t`.
    GemmAlgo {
        /// The library's choice.
        DEFAULT = -1,
    }
}

code! {
    /// `cublasLtMatmulDescAttributes_t`.
    MatmulDescAttribute {
        /// [`ComputeType`].
        COMPUTE_TYPE = 0,
        /// [`DataType`] of alpha and beta.
        SCALE_TYPE = 1,
        /// `i32`: 0 where alpha and beta lie on the host, 1 on the device.
        POINTER_MODE = 2,
        /// [`Operation`] on A.
        TRANSA = 3,
        /// [`Operation`] on B.
        TRANSB = 4,
        /// `u32`: 1 is none, 4 adds a bias.
        EPILOGUE = 7,
        /// Device pointer to the bias.
        BIAS_POINTER = 8,
        /// [`DataType`] of the bias.
        BIAS_DATA_TYPE = 26,
    }
}

code! {
    /// `cublasLtMatrixLayoutAttribute_t`.
    MatrixLayoutAttribute {
        /// [`DataType`], as `u32`.
        TYPE = 0,
        /// `i32`: 0 is column after column, 1 row after row.
        ORDER = 1,
        /// `u64`.
        ROWS = 2,
        /// `u64`.
        COLS = 3,
        /// `i64`: elements from one column (or row) to the next.
        LD = 4,
        /// `i32`.
        BATCH_COUNT = 5,
        /// `i64`: elements from one matrix of a batch to the next.
        STRIDED_BATCH_OFFSET = 6,
    }
}

code! {
    /// `cublasLtMatmulPreferenceAttributes_t`.
    MatmulPreferenceAttribute {
        /// `u64`: bytes of workspace at most; none unless given.
        MAX_WORKSPACE_BYTES = 1,
        /// `u32`: bits of the ways to join a split K that are allowed; 0 allows none, so that K is not split.
        REDUCTION_SCHEME_MASK = 3,
        /// `u32`: bytes that the address of A is a multiple of; 256 unless given.
        MIN_ALIGNMENT_A_BYTES = 5,
        /// The same for B.
        MIN_ALIGNMENT_B_BYTES = 6,
        /// The same for C.
        MIN_ALIGNMENT_C_BYTES = 7,
        /// The same for D.
        MIN_ALIGNMENT_D_BYTES = 8,
    }
}

code! {
    /// `cublasLtMatmulAlgoConfigAttributes_t`.
    AlgoConfigAttribute {
        /// `i32`: which algorithm. Read only.
        ID = 0,
        /// `u32`: tile of the output.
        TILE_ID = 1,
        /// `i32`: parts that K is split into.
        SPLITK_NUM = 2,
        /// `u32`: how the parts are joined.
        REDUCTION_SCHEME = 3,
        /// `u32`: order in which blocks take tiles.
        CTA_SWIZZLING = 4,
        /// `u32`: the algorithm's own option.
        CUSTOM_OPTION = 5,
        /// `u32`: stages of the pipeline.
        STAGES_ID = 6,
        /// `u16`: shape of the innermost product.
        INNER_SHAPE_ID = 7,
        /// `u16`: shape of the thread block cluster.
        CLUSTER_SHAPE_ID = 8,
    }
}

/// `cublasLtMatmulAlgo_t`: an algorithm and its configuration. It may be copied and kept, for the same version of
/// the library.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MatmulAlgo {
    data: [u64; 8],
}

/// `cublasLtMatmulHeuristicResult_t`: one algorithm that the heuristics offer.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MatmulHeuristicResult {
    /// The algorithm.
    pub algo: MatmulAlgo,
    /// Bytes of workspace it needs.
    pub workspace_bytes: usize,
    /// Whether the rest is valid.
    pub state: Status,
    /// How often the device's multiprocessors are filled; whole numbers leave none idle.
    pub waves: c_float,
    reserved: [c_int; 4],
}

impl Default for MatmulHeuristicResult {
    fn default() -> Self {
        MatmulHeuristicResult {
            algo: MatmulAlgo::default(),
            workspace_bytes: 0,
            state: Status::NOT_INITIALIZED,
            waves: 0.0,
            reserved: [0; 4],
        }
    }
}

// The library writes these as its own structs.
const _: () = assert!(size_of::<MatmulAlgo>() == 64 && size_of::<MatmulHeuristicResult>() == 96);
