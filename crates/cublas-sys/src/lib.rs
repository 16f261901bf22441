//! The few functions of cuBLAS and cuBLASLt that the worker uses, loaded at run time.
//!
//! The published crate of this name binds the library of 2015 and links it. Here [`Cublas::load`] opens whatever
//! cuBLAS 13 or 12 the machine has, so that a machine without one starts all the same. Integers that C calls enums
//! are newtypes: a later cuBLAS may answer with a value that no list here has.

mod functions;
mod library;
mod types;

pub use functions::Cublas;
pub use library::{LIBRARY_VARIABLE, LoadError};
pub use types::*;
