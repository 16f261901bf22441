//! The kernels: one file an operation family, one PTX image a file.
//!
//! Each is a generic function over a [`cuda_std::Block`], so the same source runs as PTX on a GPU, as SIMD on the host
//! and under the checking team. A kernel is launched through its `pub static`, which names its arguments and its
//! geometry; nobody calls the functions themselves.

#![cfg_attr(target_arch = "nvptx64", no_std)]
#![cfg_attr(target_arch = "nvptx64", feature(abi_ptx))]

pub mod attention;
pub mod broad;
pub(crate) mod chunks;
pub mod compare;
pub mod dequantise;
pub mod draw;
pub mod embed;
pub mod expert_matmul;
pub mod expert_matvec;
pub mod expert_sum;
pub mod expert_swiglu;
pub mod experts;
pub mod flash;
pub mod format;
pub mod gelu;
pub mod kv;
pub mod layer_norm;
pub mod logits;
pub mod logprobs;
pub mod matmul;
pub mod matvec;
pub mod merge;
pub mod norm;
pub mod product;
pub mod prompt;
pub mod prompt_group;
pub mod qmatmul;
pub mod relay;
pub mod residual;
pub mod rope;
pub mod router;
pub mod rows;
pub mod sample;
pub(crate) mod streamed;
pub mod swiglu;
pub(crate) mod tile;
pub mod warpgroup;
