//! The standard library of the kernels: one source, two devices.
//!
//! A kernel is a generic function over a [`Block`], a team of lanes that cooperate. On `nvptx64` a lane is a
//! thread and a block is a thread block. On the host one thread walks the lanes of a block in order and keeps their
//! values in arrays, which the compiler turns into SIMD because neighbouring lanes touch neighbouring elements.
//!
//! What makes the two agree to the last bit:
//! * a reduction's order is part of its contract ([`Team::sum`]) and the same on every team;
//! * a fused multiply-add happens where [`math::mul_add`] is written and nowhere else;
//! * `exp` is this crate's own, and a tensor-core step is computed by an exact model on the host.
//!
//! It takes the place of the published crate of the same name, which targets a compiler of 2021; this one is plain
//! `core` over rustc's own NVPTX backend and a few lines of LLVM IR in `device.ll`.

#![cfg_attr(target_arch = "nvptx64", no_std)]
#![cfg_attr(target_arch = "nvptx64", allow(internal_features))]
#![cfg_attr(target_arch = "nvptx64", feature(stmt_expr_attributes, f16, core_intrinsics))]

mod divisor;
mod half;
mod kernel;
pub mod math;
mod pair;
mod team;
mod view;
mod warp;
mod warp_group;

#[cfg(not(target_arch = "nvptx64"))]
mod check;
#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod host;
#[cfg(not(target_arch = "nvptx64"))]
pub mod tensor_core;

pub use divisor::Divisor;
pub use half::{Bf16, F16};
pub use kernel::Geometry;
#[cfg(not(target_arch = "nvptx64"))]
pub use kernel::{HostEntry, Kernel};
pub use pair::{F16x2, Integers, Results};
pub use team::{Block, RELAY, Scratch, Source, Team, made, mapped, unrolled};
pub use view::{In, Out, Value};
pub use warp::{Meanwhile, MmaInput, Warp};
pub use warp_group::WarpGroup;

#[cfg(not(target_arch = "nvptx64"))]
pub use check::{CheckBlock, CheckState};
#[cfg(target_arch = "nvptx64")]
pub use device::DeviceBlock;
#[cfg(not(target_arch = "nvptx64"))]
pub use host::{Avx2, Baseline, HostBlock};
